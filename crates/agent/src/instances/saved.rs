//! What a suspended guest left beside its disks: its memory in one file, and the record of the disks that go with it.
//!
//! ```text
//! suspended.ram.part -> suspended.ram (fsynced) -> suspended.json: saved -> … -> suspended.json: waking -> cont -> both gone
//! ```
//!
//! Ground rules: without its record a memory file is nothing and is swept away; the record names every disk as it was when the
//! memory was saved, and a disk that is another now keeps the guest from being resumed; `waking` is durable before the first
//! instruction, so a memory whose guest may have run since is never used again.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use whimbrel_core::{
    disk::DiskName,
    failure::{Failure, FailureCode},
    id::Epoch,
};
use whimbrel_daemon::durable;

use super::Instance;
use crate::fault;

const RECORD: &str = "suspended.json";
const MEMORY: &str = "suspended.ram";
const MEMORY_PART: &str = "suspended.ram.part";
const RECORD_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    pub(super) phase: Phase,
    pub(super) epoch: Epoch,
    /// That saved it.
    pub(super) qemu_version: String,
    pub(super) memory_bytes: u64,
    /// BLAKE3, hex.
    pub(super) memory_digest: String,
    pub(super) disks: Vec<DiskMark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Saved,
    /// Its guest may have run since.
    Waking,
}

/// By which a disk is known to be untouched: every write to a file changes its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiskMark {
    name: DiskName,
    inode: u64,
    file_bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl DiskMark {
    fn of(name: DiskName, found: &Metadata) -> Self {
        DiskMark {
            name,
            inode: found.ino(),
            file_bytes: found.len(),
            modified_s: found.mtime(),
            modified_ns: found.mtime_nsec(),
        }
    }
}

pub(super) fn memory(dir: &Path) -> PathBuf {
    dir.join(MEMORY)
}

pub(super) fn memory_part(dir: &Path) -> PathBuf {
    dir.join(MEMORY_PART)
}

/// The instance's disks as they are now.
pub(super) fn marks(instance: &Instance) -> Result<Vec<DiskMark>, Failure> {
    let mark = |(name, path, _): (DiskName, PathBuf, _)| {
        let found = fs_err::metadata(&path).map_err(|error| fault::of_file("look at", &path, &error))?;
        Ok(DiskMark::of(name, &found))
    };
    instance.disk_files().into_iter().map(mark).collect()
}

impl Saved {
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(RECORD);
        let bytes = durable::read(&path, RECORD_BYTES_MAX).map_err(|error| fault::of_file("read", &path, &error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::new(FailureCode::Internal, format!("cannot read {}: {error}", path.display()))
                .hint("keep the file: it says which disks the guest's saved memory goes with")
        })
    }

    /// Durable when this returns.
    pub(super) fn store(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(RECORD);
        let bytes =
            serde_json::to_vec_pretty(self).map_err(|error| fault::internal("cannot write suspended.json", &error))?;
        durable::write(&path, &bytes).map_err(|error| fault::of_file("write", &path, &error))
    }

    /// Whether the memory may run on what the disks are now.
    pub(super) fn fits(&self, instance: &Instance, epoch: Epoch) -> Result<(), Failure> {
        let id = instance.id();
        let refuse = |detail: String| {
            Err(Failure::new(FailureCode::Conflict, detail)
                .hint("its memory is kept and cannot be used; a hard reboot starts the guest without it"))
        };
        if self.epoch != epoch {
            return refuse(format!("server {id} was suspended at epoch {} and is owned at {epoch}", self.epoch));
        }
        let now = marks(instance)?;
        let changed = self.disks.iter().find(|saved| !now.contains(saved)).map(|disk| disk.name.to_string());
        match changed {
            Some(name) => refuse(format!("disk {name} of server {id} was changed since the server was suspended")),
            None if now.len() != self.disks.len() => {
                refuse(format!("server {id} has other disks than when it was suspended"))
            }
            None => Ok(()),
        }
    }
}

/// The record first: from then on the memory is nothing.
pub(super) fn forget(dir: &Path) -> Result<(), Failure> {
    for name in [RECORD, MEMORY, MEMORY_PART] {
        let path = dir.join(name);
        durable::remove(&path).map_err(|error| fault::of_file("remove", &path, &error))?;
    }
    Ok(())
}

/// A memory file that nothing speaks for: its agent died while it was written.
pub(super) fn sweep(dir: &Path) -> Result<(), Failure> {
    for name in [MEMORY, MEMORY_PART] {
        let path = dir.join(name);
        match fs_err::remove_file(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed a memory that was not saved to its end"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault::of_file("remove", &path, &error)),
        }
    }
    Ok(())
}
