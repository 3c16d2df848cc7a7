//! Retained copies: the disks that a hand-over left behind, never bootable, good for a cheap way back.
//!
//! Ground rules: named by the epoch that was handed over, since they hold the disks as the new owner took them; taken into
//! `incoming/` and put back by one rename; a copy that lacks a disk is none.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_core::{
    disk::{DiskName, DiskSpec},
    failure::Failure,
    id::{Epoch, InstanceId, MigrationId},
};
use whimbrel_daemon::durable;

use super::{Instances, instance, make};
use crate::{fault, paths::Paths};

/// Stays in the directory wherever it goes, so that the copy can be put back after a restart.
pub(super) const MARK: &str = "retained.json";
pub(super) const README: &str = "README.txt";
const MARK_BYTES_MAX: u64 = 4 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    pub id: InstanceId,
    /// The epoch of the hand-over that left it: owned by another host since.
    pub epoch: Epoch,
    pub dir: PathBuf,
    pub disks: Vec<DiskSpec>,
}

impl Retained {
    pub fn disk(&self, name: &DiskName) -> Option<&DiskSpec> {
        self.disks.iter().find(|disk| disk.name == *name)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) instance: InstanceId,
    pub(super) epoch: Epoch,
}

/// A directory of `retired/`, whether or not all is in it.
pub(super) struct RetiredDir {
    pub(super) epoch: Epoch,
    pub(super) dir: PathBuf,
}

/// Of one instance, newest first.
pub(super) fn dirs(paths: &Paths, id: InstanceId) -> Result<Vec<RetiredDir>, Failure> {
    let all = paths.retired_all();
    let entries = fs_err::read_dir(&all).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(|error| fault::of_file("read", &all, &error))?;
    let of_this = |entry: &fs_err::DirEntry| {
        let name = entry.file_name();
        let (instance, epoch) = name.to_str()?.split_once('.')?;
        let epoch = Epoch(epoch.parse().ok()?);
        (instance.parse() == Ok(id)).then(|| RetiredDir { epoch, dir: entry.path() })
    };
    let mut dirs: Vec<_> = entries.iter().filter_map(of_this).collect();
    dirs.sort_by_key(|dir| std::cmp::Reverse(dir.epoch));
    Ok(dirs)
}

impl Instances {
    /// The newest whole copy. What cannot be read counts as none: it would only make a move cheaper.
    pub async fn retained(&self, id: InstanceId) -> Option<Retained> {
        let dirs = match dirs(&self.paths, id) {
            Ok(dirs) => dirs,
            Err(failure) => {
                tracing::warn!(instance = %id, %failure, "retained copies cannot be looked for");
                return None;
            }
        };
        dirs.into_iter().find_map(|found| {
            let spec = make::load_spec(&found.dir).ok()?;
            let whole = instance::disk_files(&spec, &found.dir).iter().all(|(_, path, _)| path.is_file());
            whole.then_some(Retained { id, epoch: found.epoch, dir: found.dir, disks: spec.disks })
        })
    }

    /// Into `incoming/<migration>/`, which is empty or not there. `dir` of the answer is the new place.
    pub async fn take_retained(&self, found: &Retained, migration: MigrationId) -> Result<Retained, Failure> {
        let (from, to) = (found.dir.clone(), self.paths.incoming_of(migration));
        let taken = Retained { dir: to.clone(), ..found.clone() };
        let rename = move || durable::rename(&from, &to).map_err(|error| fault::of_file("take", &from, &error));
        fault::blocking(rename).await.map(|()| taken)
    }

    /// Back to where it was; nothing to do if it was not taken.
    pub async fn put_back_retained(&self, id: InstanceId, migration: MigrationId) -> Result<(), Failure> {
        let from = self.paths.incoming_of(migration);
        let mark_path = from.join(MARK);
        let bytes = durable::read_async(mark_path.clone(), MARK_BYTES_MAX).await;
        let Some(bytes) = bytes.map_err(|error| fault::of_file("read", &mark_path, &error))? else { return Ok(()) };
        let mark: Mark =
            serde_json::from_slice(&bytes).map_err(|error| fault::of_file("read", &mark_path, &error.into()))?;
        debug_assert_eq!(mark.instance, id);
        let to = self.paths.retired(mark.instance, mark.epoch);
        fault::blocking(move || durable::rename(&from, &to).map_err(|error| fault::of_file("put back", &from, &error)))
            .await
    }

    pub async fn make_incoming(&self, migration: MigrationId) -> Result<(), Failure> {
        self.paths.make_dir(&self.paths.incoming_of(migration))
    }

    pub async fn drop_incoming(&self, migration: MigrationId) -> Result<(), Failure> {
        self.remove_dir(&self.paths.incoming_of(migration)).await
    }
}
