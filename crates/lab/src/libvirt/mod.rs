//! The peer of the benchmark: two libvirt daemons on one machine, and `virsh migrate --copy-storage-all` between them.
//!
//! libvirt keeps its state at fixed paths, so each daemon gets a mount namespace in which these paths are folders of its
//! own, beside the network namespace of its host in the lab. Ground rule: the guest, its disks, its network and its link
//! are those that Whimbrel gets.

mod daemon;
mod domain;
mod emulator;
mod migrate;

pub(crate) use daemon::Daemon;
pub(crate) use domain::{Disks, Domain, make_disks};
pub(crate) use migrate::migrate;
