//! The controller as its clients see it: a real one on SQLite, with agents that speak the real protocol over real TLS but
//! whose guests are only told of.
mod cloud;
mod compute_flavors;
mod fake_agent;
mod flavors_and_images;
mod identity;
mod keypairs;
mod moves;
mod place;
mod quotas;
mod refusals;
mod server_groups;
mod servers;
mod trust;
