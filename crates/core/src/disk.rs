//! A disk of an instance, as both sides of a migration must agree on it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::ImageDigest;

pub const DISK_NAME_BYTES_MAX: usize = 16;

/// Name of a disk within its instance: `root`, `ephemeral0`, `swap`. Also names its file, so only `[a-z0-9]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskName(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no disk name: use 1 to {DISK_NAME_BYTES_MAX} of a-z and 0-9")]
pub struct BadDiskName(String);

impl DiskName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for DiskName {
    type Err = BadDiskName;
    fn from_str(text: &str) -> Result<Self, BadDiskName> {
        let good = (1..=DISK_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if good { Ok(DiskName(text.to_owned())) } else { Err(BadDiskName(text.to_owned())) }
    }
}
impl TryFrom<String> for DiskName {
    type Error = BadDiskName;
    fn try_from(text: String) -> Result<Self, BadDiskName> {
        text.parse()
    }
}
impl From<DiskName> for String {
    fn from(name: DiskName) -> String {
        name.0
    }
}
impl fmt::Display for DiskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    Qcow2,
    Raw,
}

impl DiskFormat {
    /// QEMU's block driver of this format.
    pub fn driver(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }
}

/// One disk. Its file is `instances/<uuid>/<name>.<format>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    pub name: DiskName,
    pub format: DiskFormat,
    pub virtual_bytes: u64,
    /// Immutable image below this disk: at creation its overlay's backing file (`images/<digest>`).
    pub base: Option<BaseImage>,
    /// The guest can only read it: a config drive. Its image is its own, so no host keeps that beside the disk.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    pub digest: ImageDigest,
    pub format: DiskFormat,
    /// Size of the image's file.
    pub file_bytes: u64,
}

/// Where a move leaves the disks. Decided once, before it begins, and the same for both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Each host has its own: the disks are copied.
    #[default]
    Local,
    /// Where they are, on files that both hosts see: only RAM moves.
    Shared,
}

impl Storage {
    pub fn is_shared(self) -> bool {
        self == Storage::Shared
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Storage::Local => "local",
            Storage::Shared => "shared",
        }
    }
}

impl FromStr for Storage {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Storage::Local, Storage::Shared]
            .into_iter()
            .find(|storage| storage.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not known"))
    }
}

/// How a disk (or, as the strongest of its disks, a migration) gets its content to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyMode {
    /// Both hosts see the disks: nothing of them travels.
    Shared,
    /// The target has a retained copy and the source a bitmap of what changed since.
    Delta,
    /// The target has some copy; chunk digests say what differs.
    Digest,
    /// The target has nothing, or only the base image.
    Full,
}
