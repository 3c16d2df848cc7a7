//! The controller: it knows what is wanted, asks the agents for it, and shows what is so.
//!
//! ```text
//! operator --token-->  api   ----> store <---- heartbeat <--certificate-- agent
//!                       |            ^
//!                    migrate         |
//!                    reconcile ------+----asks, by certificate----------> agent
//! ```
//!
//! Ground rules: the decisions are `core`'s and the ownership of guests is the agents'; here wishes are stored before they
//! are carried out, and carried out by asking again until they are so. A controller that dies leaves nothing half-done:
//! the next start goes on from the store. No image or guest data is ever whole in memory, and no guest's data passes here.
mod agents;
mod answer;
mod api;
mod app;
mod auth;
mod books;
pub mod config;
mod config_drive;
mod extract;
mod heartbeat;
mod image;
mod migrate;
mod openstack;
mod placement;
mod places;
mod reconcile;
mod server_view;
mod shared;
mod spec;
mod start;

pub use config::{ControllerConfig, load};
pub use start::{Controller, run};
