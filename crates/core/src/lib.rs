//! The vocabulary of Whimbrel and every decision it takes, pure.
//!
//! Ground rules:
//! - no I/O, no tokio, no clock, no randomness: time and ids come in as values;
//! - every machine has one closed event enum and one total `step`; effects are data;
//! - no wildcard arms on state.
//!
//! Invariants that the machines keep, proved by the explorer in `crates/sim`:
//! - **I1** never two running guests;
//! - **I2** some side can always run the guest;
//! - **I3** every state reaches an end;
//! - **I4** an end leaves no claim, job, file or process behind.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod convergence;
pub mod copy_mode;
pub mod disk;
pub mod estimate;
pub mod failure;
pub mod forecast;
pub mod host;
pub mod id;
pub mod identity;
pub mod image;
pub mod instance;
pub mod lease;
pub mod migration;
pub mod network;
pub mod precheck;
pub mod progress;
pub mod quota;
pub mod receipt;
pub mod schedule;
pub mod server;
