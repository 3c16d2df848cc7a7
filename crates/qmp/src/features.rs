//! What this QEMU can do, asked of its schema.
//!
//! A version number says little: distributions backport and cut out, and a storage daemon has fewer commands than
//! the emulator of the same version. The schema names every command and every argument, so features are read from
//! it. Its type names are numbers that mean nothing outside of one reply; only the way from a command to its
//! arguments is followed.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use crate::client::Qmp;
use crate::error::Result;

/// Far above the 1172 entries of 10.0; what comes after is not looked at.
const SCHEMA_ENTRIES_MAX: usize = 20_000;

/// The features that the road of a move depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// `blockdev-set-active`: nodes of a stopped target can be activated one by one.
    pub has_blockdev_set_active: bool,
    /// `block-export-add` takes `allow-inactive`: an export may outlive the hand-over of its image.
    pub has_allow_inactive: bool,
    /// `migrate-incoming` takes `exit-on-error`: a failed load leaves a process that can tell why.
    pub has_exit_on_error: bool,
    /// `migrate` takes `channels` instead of a URI.
    pub has_migrate_channels: bool,
    /// `block-job-change`: a mirror can be made write-blocking while it runs.
    pub has_block_job_change: bool,
    /// `blockdev-mirror` takes `target-is-zero`.
    pub has_target_is_zero: bool,
    /// `nbd-server-start` takes `handshake-max-seconds`.
    pub has_nbd_handshake_limit: bool,
    /// `migrate-set-parameters` takes `avail-switchover-bandwidth`.
    pub has_switchover_bandwidth: bool,
    /// `calc-dirty-rate`: the rate at which a guest dirties its memory can be sampled.
    pub has_dirty_rate: bool,
    /// `migrate` exists: this is an emulator, not a storage daemon.
    pub has_migrate: bool,
    /// `yank` exists.
    pub has_yank: bool,
}

impl Features {
    pub fn of(schema: &Schema) -> Self {
        Self {
            has_blockdev_set_active: schema.has_command("blockdev-set-active"),
            has_allow_inactive: schema.has_argument("block-export-add", "allow-inactive"),
            has_exit_on_error: schema.has_argument("migrate-incoming", "exit-on-error"),
            has_migrate_channels: schema.has_argument("migrate", "channels"),
            has_block_job_change: schema.has_command("block-job-change"),
            has_target_is_zero: schema.has_argument("blockdev-mirror", "target-is-zero"),
            has_nbd_handshake_limit: schema.has_argument("nbd-server-start", "handshake-max-seconds"),
            has_switchover_bandwidth: schema.has_argument("migrate-set-parameters", "avail-switchover-bandwidth"),
            has_dirty_rate: schema.has_command("calc-dirty-rate"),
            has_migrate: schema.has_command("migrate"),
            has_yank: schema.has_command("yank"),
        }
    }
}

/// The commands of one QEMU with the names of their arguments.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    commands: HashMap<String, HashSet<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    name: String,
    meta_type: String,
    #[serde(default)]
    arg_type: Option<String>,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    /// Missing in the members of an alternate.
    #[serde(default)]
    name: Option<String>,
}

impl Schema {
    /// Reads the reply of `query-qmp-schema`. An entry of a shape from the future is passed over.
    pub fn parse(reply: Vec<Value>) -> Self {
        if reply.len() > SCHEMA_ENTRIES_MAX {
            tracing::warn!(entries = reply.len(), "the schema is larger than expected and was cut");
        }
        let mut objects = HashMap::new();
        let mut arguments_of = Vec::new();
        for value in reply.into_iter().take(SCHEMA_ENTRIES_MAX) {
            let Ok(entry) = serde_json::from_value::<Entry>(value) else { continue };
            match entry.meta_type.as_str() {
                "command" => arguments_of.push((entry.name, entry.arg_type)),
                "object" => {
                    let names: HashSet<String> = entry.members.into_iter().filter_map(|m| m.name).collect();
                    objects.insert(entry.name, names);
                }
                _ => {}
            }
        }
        let arguments = |type_name: Option<String>| type_name.and_then(|name| objects.get(&name)).cloned();
        let commands = arguments_of.into_iter().map(|(name, of)| (name, arguments(of).unwrap_or_default()));
        Self { commands: commands.collect() }
    }

    pub fn has_command(&self, command: &str) -> bool {
        self.commands.contains_key(command)
    }

    /// Whether `command` takes `argument`, not counting those that depend on the value of another.
    pub fn has_argument(&self, command: &str, argument: &str) -> bool {
        self.commands.get(command).is_some_and(|arguments| arguments.contains(argument))
    }
}

impl Qmp {
    pub async fn query_qmp_schema(&self) -> Result<Schema> {
        self.ask("query-qmp-schema", Value::Null).await.map(Schema::parse)
    }

    /// Asks the schema once (some 50 ms): keep the answer for the life of the process.
    pub async fn probe_features(&self) -> Result<Features> {
        Ok(Features::of(&self.query_qmp_schema().await?))
    }
}
