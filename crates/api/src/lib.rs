//! Wire types: what travels between operator, controller and agent, and the typed clients for it.
//!
//! - `native`: the controller's own API, version 1, for the CLI and for programs (OpenAPI in `openapi/`);
//! - `agent`: what the controller asks of an agent and what the agent reports, over mTLS;
//! - `openstack`: OpenStack's APIs, for the tools that speak them;
//! - `problem`: the one error body of our own two (RFC 9457).
//!
//! Ground rules: shapes only, no decisions. An ask says what *should be*, a report says what *is*; both may be repeated.
#![forbid(unsafe_code)]

pub mod agent;
pub mod client;
pub mod native;
pub mod openstack;
pub mod problem;

pub use whimbrel_core::{disk, failure, host, id, instance, progress, receipt};
