//! The controller as its clients see it: a real one on SQLite, with agents that speak the real protocol over real TLS but
//! whose guests are only told of.
mod cloud;
mod compute_flavors;
mod config_drive;
mod fake_agent;
mod flavors_and_images;
mod identity;
mod moves;
mod place;
mod refusals;
mod servers;
mod trust;
