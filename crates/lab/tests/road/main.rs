//! Labs with real namespaces, processes and guests. Needs root. The tests take turns, or they would measure each other.

mod clients;
mod cloud_init;
mod config_drive;
mod crash;
mod faults;
mod ground;
mod harness;
mod memory;
mod moves;
mod refusals;
