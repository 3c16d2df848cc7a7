//! What a running migration tells of itself. Made by the source agent, shown by every client.

use serde::{Deserialize, Serialize};

use crate::disk::DiskName;

/// One look at a running migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Overall, 0 to 1000; never goes backwards within one migration.
    pub permille: u16,
    pub disks: Vec<DiskLane>,
    pub ram: RamLane,
    /// Round of the disk copy, from 0.
    pub round: u32,
    /// Bytes per second on the wire now.
    pub rate_bps: u64,
    /// Bytes per second that the guest makes dirty again, on all disks.
    pub dirty_bps: u64,
    /// Time left, at best and at worst; `None` while nothing can be said.
    pub remaining_ms: Option<(u64, u64)>,
    pub limiter: Limiter,
    pub elapsed_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLane {
    pub name: DiskName,
    /// Bytes of this disk's rounds so far: those shipped or found unneeded, and those known to be due.
    pub done_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamLane {
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub passes: u64,
}

/// What holds the copy back most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limiter {
    #[default]
    Unknown,
    SourceRead,
    Link,
    TargetWrite,
    /// The guest dirties disks or RAM nearly as fast as they travel.
    GuestWrites,
}
