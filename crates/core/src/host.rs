//! What an agent says of its host: all that scheduler, prechecks and forecast may know of it.
//!
//! The agent fills in what it can see. `memory_mb_used` and `disk_committed_bytes` are sums over instances *and* over
//! reservations of running migrations; the controller overrides them with its own books, which are never behind.

use serde::{Deserialize, Serialize};

use crate::id::{HostName, ImageDigest};

pub const RAM_ALLOCATION_RATIO: f64 = 1.0;
pub const RESERVED_MEMORY_MB: u64 = 512;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    pub name: HostName,
    /// As QEMU says it: `7.2.22`, `10.0.2`.
    pub qemu_version: String,
    /// Versioned machine types that this QEMU knows.
    pub machines: Vec<String>,
    /// CPU models that this QEMU can give to a guest on this host.
    pub cpu_models: Vec<String>,
    /// `kvm` or `tcg`.
    pub accel: String,
    pub vcpus: u32,
    pub memory_mb: u64,
    /// Held by instances and reservations.
    pub memory_mb_used: u64,
    pub reserved_memory_mb: u64,
    pub ram_allocation_ratio: f64,
    /// Of the file system that holds the instances.
    pub disk_total_bytes: u64,
    pub disk_free_bytes: u64,
    /// What the instances here (and reservations) may still grow by: sum of virtual less allocated bytes.
    pub disk_committed_bytes: u64,
    pub bridges: Vec<String>,
    /// Base images already here.
    pub images: Vec<ImageDigest>,
    /// `ip:port` of the data listener on the migration network.
    pub migration_address: String,
    /// QEMU >= 9.0: a client may leave an NBD export of an iothread's disk.
    pub iothreads_safe: bool,
    /// Rate of the migration network, if the agent can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bps: Option<u64>,
    /// Rate at which its disks read and write, if measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bps: Option<u64>,
}

impl HostFacts {
    /// Nova's `free_ram_mb`: (memory less the reserve) times the ratio, less what instances hold. May be negative.
    pub fn free_ram_mb(&self) -> i64 {
        let usable = self.memory_mb.saturating_sub(self.reserved_memory_mb);
        let offered = (usable as f64 * self.ram_allocation_ratio) as i64;
        offered.saturating_sub_unsigned(self.memory_mb_used)
    }

    /// Nova's `disk_available_least`: free bytes less what the instances here may still grow by. May be negative.
    pub fn disk_available_least_bytes(&self) -> i64 {
        i64::try_from(self.disk_free_bytes).unwrap_or(i64::MAX).saturating_sub_unsigned(self.disk_committed_bytes)
    }

    pub fn has_image(&self, digest: &ImageDigest) -> bool {
        self.images.contains(digest)
    }
}
