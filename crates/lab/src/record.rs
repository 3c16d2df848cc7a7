//! The lab's record: every thing that it made, written down *before* it is made.
//!
//! A thing in the record may therefore not exist (yet); a thing that exists is always in the record. Taking down goes by
//! this file alone, which makes a crash at any point harmless. Its own folder is not in it: the record lies beside.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{lab::Site, process::ProcessId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Made {
    Dir(PathBuf),
    /// A file system over one of the folders.
    Mount(PathBuf),
    Namespace(String),
    /// In the root namespace.
    Link(String),
    /// Also found by the namespace it runs in, since its pid is known only once it runs.
    Process {
        what: String,
        id: ProcessId,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Pids and namespaces of another boot are no longer ours.
    pub(crate) boot_id: String,
    /// A lab of one command goes with that command; `None` for one that stays until `down`.
    pub(crate) owner: Option<ProcessId>,
    pub(crate) made: Vec<Made>,
    /// `None` until the lab is planned.
    pub(crate) site: Option<Site>,
    #[serde(skip)]
    path: PathBuf,
}

impl Record {
    pub(crate) fn new(path: PathBuf, id: String, owner: Option<ProcessId>) -> Result<Record> {
        let record = Record { id, boot_id: boot_id()?, owner, made: Vec::new(), site: None, path };
        record.save()?;
        Ok(record)
    }

    /// `None` if there is no such record.
    pub(crate) fn read(path: &Path) -> Result<Option<Record>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs_err::read_to_string(path)?;
        let mut record: Record = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged; hint: take down by hand what `ip netns list` shows", path.display())
        })?;
        record.path = path.to_owned();
        Ok(Some(record))
    }

    /// To be called before the thing is made.
    pub(crate) fn add(&mut self, made: Made) -> Result<()> {
        if !self.made.contains(&made) {
            self.made.push(made);
        }
        self.save()
    }

    pub(crate) fn forget(&mut self, made: &Made) -> Result<()> {
        self.made.retain(|other| other != made);
        self.save()
    }

    pub(crate) fn save(&self) -> Result<()> {
        let partial = self.path.with_extension("partial");
        let mut file = fs_err::File::create(&partial)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.sync_all()?;
        fs_err::rename(&partial, &self.path)?;
        Ok(())
    }

    pub(crate) fn remove(self) -> Result<()> {
        fs_err::remove_file(&self.path)?;
        Ok(())
    }

    pub(crate) fn of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|now| now == self.boot_id)
    }

    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let dir = |made: &Made| match made {
            Made::Dir(path) => Some(path.clone()),
            Made::Mount(_) | Made::Namespace(_) | Made::Link(_) | Made::Process { .. } => None,
        };
        self.made.iter().filter_map(dir).collect()
    }
}

fn boot_id() -> Result<String> {
    Ok(fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
