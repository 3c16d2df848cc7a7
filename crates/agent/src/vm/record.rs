//! What the agent must know of a QEMU to find it again: `<run dir>.vm.json`, beside the directory of its sockets and not in
//! it, where QEMU's own user could rewrite it.
//!
//! Ground rules: written before the process is spoken to, so that an agent that dies at any time finds it; a process is
//! taken for the recorded one only if id, start time and the instance on its command line all agree.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_core::{failure::Failure, id::InstanceId};
use whimbrel_daemon::durable;

use crate::{fault, process::ProcessId};

const EXTENSION: &str = "vm.json";
const RECORD_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    pub instance: InstanceId,
    pub process: ProcessId,
    pub log: PathBuf,
    /// Where this run's words begin in the log.
    pub log_from: u64,
    pub taps: Vec<String>,
    /// Never to run: it carries the disks of a guest that is off.
    #[serde(default)]
    pub dormant: bool,
}

fn path_of(run_dir: &Path) -> PathBuf {
    run_dir.with_extension(EXTENSION)
}

impl VmRecord {
    pub fn store(&self, run_dir: &Path) -> Result<(), Failure> {
        let path = path_of(run_dir);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| fault::internal("cannot write vm.json", &error))?;
        durable::write(&path, &bytes).map_err(|error| fault::of_file("write", &path, &error))
    }

    pub fn load(run_dir: &Path) -> Result<Option<Self>, Failure> {
        let path = path_of(run_dir);
        let bytes = durable::read(&path, RECORD_BYTES_MAX).map_err(|error| fault::of_file("read", &path, &error))?;
        let parse = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes).map_err(|error| fault::of_file("read", &path, &error.into()))
        };
        bytes.map(parse).transpose()
    }

    pub fn remove(run_dir: &Path) -> Result<(), Failure> {
        let path = path_of(run_dir);
        durable::remove(&path).map(drop).map_err(|error| fault::of_file("remove", &path, &error))
    }

    /// Whether the recorded process is still that guest's QEMU.
    pub fn is_alive(&self) -> bool {
        let id = self.instance.to_string();
        self.process.command_line().contains(&id)
    }
}
