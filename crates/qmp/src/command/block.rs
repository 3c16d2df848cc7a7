//! Block nodes: making, removing, activating, throttling and counting them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::error::Result;
use crate::lenient::{count, count_maybe};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockNode {
    #[serde(default)]
    pub node_name: Option<String>,
    #[serde(default, rename = "drv")]
    pub driver: String,
    #[serde(default, rename = "file")]
    pub filename: String,
    #[serde(default, rename = "ro")]
    pub read_only: bool,
    /// Told from 10.0 on.
    #[serde(default)]
    pub active: Option<bool>,
    #[serde(default)]
    pub encrypted: bool,
    #[serde(default)]
    pub cache: NodeCache,
    #[serde(default)]
    pub image: ImageInfo,
    #[serde(default)]
    pub dirty_bitmaps: Vec<DirtyBitmap>,
}

impl BlockNode {
    pub fn bitmap(&self, name: &str) -> Option<&DirtyBitmap> {
        self.dirty_bitmaps.iter().find(|bitmap| bitmap.name.as_deref() == Some(name))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct NodeCache {
    pub writeback: bool,
    pub direct: bool,
    pub no_flush: bool,
}

/// The image behind a node. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ImageInfo {
    pub filename: String,
    pub format: String,
    #[serde(deserialize_with = "count")]
    pub virtual_size: u64,
    #[serde(deserialize_with = "count_maybe")]
    pub actual_size: Option<u64>,
    #[serde(deserialize_with = "count_maybe")]
    pub cluster_size: Option<u64>,
    pub backing_filename: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirtyBitmap {
    #[serde(default)]
    pub name: Option<String>,
    /// Dirty bytes, in whole granules.
    #[serde(default, rename = "count", deserialize_with = "count")]
    pub dirty_bytes: u64,
    #[serde(default, deserialize_with = "count")]
    pub granularity: u64,
    #[serde(default)]
    pub recording: bool,
    #[serde(default)]
    pub busy: bool,
    #[serde(default)]
    pub persistent: bool,
    /// Lost by a crash: can only be removed.
    #[serde(default)]
    pub inconsistent: bool,
}

/// What passed through a guest's disk, or through a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockStats {
    /// The `-drive` name: empty for disks made with `-blockdev`.
    #[serde(default)]
    pub device: Option<String>,
    /// The QOM path of the guest's device.
    #[serde(default)]
    pub qdev: Option<String>,
    #[serde(default)]
    pub node_name: Option<String>,
    #[serde(default)]
    pub stats: BlockCounters,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BlockCounters {
    #[serde(deserialize_with = "count")]
    pub rd_bytes: u64,
    #[serde(deserialize_with = "count")]
    pub wr_bytes: u64,
    #[serde(deserialize_with = "count")]
    pub unmap_bytes: u64,
    #[serde(deserialize_with = "count")]
    pub rd_operations: u64,
    #[serde(deserialize_with = "count")]
    pub wr_operations: u64,
    #[serde(deserialize_with = "count")]
    pub flush_operations: u64,
    #[serde(deserialize_with = "count")]
    pub unmap_operations: u64,
    #[serde(deserialize_with = "count")]
    pub rd_total_time_ns: u64,
    #[serde(deserialize_with = "count")]
    pub wr_total_time_ns: u64,
    #[serde(deserialize_with = "count")]
    pub flush_total_time_ns: u64,
    #[serde(deserialize_with = "count")]
    pub wr_highest_offset: u64,
    #[serde(deserialize_with = "count")]
    pub failed_rd_operations: u64,
    #[serde(deserialize_with = "count")]
    pub failed_wr_operations: u64,
}

/// Limits of one guest disk, by the id of its device. 0 means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IoThrottle {
    pub id: String,
    /// The group whose limits these are; several disks may share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub bps: u64,
    pub bps_rd: u64,
    pub bps_wr: u64,
    pub iops: u64,
    pub iops_rd: u64,
    pub iops_wr: u64,
}

/// Limits of a `throttle-group` object. 0 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ThrottleLimits {
    pub bps_total: u64,
    pub bps_read: u64,
    pub bps_write: u64,
    pub iops_total: u64,
    pub iops_read: u64,
    pub iops_write: u64,
}

impl Qmp {
    /// Opens a node. May block the whole monitor while it connects, so its endpoint must be up before.
    pub async fn blockdev_add(&self, node: Value) -> Result<()> {
        self.tell_slow("blockdev-add", node).await
    }

    pub async fn blockdev_del(&self, node: &str) -> Result<()> {
        self.tell_slow("blockdev-del", json!({ "node-name": node })).await
    }

    /// Takes or gives up a node's image; needs `Features::has_blockdev_set_active`.
    pub async fn blockdev_set_active(&self, node: &str, active: bool) -> Result<()> {
        self.tell_slow("blockdev-set-active", json!({ "node-name": node, "active": active })).await
    }

    pub async fn block_resize(&self, node: &str, size_bytes: u64) -> Result<()> {
        self.tell_slow("block_resize", json!({ "node-name": node, "size": size_bytes })).await
    }

    /// All named nodes, each without the chain below it (which is in the list as nodes of its own).
    pub async fn query_named_block_nodes(&self) -> Result<Vec<BlockNode>> {
        self.ask("query-named-block-nodes", json!({ "flat": true })).await
    }

    /// One entry per guest disk: these count the guest's own I/O.
    pub async fn query_blockstats(&self) -> Result<Vec<BlockStats>> {
        self.ask("query-blockstats", json!({ "query-nodes": false })).await
    }

    /// One entry per node. QEMU counts requests at the guest's disk: of a node only `wr_highest_offset` is kept.
    pub async fn query_blockstats_nodes(&self) -> Result<Vec<BlockStats>> {
        self.ask("query-blockstats", json!({ "query-nodes": true })).await
    }

    pub async fn block_set_io_throttle(&self, throttle: &IoThrottle) -> Result<()> {
        let command = "block_set_io_throttle";
        self.tell(command, self.encode(command, throttle)?).await
    }

    /// Sets the limits of a `throttle-group` object while disks use it.
    pub async fn throttle_group_set(&self, group: &str, limits: &ThrottleLimits) -> Result<()> {
        let value = self.encode("qom-set", limits)?;
        self.qom_set(&format!("/objects/{group}"), "limits", value).await
    }
}
