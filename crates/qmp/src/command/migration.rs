//! The memory's way between two QEMUs.
//!
//! QEMU is no arbiter of ownership: it resumes a source by itself after a failure and says `completed` for bytes that
//! left its socket. With `return-path` on, `completed` means that the target has loaded everything; without it
//! the word means nothing. `completed` also comes shortly before the run state is `postmigrate`, and a `cont` in
//! that gap is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::error::Result;
use crate::lenient::{count, count_maybe};
use crate::open_enum::open_enum;

open_enum! {
    #[derive(Default)]
    pub enum MigrationStatus {
        #[default]
        None = "none",
        Setup = "setup",
        Cancelling = "cancelling",
        Cancelled = "cancelled",
        Active = "active",
        WaitUnplug = "wait-unplug",
        PreSwitchover = "pre-switchover",
        Device = "device",
        PostcopyDevice = "postcopy-device",
        PostcopyActive = "postcopy-active",
        PostcopyPaused = "postcopy-paused",
        PostcopyRecoverSetup = "postcopy-recover-setup",
        PostcopyRecover = "postcopy-recover",
        Completed = "completed",
        Failed = "failed",
        Colo = "colo",
    }
}

impl MigrationStatus {
    /// Nothing more will happen by itself: completed, failed or cancelled.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What `query-migrate` tells. Times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MigrateInfo {
    /// `none` before the first migration of this process.
    pub status: MigrationStatus,
    pub ram: Option<RamInfo>,
    #[serde(deserialize_with = "count_maybe")]
    pub total_time: Option<u64>,
    #[serde(deserialize_with = "count_maybe")]
    pub setup_time: Option<u64>,
    /// QEMU's own figure, without the agents' part.
    #[serde(deserialize_with = "count_maybe")]
    pub downtime: Option<u64>,
    #[serde(deserialize_with = "count_maybe")]
    pub expected_downtime: Option<u64>,
    #[serde(deserialize_with = "count_maybe")]
    pub cpu_throttle_percentage: Option<u64>,
    /// Why this guest cannot move at all; empty is good.
    pub blocked_reasons: Vec<String>,
    pub error_desc: Option<String>,
}

/// Progress of the memory. Sizes are in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RamInfo {
    #[serde(deserialize_with = "count")]
    pub transferred: u64,
    #[serde(deserialize_with = "count")]
    pub remaining: u64,
    #[serde(deserialize_with = "count")]
    pub total: u64,
    /// Pages of one repeated byte.
    #[serde(deserialize_with = "count")]
    pub duplicate: u64,
    /// Pages sent as they are.
    #[serde(deserialize_with = "count")]
    pub normal: u64,
    #[serde(deserialize_with = "count")]
    pub normal_bytes: u64,
    /// Pages per second, as of the last pass.
    #[serde(deserialize_with = "count")]
    pub dirty_pages_rate: u64,
    /// Passes over the memory.
    #[serde(deserialize_with = "count")]
    pub dirty_sync_count: u64,
    #[serde(deserialize_with = "count")]
    pub page_size: u64,
    #[serde(deserialize_with = "count")]
    pub pages_per_second: u64,
    #[serde(deserialize_with = "count")]
    pub multifd_bytes: u64,
    /// Megabits per second, as QEMU measures them.
    pub mbps: f64,
}

impl RamInfo {
    /// Bytes per second that the guest dirties, as of the last pass.
    pub fn dirty_bytes_rate(&self) -> u64 {
        self.dirty_pages_rate.saturating_mul(self.page_size)
    }
}

/// How the guest's addresses are announced on its network. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AnnounceRounds {
    pub initial: u32,
    pub max: u32,
    pub rounds: u32,
    pub step: u32,
}

impl Default for AnnounceRounds {
    /// QEMU's own figures.
    fn default() -> Self {
        Self { initial: 50, max: 550, rounds: 5, step: 100 }
    }
}

/// An estimate of how fast the guest dirties its memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirtyRate {
    /// `unstarted`, `measuring`, `measured`.
    pub status: String,
    /// MiB per second, once measured.
    #[serde(default, rename = "dirty-rate", deserialize_with = "count_maybe")]
    pub mib_per_second: Option<u64>,
}

#[derive(Deserialize)]
struct CapabilityState {
    capability: String,
    state: bool,
}

impl Qmp {
    pub async fn query_migrate(&self) -> Result<MigrateInfo> {
        self.ask("query-migrate", Value::Null).await
    }

    pub async fn query_migrate_capabilities(&self) -> Result<BTreeMap<String, bool>> {
        let list: Vec<CapabilityState> = self.ask("query-migrate-capabilities", Value::Null).await?;
        Ok(list.into_iter().map(|entry| (entry.capability, entry.state)).collect())
    }

    /// Sets all or none; the names that this QEMU knows are those of `query_migrate_capabilities`.
    pub async fn migrate_set_capabilities(&self, capabilities: &[(&str, bool)]) -> Result<()> {
        let list: Vec<Value> = capabilities
            .iter()
            .map(|(capability, state)| json!({ "capability": capability, "state": state }))
            .collect();
        self.tell("migrate-set-capabilities", json!({ "capabilities": list })).await
    }

    /// Sets the named parameters. `max-bandwidth` defaults to 128 MiB/s: always set it.
    pub async fn migrate_set_parameters(&self, parameters: Value) -> Result<()> {
        self.tell("migrate-set-parameters", parameters).await
    }

    pub async fn query_migrate_parameters(&self) -> Result<serde_json::Map<String, Value>> {
        self.ask("query-migrate-parameters", Value::Null).await
    }

    /// Starts the migration; `query_migrate` tells how it goes.
    pub async fn migrate(&self, uri: &str) -> Result<()> {
        self.tell("migrate", json!({ "uri": uri })).await
    }

    /// Listens for the source. `exit_on_error` may be given only with `Features::has_exit_on_error`; without it
    /// a failed load ends the process, and its stderr is all that tells why.
    pub async fn migrate_incoming(&self, uri: &str, exit_on_error: Option<bool>) -> Result<()> {
        let mut arguments = json!({ "uri": uri });
        if let Some(exit) = exit_on_error {
            arguments["exit-on-error"] = Value::Bool(exit);
        }
        self.tell("migrate-incoming", arguments).await
    }

    /// Gives up. QEMU resumes the guest only if it had stopped it itself.
    pub async fn migrate_cancel(&self) -> Result<()> {
        self.tell("migrate_cancel", Value::Null).await
    }

    /// Lets a migration that waits in `state` go on. It must be the state that it waits in.
    pub async fn migrate_continue(&self, state: &MigrationStatus) -> Result<()> {
        self.tell_slow("migrate-continue", json!({ "state": state })).await
    }

    pub async fn announce_self(&self, rounds: AnnounceRounds) -> Result<()> {
        self.tell("announce-self", self.encode("announce-self", &rounds)?).await
    }

    /// Begins to sample the dirty rate of the memory; `query_dirty_rate` has the result after `seconds`.
    pub async fn calc_dirty_rate(&self, seconds: u32) -> Result<()> {
        self.tell("calc-dirty-rate", json!({ "calc-time": seconds })).await
    }

    pub async fn query_dirty_rate(&self) -> Result<DirtyRate> {
        self.ask("query-dirty-rate", Value::Null).await
    }
}
