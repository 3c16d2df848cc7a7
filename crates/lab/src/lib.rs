//! The lab: a controller and some hosts on one machine, to try, test and measure Whimbrel on.
//!
//! Every host is an agent in a network namespace of its own; a fabric namespace holds three bridges (control, migration
//! and guest network), the controller and the guest's peer. The lab starts the `whimbrel` binary as a user would and talks
//! to it through its public API and commands only, so whatever works here works outside of it.
//!
//! ```text
//!  root namespace        fabric                                host h1 (h2, …)
//!  wb-<id> .253 ------- br-ctl .254 = controller ------------ ctl0 .1    agent
//!                       br-mig                  ------tbf---- mig0 .1    agent to agent
//!                       br-guest .254 = peer    ------------- up0 -- br-guest -- taps of guests
//! ```
//!
//! Ground rules: whatever is made is written to the lab's record first and taken down from there, so a crash at any point
//! leaves nothing that the next `down` or `up` would not find; nothing else is ever touched. Waiting is for a level, with a
//! deadline.

pub mod bench;
pub mod binary;
pub mod command;
mod daemons;
mod demo;
mod guest;
pub mod image;
pub mod lab;
mod libvirt;
pub mod net;
pub mod peer;
pub mod process;
mod record;
mod takedown;
mod tool;
pub mod wait;

pub use command::{LabCommand, run};
pub use lab::{HostOptions, Lab, LabOptions};
