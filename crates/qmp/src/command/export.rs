//! The NBD server inside QEMU and its exports.
//!
//! Below 9.0 a client that leaves an export of an iothread disk aborts QEMU (`version.rs`). Every export must be gone
//! before a source's images are handed over and before a target runs: removal is asked for with
//! `block_export_del` and seen with `wait_no_export`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::command::bitmap::BitmapSource;
use crate::error::Result;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "nbd")]
pub struct NbdExport {
    pub id: String,
    pub node_name: String,
    /// What the client asks for; the node's name where empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub writable: bool,
    /// Offered as `qemu:dirty-bitmap:<name>`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<BitmapSource>,
    /// Offered as `qemu:allocation-depth`.
    #[serde(skip_serializing_if = "is_false")]
    pub allocation_depth: bool,
    /// The export outlives the hand-over of the image; needs `Features::has_allow_inactive`.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_inactive: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportDelMode {
    /// Refused while a client is connected.
    Safe,
    /// Disconnects the clients.
    Hard,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportInfo {
    pub id: String,
    /// `nbd`, `vhost-user-blk`, `fuse` and what comes.
    #[serde(rename = "type")]
    pub kind: String,
    pub node_name: String,
    /// Asked to go, and waiting for its clients.
    #[serde(default)]
    pub shutting_down: bool,
}

impl Qmp {
    /// Starts the process's only NBD server, on a unix socket. 0 connections means no limit.
    pub async fn nbd_server_start(&self, socket: &Path, max_connections: u32) -> Result<()> {
        let address = json!({ "type": "unix", "data": { "path": socket } });
        let arguments = json!({ "addr": address, "max-connections": max_connections });
        self.tell("nbd-server-start", arguments).await
    }

    /// Stops the NBD server with all of its exports; may wait for clients that hang.
    pub async fn nbd_server_stop(&self) -> Result<()> {
        self.tell_slow("nbd-server-stop", Value::Null).await
    }

    /// Adds an export. A writable one activates its node.
    pub async fn block_export_add(&self, export: &NbdExport) -> Result<()> {
        let command = "block-export-add";
        self.tell_slow(command, self.encode(command, export)?).await
    }

    /// Begins the removal of an export; `wait_no_export` sees its end.
    pub async fn block_export_del(&self, id: &str, mode: ExportDelMode) -> Result<()> {
        self.tell_slow("block-export-del", json!({ "id": id, "mode": mode })).await
    }

    pub async fn query_block_exports(&self) -> Result<Vec<ExportInfo>> {
        self.ask("query-block-exports", Value::Null).await
    }
}
