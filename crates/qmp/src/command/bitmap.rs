//! Dirty bitmaps, and transactions over them.
//!
//! A round of the disk copy is one transaction: stop `b(k)`, start `b(k+1)`, merge `b(k)` into a bitmap that can be
//! exported. Done one by one, a write between two of the steps would be in neither bitmap.
//!
//! An enabled bitmap cannot be exported read-only, and one that is exported or under a job is `busy`: it can be
//! neither changed nor removed until the export is gone.

use serde::Serialize;
use serde_json::json;

use crate::client::Qmp;
use crate::error::Result;

/// A bitmap by its node and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct BitmapName {
    pub node: String,
    pub name: String,
}

impl BitmapName {
    pub fn new(node: impl Into<String>, name: impl Into<String>) -> Self {
        Self { node: node.into(), name: name.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BitmapAdd {
    pub node: String,
    pub name: String,
    /// Bytes per bit, a power of two from 512; QEMU's default is 64 KiB, or the cluster size of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<u32>,
    /// Kept in the image over a clean close (qcow2 only).
    pub persistent: bool,
    /// Does not record until it is enabled.
    pub disabled: bool,
}

impl BitmapAdd {
    /// A bitmap that records from now on and lives as long as the process.
    pub fn recording(node: impl Into<String>, name: impl Into<String>, granularity: u32) -> Self {
        let (node, name) = (node.into(), name.into());
        Self { node, name, granularity: Some(granularity), persistent: false, disabled: false }
    }

    /// A bitmap that only receives merges.
    pub fn disabled(node: impl Into<String>, name: impl Into<String>, granularity: u32) -> Self {
        Self { disabled: true, ..Self::recording(node, name, granularity) }
    }
}

/// Where a merge or an export takes a bitmap from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum BitmapSource {
    /// By name, on the node that the command is about.
    Here(String),
    /// On another node.
    Of(BitmapName),
}

/// Ors bitmaps of the same granularity and disk size into `target` of `node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BitmapMerge {
    pub node: String,
    pub target: String,
    pub bitmaps: Vec<BitmapSource>,
}

/// A step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data")]
pub enum TransactionAction {
    #[serde(rename = "block-dirty-bitmap-add")]
    BitmapAdd(BitmapAdd),
    #[serde(rename = "block-dirty-bitmap-remove")]
    BitmapRemove(BitmapName),
    #[serde(rename = "block-dirty-bitmap-enable")]
    BitmapEnable(BitmapName),
    #[serde(rename = "block-dirty-bitmap-disable")]
    BitmapDisable(BitmapName),
    #[serde(rename = "block-dirty-bitmap-clear")]
    BitmapClear(BitmapName),
    #[serde(rename = "block-dirty-bitmap-merge")]
    BitmapMerge(BitmapMerge),
}

impl Qmp {
    /// Does all of the actions at one instant of the guest's writes, or none of them.
    pub async fn transaction(&self, actions: Vec<TransactionAction>) -> Result<()> {
        self.tell_slow("transaction", json!({ "actions": actions })).await
    }

    pub async fn block_dirty_bitmap_add(&self, bitmap: &BitmapAdd) -> Result<()> {
        let command = "block-dirty-bitmap-add";
        self.tell_slow(command, self.encode(command, bitmap)?).await
    }

    pub async fn block_dirty_bitmap_remove(&self, bitmap: &BitmapName) -> Result<()> {
        let command = "block-dirty-bitmap-remove";
        self.tell_slow(command, self.encode(command, bitmap)?).await
    }

    pub async fn block_dirty_bitmap_enable(&self, bitmap: &BitmapName) -> Result<()> {
        let command = "block-dirty-bitmap-enable";
        self.tell(command, self.encode(command, bitmap)?).await
    }

    pub async fn block_dirty_bitmap_disable(&self, bitmap: &BitmapName) -> Result<()> {
        let command = "block-dirty-bitmap-disable";
        self.tell(command, self.encode(command, bitmap)?).await
    }

    pub async fn block_dirty_bitmap_clear(&self, bitmap: &BitmapName) -> Result<()> {
        let command = "block-dirty-bitmap-clear";
        self.tell(command, self.encode(command, bitmap)?).await
    }

    pub async fn block_dirty_bitmap_merge(&self, merge: &BitmapMerge) -> Result<()> {
        let command = "block-dirty-bitmap-merge";
        self.tell_slow(command, self.encode(command, merge)?).await
    }
}
