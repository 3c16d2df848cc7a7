//! The agent's side of `core::migration::journal`: one small file per migration and role, written whole and fsynced.
//!
//! `journal/<migration>.source.json` and `journal/<migration>.target.json`. Ground rules: a step that asks for it is on
//! disk before its effects begin; what cannot be read is reported by name and never guessed at; an ended migration's file
//! is a tombstone and stays for `TOMBSTONES_MAX` migrations.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use whimbrel_api::agent::{ReceiveAsk, SendAsk};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::MigrationId,
    instance::{InstanceSpec, MovedAs},
    migration::journal::Entry,
    receipt::Receipt,
};
use whimbrel_daemon::durable;

use crate::fault;

pub const ENTRY_BYTES_MAX: u64 = 1 << 20;
pub const TOMBSTONES_MAX: usize = 4096;

const SOURCE: &str = "source.json";
const TARGET: &str = "target.json";

/// What a source must know again after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourcePayload {
    pub ask: SendAsk,
    pub moved_as: MovedAs,
    pub receipt: Option<Receipt>,
}

/// What a target must know again after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetPayload {
    pub ask: ReceiveAsk,
    pub moved_as: MovedAs,
    /// The source's retained copy here was taken into `incoming/` for this migration.
    pub took_retained: bool,
    /// The spec as the files are here, once they were accepted.
    pub spec: Option<InstanceSpec>,
}

pub type SourceEntry = Entry<Option<SourcePayload>>;
pub type TargetEntry = Entry<Option<TargetPayload>>;

#[derive(Clone, Debug)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    pub fn new(dir: &Path) -> Self {
        Journal { dir: dir.to_owned() }
    }

    pub async fn save_source(&self, entry: &SourceEntry) -> Result<(), Failure> {
        self.save(entry.migration, SOURCE, entry).await
    }

    pub async fn save_target(&self, entry: &TargetEntry) -> Result<(), Failure> {
        self.save(entry.migration, TARGET, entry).await
    }

    pub async fn sources(&self) -> Result<Vec<SourceEntry>, Failure> {
        self.load_all(SOURCE).await
    }

    pub async fn targets(&self) -> Result<Vec<TargetEntry>, Failure> {
        self.load_all(TARGET).await
    }

    /// What is on disk of one migration, whatever the last write said.
    pub async fn source(&self, migration: MigrationId) -> Result<SourceEntry, Failure> {
        self.load_one(migration, SOURCE).await
    }

    pub async fn target(&self, migration: MigrationId) -> Result<TargetEntry, Failure> {
        self.load_one(migration, TARGET).await
    }

    async fn load_one<P>(&self, migration: MigrationId, role: &str) -> Result<Entry<P>, Failure>
    where
        P: DeserializeOwned + Send + 'static,
    {
        let path = self.dir.join(format!("{migration}.{role}"));
        fault::blocking(move || load(&path)).await
    }

    /// Of a migration so old that nobody asks for it any more.
    pub async fn forget(&self, migration: MigrationId) -> Result<(), Failure> {
        for role in [SOURCE, TARGET] {
            let path = self.dir.join(format!("{migration}.{role}"));
            let removed = tokio::task::spawn_blocking({
                let path = path.clone();
                move || durable::remove(&path)
            });
            let removed = removed.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            removed.map_err(|error| unwritable(&path, &error))?;
        }
        Ok(())
    }

    async fn save<P: Serialize>(&self, migration: MigrationId, role: &str, entry: &Entry<P>) -> Result<(), Failure> {
        let path = self.dir.join(format!("{migration}.{role}"));
        let bytes = serde_json::to_vec_pretty(entry).map_err(|error| unwritable(&path, &error))?;
        durable::write_async(path.clone(), bytes).await.map_err(|error| unwritable(&path, &error))
    }

    async fn load_all<P: DeserializeOwned + Send + 'static>(
        &self,
        role: &'static str,
    ) -> Result<Vec<Entry<P>>, Failure> {
        let dir = self.dir.clone();
        let load = move || load_dir(&dir, role);
        tokio::task::spawn_blocking(load)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, format!("the journal's reader died: {error}")))?
    }
}

fn load_dir<P: DeserializeOwned>(dir: &Path, role: &str) -> Result<Vec<Entry<P>>, Failure> {
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for file in fs_err::read_dir(dir).map_err(|error| unreadable(dir, &error))? {
        let path = file.map_err(|error| unreadable(dir, &error))?.path();
        if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.ends_with(role) && !name.starts_with('.'))
        {
            let changed =
                fs_err::metadata(&path).and_then(|meta| meta.modified()).map_err(|error| unreadable(&path, &error))?;
            files.push((changed, path));
        }
    }
    files.sort();
    files.into_iter().map(|(_, path)| load(&path)).collect()
}

fn load<P: DeserializeOwned>(path: &Path) -> Result<Entry<P>, Failure> {
    let bytes = durable::read(path, ENTRY_BYTES_MAX)
        .map_err(|error| unreadable(path, &error))?
        .ok_or_else(|| unreadable(path, &"it is gone"))?;
    let entry: Entry<P> = serde_json::from_slice(&bytes).map_err(|error| unreadable(path, &error))?;
    entry.check_version().map_err(|error| unreadable(path, &error))?;
    Ok(entry)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Internal, format!("cannot read the journal {}: {error}", path.display()))
        .hint("keep the file: it says who owns a guest; a newer release of whimbrel may read it")
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureCode::Internal, format!("cannot write the journal {}: {error}", path.display()))
        .hint("check the space and the permissions of the state directory")
}
