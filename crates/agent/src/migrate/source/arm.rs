//! The block side of a move on the source's QEMU: read-only exports of the disks, and the bitmaps that say what is due.
//!
//! ```text
//! arm      nbd-server-start · export of each disk · bitmap turn 0 records
//! turn k   one transaction over all disks: turn k+1 records, turn k stops and is merged into a null-co node of equal size
//!          export of the null-co node shows turn k to the agent (extents), then goes
//! disarm   every export, null-co node and bitmap of ours is gone; nbd-server-stop
//! ```
//!
//! Ground rules: a disk's own export and its connections stay for the whole move (a client that leaves one of an
//! iothread's disk aborts QEMU below 9.0). The bitmap that was armed at the last hand-over keeps recording until the
//! next one: an aborted move so loses nothing of it. `disarm` works from what QEMU has, not from what we remember. A turn's
//! bitmap that is not there or does not record is an error and never "nothing dirty": a last round of nothing would be sealed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use whimbrel_core::{
    disk::DiskName,
    failure::{Failure, FailureCode},
    id::Epoch,
};
use whimbrel_qmp::{Qmp, QmpError};

use super::{copy::DISK_CONNECTIONS, road::of_qmp};
use crate::vm::spec::{DISKS_MAX, disk_node};

/// Every export, node and bitmap of a move on the source begins with this.
pub const OURS: &str = "whimbrel-move-";
/// Connections of all disks, and one for each disk's bitmap.
pub const NBD_CONNECTIONS_MAX: usize = DISKS_MAX * (DISK_CONNECTIONS + 1);
/// Of the bitmap that is armed at a hand-over.
pub const GRANULARITY_BYTES: u32 = 64 << 10;
/// Name of the bitmap on a `null-co` node.
pub const DIRTY_BITMAP: &str = "dirty";
const EXPORT_GONE_TIME_MAX: Duration = Duration::from_secs(5);
const EPOCH_BITMAP: &str = "whimbrel-epoch-";

/// The bitmap that records every change since `epoch` was taken over.
pub fn epoch_bitmap(epoch: Epoch) -> String {
    format!("{EPOCH_BITMAP}{epoch}")
}

pub fn is_epoch_bitmap(name: &str) -> bool {
    name.starts_with(EPOCH_BITMAP)
}

/// NBD export name and id of the bitmap of a disk.
pub fn dirty_export(name: &DiskName) -> String {
    format!("{OURS}dirty-{name}")
}

fn disk_export(name: &DiskName) -> String {
    format!("{OURS}disk-{name}")
}

fn turn_bitmap(turn: u32) -> String {
    format!("{OURS}turn-{turn}")
}

/// A bitmap as `query-named-block-nodes` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    pub node: String,
    pub name: String,
    pub dirty_bytes: u64,
    pub granularity_bytes: u32,
    pub recording: bool,
    pub inconsistent: bool,
}

/// One disk of a move.
#[derive(Clone, Debug)]
pub struct ArmedDisk {
    pub name: DiskName,
    pub virtual_bytes: u64,
    pub granularity_bytes: u32,
    /// Turn of the bitmap that records now.
    turn: u32,
}

/// A disk whose past turn is shown at its dirty export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub disk: usize,
    pub dirty_bytes: u64,
}

/// QEMU with this move's exports and bitmaps.
pub struct Armed {
    qmp: Qmp,
    pub socket: PathBuf,
    pub disks: Vec<ArmedDisk>,
}

impl Armed {
    /// `disks` are (name, virtual bytes, granularity).
    pub async fn arm(qmp: &Qmp, socket: &Path, disks: Vec<(DiskName, u64, u32)>) -> Result<Armed, QmpError> {
        disarm(qmp).await?;
        let mut actions = Vec::new();
        for (name, _, granularity) in &disks {
            actions.push(add_bitmap(&disk_node(name), &turn_bitmap(0), *granularity, false));
        }
        qmp.execute("transaction", json!({"actions": actions})).await?;
        Armed::export(qmp, socket, disks).await
    }

    /// Only the exports, without a bitmap that records: to read the disks of a running guest.
    pub async fn expose(qmp: &Qmp, socket: &Path, disks: Vec<(DiskName, u64, u32)>) -> Result<Armed, QmpError> {
        disarm(qmp).await?;
        Armed::export(qmp, socket, disks).await
    }

    /// Of a move whose disks stay where they are.
    pub fn nothing(qmp: &Qmp, socket: &Path) -> Armed {
        Armed { qmp: qmp.clone(), socket: socket.to_owned(), disks: Vec::new() }
    }

