//! The controller as its clients see it: a real one on SQLite, with agents that speak the real protocol over real TLS but
//! whose guests are only told of.
mod aggregates;
mod cloud;
mod compute_flavors;
mod compute_servers;
mod config_drive;
mod fake_agent;
mod flavors_and_images;
mod hypervisors;
mod identity;
mod images;
mod keypairs;
mod keystone_server;
mod moves;
mod networks;
mod place;
mod quotas;
mod refusals;
mod server_groups;
mod servers;
mod services;
mod site_keystone;
mod trust;
