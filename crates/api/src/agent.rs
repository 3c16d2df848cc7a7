//! What the controller asks of an agent, and what the agent reports. Served on the agent's control address;
//! only a certificate with the controller's role is accepted.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /v1/facts` | | `HostFacts` |
//! | `PUT /v1/instances/{id}` | `InstanceAsk` | `InstanceReport` |
//! | `GET /v1/instances` | | `Vec<InstanceReport>` |
//! | `GET /v1/instances/{id}` | | `InstanceReport` |
//! | `DELETE /v1/instances/{id}` | | 204; its retained copies here go too |
//! | `GET /v1/instances/{id}/console?lines=N` | | `ConsoleOutput` |
//! | `GET /v1/instances/{id}/move-facts` | | `MoveFacts` |
//! | `GET /v1/retained/{id}` | | `RetainedReport` |
//! | `PUT /v1/migrations/{id}/receive` | `ReceiveAsk` | `MigrationReport` |
//! | `PUT /v1/migrations/{id}/send` | `SendAsk` | `MigrationReport` |
//! | `POST /v1/migrations/{id}/cancel` | `GiveUp` | `MigrationReport` (asked of the source) |
//! | `POST /v1/migrations/{id}/discard` | `GiveUp` | `MigrationReport` (asked of the target) |
//! | `POST /v1/migrations/{id}/force` | | `MigrationReport` (asked of the source: switch over now, with any pause) |
//! | `POST /v1/migrations/{id}/relay` | `Relay` | `MigrationReport`: a durable word of the peer, over the control path |
//! | `GET /v1/migrations/{id}` | | `MigrationReport`, 404 if never heard of |

use serde::{Deserialize, Serialize};
use whimbrel_core::{
    disk::{CopyMode, DiskName, Storage},
    failure::Failure,
    host::HostFacts,
    id::{Epoch, HostName, InstanceId, MigrationId},
    instance::{InstanceSpec, PowerState},
    migration::message::{Report, ToSource, ToTarget},
    progress::Progress,
    receipt::Receipt,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    Running,
    /// Its QEMU runs, its CPUs stand still.
    Paused,
    Stopped,
}

/// "Restart it once": done once per number, of which the last is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootAsk {
    /// Rises with each restart that is asked for.
    pub number: u64,
    pub how: RebootHow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebootHow {
    /// By its power button, and by force where it does not react.
    Soft,
    Hard,
}

/// The end of what the guest said on its serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleOutput {
    pub output: String,
}

/// "This instance should exist here, owned at `epoch`, and be `desired`."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAsk {
    pub spec: InstanceSpec,
    /// Refused with `Conflict` unless the agent's journal owns the instance at this epoch, or never knew it and the epoch is the first.
    pub epoch: Epoch,
    pub desired: Desired,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootAsk>,
    /// The host that had it died, with its disks on storage that this host sees too: its place is taken here, at `epoch`,
    /// which is higher than any that it had. Nothing to do where that is so already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<HostName>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    pub id: InstanceId,
    pub name: String,
    /// The epoch owned here; `None` for an instance that this host does not own (any more).
    pub owned_epoch: Option<Epoch>,
    pub power: PowerState,
    /// Migration that this host sends or receives it by.
    pub migration: Option<MigrationId>,
    pub failure: Option<Failure>,
    /// Bytes per second written by the guest to all its disks, over the last seconds.
    pub write_bps: u64,
    pub qemu_version: Option<String>,
    pub qemu_pid: Option<u32>,
}

/// Facts that the plan of a move needs of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveFacts {
    pub id: InstanceId,
    pub epoch: Epoch,
    pub disks: Vec<DiskFacts>,
    pub ram_mb: u64,
    /// Estimated bytes per second of RAM made dirty; `None` if QEMU could not say.
    pub ram_dirty_bps: Option<u64>,
    pub write_bps: u64,
    pub qemu_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    pub name: DiskName,
    pub virtual_bytes: u64,
    /// In the disk's own file.
    pub allocated_bytes: u64,
    /// In the base image below it, which travels as well where the target lacks it.
    pub base_allocated_bytes: u64,
    /// Dirty bytes of the bitmap since the last hand-over; `None` if there is no trusted bitmap.
    pub changed_bytes: Option<u64>,
    /// Epoch at whose hand-over that bitmap was armed.
    pub changed_since: Option<Epoch>,
}