    async fn export(qmp: &Qmp, socket: &Path, disks: Vec<(DiskName, u64, u32)>) -> Result<Armed, QmpError> {
        let address = json!({"type": "unix", "data": {"path": socket}});
        qmp.execute("nbd-server-start", json!({"addr": address, "max-connections": NBD_CONNECTIONS_MAX})).await?;
        for (name, ..) in &disks {
            let export = json!({
                "type": "nbd", "id": disk_export(name), "node-name": disk_node(name), "name": name.as_str(),
                "writable": false, "allocation-depth": true,
            });
            qmp.execute("block-export-add", export).await?;
        }
        let disks = disks
            .into_iter()
            .map(|(name, virtual_bytes, granularity_bytes)| ArmedDisk {
                name,
                virtual_bytes,
                granularity_bytes,
                turn: 0,
            })
            .collect();
        Ok(Armed { qmp: qmp.clone(), socket: socket.to_owned(), disks })
    }

    /// Dirty bytes of the bitmap that records now, for each disk.
    pub async fn dirty_bytes(&self) -> Result<Vec<u64>, Failure> {
        let bitmaps = bitmaps(&self.qmp).await.map_err(of_qmp)?;
        self.disks.iter().map(|disk| dirty_of(&bitmaps, disk)).collect()
    }

    /// Shows what `bitmap` of a disk marks, without touching the turn: for the bitmap of the last hand-over.
    pub async fn show(&mut self, disk: usize, bitmap: &str) -> Result<Shown, QmpError> {
        let (name, size) = (self.disks[disk].name.clone(), self.disks[disk].virtual_bytes);
        let all = bitmaps(&self.qmp).await?;
        let found = all.iter().find(|each| each.node == disk_node(&name) && each.name == bitmap);
        let (dirty_bytes, granularity) =
            found.map_or((0, self.disks[disk].granularity_bytes), |each| (each.dirty_bytes, each.granularity_bytes));
        self.add_null_node(&name, size).await?;
        let actions = merge_actions(&name, bitmap, granularity);
        self.qmp.execute("transaction", json!({"actions": actions})).await?;
        self.export_null_node(&name).await?;
        Ok(Shown { disk, dirty_bytes })
    }

    /// Ends the turn of every disk that has something dirty, in one transaction, and shows it. Commands of all disks are
    /// pipelined: the last turn is a part of the guest's pause.
    pub async fn turn(&mut self) -> Result<Vec<Shown>, Failure> {
        let dirty = self.dirty_bytes().await?;
        let due: Vec<usize> = (0..self.disks.len()).filter(|&at| dirty[at] > 0).collect();
        if !due.is_empty() {
            self.turn_disks(&due).await.map_err(of_qmp)?;
        }
        Ok(due.into_iter().map(|disk| Shown { disk, dirty_bytes: dirty[disk] }).collect())
    }

    async fn turn_disks(&mut self, due: &[usize]) -> Result<(), QmpError> {
        let disks = || due.iter().map(|&at| &self.disks[at]);
        try_join_all(disks().map(|disk| self.add_null_node(&disk.name, disk.virtual_bytes))).await?;
        let mut actions = Vec::new();
        for disk in disks() {
            let (node, past) = (disk_node(&disk.name), turn_bitmap(disk.turn));
            actions.push(add_bitmap(&node, &turn_bitmap(disk.turn + 1), disk.granularity_bytes, false));
            actions.push(json!({"type": "block-dirty-bitmap-disable", "data": {"node": node, "name": past}}));
            actions.extend(merge_actions(&disk.name, &past, disk.granularity_bytes));
        }
        self.qmp.execute("transaction", json!({"actions": actions})).await?;
        let removed =
            try_join_all(disks().map(|disk| remove_bitmap(&self.qmp, disk_node(&disk.name), turn_bitmap(disk.turn))));
        let exported = try_join_all(disks().map(|disk| self.export_null_node(&disk.name)));
        tokio::try_join!(removed, exported)?;
        for &at in due {
            self.disks[at].turn += 1;
        }
        Ok(())
    }

    /// Takes the shown bitmaps away. Their clients are gone by now.
    pub async fn hide(&mut self, shown: &[Shown]) -> Result<(), QmpError> {
        for each in shown {
            let export = dirty_export(&self.disks[each.disk].name);
            delete_export(&self.qmp, &export).await?;
            self.qmp.execute("blockdev-del", json!({"node-name": export})).await?;
        }
        Ok(())
    }

    pub fn disk_export_name(&self, disk: usize) -> &str {
        self.disks[disk].name.as_str()
    }

    async fn add_null_node(&self, name: &DiskName, size: u64) -> Result<(), QmpError> {
        let node = json!({"driver": "null-co", "node-name": dirty_export(name), "size": size, "read-zeroes": true});
        self.qmp.execute("blockdev-add", node).await.map(drop)
    }

    async fn export_null_node(&self, name: &DiskName) -> Result<(), QmpError> {
        let id = dirty_export(name);
        let export = json!({
            "type": "nbd", "id": id, "node-name": id, "name": id, "writable": false, "bitmaps": [DIRTY_BITMAP],
        });
        self.qmp.execute("block-export-add", export).await.map(drop)
    }
}

