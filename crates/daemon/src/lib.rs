//! What controller and agent share: config, identity and PKI, TLS, HTTP serving, telemetry, shutdown.
//!
//! Ground rules:
//! - no listener and no connection without mutual TLS 1.3, save the controller's port, where operators come with
//!   tokens and joining hosts with a one-time secret;
//! - a peer is known by the identity in its certificate (`whimbrel://agent/h1`), never by its address or DNS name;
//! - every time, size and count is bounded by a named constant.
pub mod clock;
pub mod config;
pub mod durable;
pub mod open_files;
pub mod pki;
pub mod serve;
pub mod shutdown;
pub mod tcp;
pub mod telemetry;
pub mod tls;
