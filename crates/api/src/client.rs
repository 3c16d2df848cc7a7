//! Typed clients of both APIs.
//!
//! - [`ControllerClient`]: operators (by token) and agents (by certificate) to the controller;
//! - [`OpenStackClient`]: whoever sets a cloud up by its own front door;
//! - [`AgentClient`]: controller to agent;
//! - [`KeystoneClient`]: controller to a site's own Keystone.
//!
//! Ground rules: every call has a deadline and every answer a bound on its size; bulk content streams and ends when it
//! stalls, not when it is large. Every error is a `Failure` (but for Keystone's, which tell whose fault it is): the server's
//! own words where it answered, else what could not be reached, by URL, and what to do.
mod agent;
mod content;
mod controller;
mod keystone;
mod openstack;
mod transport;

pub use agent::AgentClient;
pub use controller::ControllerClient;
pub use keystone::{AskerToken, KeystoneClient, KeystoneError, Word};
pub use openstack::OpenStackClient;
pub use transport::{ANSWER_BYTES_MAX, CALL_TIME_MAX, CONTENT_STALL_MAX, http_client};
