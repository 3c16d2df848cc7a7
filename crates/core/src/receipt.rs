//! The receipt: what a finished migration says of itself. A public contract; also the last line of `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    disk::{CopyMode, DiskName},
    id::{Epoch, HostName, InstanceId, MigrationId},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub migration_id: MigrationId,
    pub server: InstanceId,
    pub source: HostName,
    pub target: HostName,
    /// The epoch that the target owns since this move.
    pub epoch: Epoch,
    pub mode: CopyMode,
    /// From the source agent's acceptance to RUNNING on the target.
    pub total_ms: u64,
    /// From the guest's stop on the source to its cont on the target; where the target cannot say (its agent restarted in
    /// between), to when the source heard of it.
    pub downtime_ms: f64,
    /// Wall time of each phase of the road, in order of the agent's `meter::PHASES`.
    pub phases_ms: BTreeMap<String, f64>,
    pub disks: Vec<DiskReceipt>,
    pub ram: RamReceipt,
    /// Sent by the source's migration interface during the move, all headers included.
    pub wire_bytes: u64,
    pub cpu_seconds: CpuSeconds,
    /// The guest's disk write rate during the copy over its rate before; `None` if it wrote nothing before.
    pub guest_write_ratio: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReceipt {
    pub name: DiskName,
    pub virtual_bytes: u64,
    pub allocated_bytes: u64,
    /// Payload bytes of this disk that travelled, all rounds.
    pub sent_bytes: u64,
    /// Bytes told to the target as zero, without payload.
    pub zero_bytes: u64,
    /// Bytes that did not travel since the target had them (retained copy or base image).
    pub reused_bytes: u64,
    /// Compared with the frozen source after the move: `true` equal, `false` not (or not yet) shown equal.
    pub verified: bool,
    /// BLAKE3 over the chunk digests of the whole disk as frozen on the source; empty until verified.
    pub digest: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamReceipt {
    pub sent_bytes: u64,
    pub rounds: u64,
}

/// Agent, QEMU's share above its idle rate, and storage daemon, of each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuSeconds {
    pub source: f64,
    /// `None` where the target's agent restarted in the middle.
    pub target: Option<f64>,
}