/// What a host retains of an instance that moved away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedReport {
    pub id: InstanceId,
    /// The epoch which this host handed over: the copy holds the disks as they were then.
    pub handed_over_epoch: Option<Epoch>,
    pub disks: Vec<DiskName>,
}

/// "Be ready to receive this instance": asked of the target, before the source is asked to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveAsk {
    pub migration: MigrationId,
    pub spec: InstanceSpec,
    /// The epoch that the target shall own: the source's + 1.
    pub epoch: Epoch,
    pub source: HostName,
    /// 256 random bits, hex; every connection of this migration must show it.
    pub credential: String,
    #[serde(default)]
    pub storage: Storage,
}

/// "This instance should be at `target`": asked of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAsk {
    pub migration: MigrationId,
    pub instance: InstanceId,
    /// The epoch that the target shall own.
    pub epoch: Epoch,
    pub target: HostName,
    /// `IP:port` of the target's data listener on its migration network.
    pub target_address: String,
    pub credential: String,
    pub options: MoveOptions,
    #[serde(default)]
    pub storage: Storage,
}

pub const STREAMS_DEFAULT: u16 = 4;
pub const STREAMS_MAX: u16 = 32;
pub const DOWNTIME_MS_MAX_DEFAULT: u64 = 300;

/// The operator's wishes for a move; every one has a default that suits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MoveOptions {
    /// Data streams, 1 to 32.
    pub streams: u16,
    /// Bytes per second on the wire; `None` for what the link gives.
    pub bandwidth_bps_max: Option<u64>,
    pub downtime_ms_max: u64,
    /// Give up when not switched over by then; `None` for never while there is progress.
    pub deadline_ms: Option<u64>,
    /// The guest's disk writes may be throttled when they outrun the link.
    pub allow_throttle: bool,
    /// QEMU's auto-converge may slow the guest's CPUs when its RAM does not converge.
    pub allow_auto_converge: bool,
    /// Compare the moved disks with the frozen source afterwards.
    pub verify: bool,
}

impl Default for MoveOptions {
    fn default() -> Self {
        MoveOptions {
            streams: STREAMS_DEFAULT,
            bandwidth_bps_max: None,
            downtime_ms_max: DOWNTIME_MS_MAX_DEFAULT,
            deadline_ms: None,
            allow_throttle: true,
            allow_auto_converge: true,
            verify: true,
        }
    }
}

/// "This migration should end without a move." An agent that never heard of it keeps a tombstone for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    pub instance: InstanceId,
    pub epoch: Epoch,
    pub failure: Failure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relay {
    ToSource(ToSource),
    ToTarget(ToTarget),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Source,
    Target,
}

/// Where a side stands, as its journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidePhase {
    /// Target: files made, storage daemon up, listening for this migration.
    Prepared,
    /// Source: preparing or copying, the guest runs here.
    Copying,
    /// The guest is stopped, the last bytes travel.
    Switching,
    /// COMMIT is journaled: the target will run it; the source never resumes.
    Committed,
    /// Target: owned, not yet seen running.
    Owned,
    /// The guest runs on the target; both sides' end.
    Completed,
    Aborting,
    /// Rolled back (source: the guest runs here as before; target: nothing left).
    Aborted,
    /// The target refused after COMMIT and the source took the guest back.
    Reowned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Not asked for, or not yet possible.
    None,
    Running,
    Equal,
    Different,
    /// It could not be finished; the reason is in the log and in `verification_failure`.
    Failed,
    /// A later move of the same server ended it: the disks it compared are in use again.
    Superseded,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationReport {
    pub migration: MigrationId,
    pub instance: InstanceId,
    pub epoch: Epoch,
    pub role: Role,
    /// The machine's own phase, as durable as it needs to be: what the coordinator steps on.
    pub state: Report,
    /// The same in short, for people.
    pub phase: SidePhase,
    pub mode: Option<CopyMode>,
    /// Words for people: what it does now (`round 2 of disks`, `waiting for RAM`).
    pub step: String,
    pub progress: Option<Progress>,
    pub failure: Option<Failure>,
    /// Source only, from `Completed` on; its `verified` and `digest` fields fill in when verification ends.
    pub receipt: Option<Receipt>,
    pub verification: Verification,
    pub verification_failure: Option<String>,
}

/// Agent to controller, every `HEARTBEAT_MS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub facts: HostFacts,
    /// `https://IP:port` of the agent's control listener.
    pub control_url: String,
    pub instances: Vec<InstanceReport>,
}

pub const HEARTBEAT_MS: u64 = 1_000;
