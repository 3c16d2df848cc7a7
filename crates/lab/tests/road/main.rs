//! Labs with real namespaces, processes and guests. Needs root. The tests take turns, or they would measure each other.

mod clients;
mod config_drive;
mod crash;
mod faults;
mod gluster;
mod ground;
mod harness;
mod memory;
mod moves;
mod refusals;
mod shared;