fn add_bitmap(node: &str, name: &str, granularity: u32, disabled: bool) -> Value {
    json!({"type": "block-dirty-bitmap-add",
           "data": {"node": node, "name": name, "granularity": granularity, "persistent": false, "disabled": disabled}})
}

fn merge_actions(name: &DiskName, bitmap: &str, granularity: u32) -> [Value; 2] {
    let shown = dirty_export(name);
    let merge = json!({"type": "block-dirty-bitmap-merge", "data": {
        "node": shown, "target": DIRTY_BITMAP, "bitmaps": [{"node": disk_node(name), "name": bitmap}],
    }});
    [add_bitmap(&shown, DIRTY_BITMAP, granularity, true), merge]
}

fn dirty_of(bitmaps: &[Bitmap], disk: &ArmedDisk) -> Result<u64, Failure> {
    let (node, name) = (disk_node(&disk.name), turn_bitmap(disk.turn));
    let found = bitmaps.iter().find(|each| each.node == node && each.name == name);
    let why = match found {
        None => "is gone",
        Some(bitmap) if bitmap.inconsistent => "is inconsistent",
        Some(bitmap) if !bitmap.recording => "does not record",
        Some(bitmap) => return Ok(bitmap.dirty_bytes),
    };
    let detail = format!("bitmap {name} of disk {} {why}: what the guest wrote since is not known", disk.name);
    Err(Failure::new(FailureCode::QemuFailed, detail)
        .hint("nothing else may remove bitmaps during a move: move it again"))
}

/// Every dirty bitmap of this QEMU.
pub async fn bitmaps(qmp: &Qmp) -> Result<Vec<Bitmap>, QmpError> {
    let nodes = qmp.execute("query-named-block-nodes", json!({"flat": true})).await?;
    Ok(bitmaps_of(&nodes))
}

fn bitmaps_of(nodes: &Value) -> Vec<Bitmap> {
    let mut found = Vec::new();
    for node in nodes.as_array().into_iter().flatten() {
        let name = node["node-name"].as_str().unwrap_or_default();
        for bitmap in node["dirty-bitmaps"].as_array().into_iter().flatten() {
            found.push(Bitmap {
                node: name.to_owned(),
                name: bitmap["name"].as_str().unwrap_or_default().to_owned(),
                dirty_bytes: bitmap["count"].as_u64().unwrap_or(0),
                granularity_bytes: bitmap["granularity"].as_u64().unwrap_or(0) as u32,
                recording: bitmap["recording"].as_bool().unwrap_or(false),
                inconsistent: bitmap["inconsistent"].as_bool().unwrap_or(false),
            });
        }
    }
    found
}

/// An export that is gone already is as good as deleted; QEMU deletes in the background, so wait for the level.
async fn delete_export(qmp: &Qmp, id: &str) -> Result<(), QmpError> {
    if exports(qmp).await?.iter().any(|each| each == id) {
        qmp.execute("block-export-del", json!({"id": id, "mode": "hard"})).await?;
    }
    let gone = async {
        while exports(qmp).await?.iter().any(|each| each == id) {
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    // An export that stays makes the next `blockdev-del` or `migrate-continue` fail by name; no error of its own is needed.
    tokio::time::timeout(EXPORT_GONE_TIME_MAX, gone).await.unwrap_or(Ok(()))
}

pub async fn exports(qmp: &Qmp) -> Result<Vec<String>, QmpError> {
    let all = qmp.execute("query-block-exports", json!({})).await?;
    Ok(all.as_array().into_iter().flatten().filter_map(|each| each["id"].as_str().map(str::to_owned)).collect())
}

async fn remove_bitmap(qmp: &Qmp, node: String, name: String) -> Result<(), QmpError> {
    qmp.execute("block-dirty-bitmap-remove", json!({"node": node, "name": name})).await.map(drop)
}

/// Takes away all that a move leaves in a QEMU: exports, the NBD server, null-co nodes and the turns' bitmaps.
pub async fn disarm(qmp: &Qmp) -> Result<(), QmpError> {
    let exports = exports(qmp).await?;
    try_join_all(exports.iter().filter(|id| id.starts_with(OURS)).map(|id| delete_export(qmp, id))).await?;
    // "NBD server not running" is the level that we want.
    let _ = qmp.execute("nbd-server-stop", json!({})).await;
    let nodes = qmp.execute("query-named-block-nodes", json!({"flat": true})).await?;
    let ours = |name: &str| name.starts_with(OURS);
    let bitmaps = bitmaps_of(&nodes).into_iter().filter(|bitmap| ours(&bitmap.name) && !ours(&bitmap.node));
    try_join_all(bitmaps.map(|bitmap| remove_bitmap(qmp, bitmap.node, bitmap.name))).await?;
    let names = nodes.as_array().into_iter().flatten().filter_map(|node| node["node-name"].as_str());
    let gone = names.filter(|name| ours(name)).map(|name| qmp.execute("blockdev-del", json!({"node-name": name})));
    try_join_all(gone).await.map(drop)
}
