//! The storage daemon: the target's writer of disks that arrive, a process of its own.
//!
//! ```text
//! start:    disks locked, opened, served by NBD on a unix socket
//! release:  exports gone -> nodes gone: the file locks are free, QEMU may open the disks   (a few ms)
//! quit:     process gone, killed by process id as the last resort
//! ```
//!
//! Ground rules: its lock on the files fences the target's QEMU; it never outlives a restart of the agent, since what it
//! wrote is given up by then (`kill_stale`).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use whimbrel_core::{
    disk::{DiskFormat, DiskName},
    failure::{Failure, FailureCode},
};
use whimbrel_daemon::durable;
use whimbrel_qmp::{ExportDelMode, Qmp};

use crate::{
    fault,
    hypervisor::Hypervisor,
    paths,
    process::{self, Detached, Exit, ProcessId, Start},
    vm::spec::{disk_node, disk_nodes, file_node},
};

/// What one QEMU serves, too.
const NBD_CONNECTIONS_MAX: usize = crate::migrate::source::arm::NBD_CONNECTIONS_MAX;
pub const NBD_SOCKET: &str = "nbd.sock";
const CONTROL_SOCKET: &str = "sd.sock";
const PID_FILE: &str = "sd.pid";
const LOG_EXTENSION: &str = "sd.log";
const RECORD_EXTENSION: &str = "sd.json";
const RECORD_BYTES_MAX: u64 = 4 << 10;
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// Exports end when their last request does.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonDisk {
    /// Also the export's name.
    pub name: DiskName,
    pub path: PathBuf,
    pub format: DiskFormat,
    pub writable: bool,
}

#[derive(Debug)]
pub struct StorageDaemon {
    run_dir: PathBuf,
    process: Detached,
    qmp: Qmp,
    disks: Vec<DaemonDisk>,
}

impl StorageDaemon {
    /// Returns when it has opened and locked every disk and serves them.
    pub async fn start(hypervisor: &Hypervisor, run_dir: &Path, disks: &[DaemonDisk]) -> Result<Self, Failure> {
        kill_stale(run_dir).await?;
        paths::make_run_dir(run_dir, hypervisor.user)?;
        let args = args(hypervisor, run_dir, disks);
        let log = run_dir.with_extension(LOG_EXTENSION);
        let unit = format!("whimbrel-storage-{}", run_dir.file_name().unwrap_or_default().to_string_lossy());
        let start =
            Start { program: &hypervisor.storage_daemon, args: &args, user: hypervisor.user, log: &log, unit: &unit };
        let process = Detached::start(&start)?;
        let greeted = match record(run_dir, process.id) {
            Ok(()) => greet(run_dir, &process).await,
            Err(failure) => Err(failure),
        };
        let qmp = match greeted {
            Ok(qmp) => qmp,
            Err(failure) => {
                process.end(Duration::ZERO).await?;
                forget(run_dir);
                return Err(failure);
            }
        };
        Ok(StorageDaemon { run_dir: run_dir.to_owned(), process, qmp, disks: disks.to_vec() })
    }

    pub fn nbd_path(&self) -> PathBuf {
        self.run_dir.join(NBD_SOCKET)
    }

    pub fn pid(&self) -> u32 {
        self.process.id.pid
    }

    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Ends when the process does.
    pub async fn exited(&self) -> Exit {
        self.process.exited().await
    }

    pub fn stderr_tail(&self) -> String {
        self.process.tail()
    }

    /// Flushes and closes every disk and frees its lock; the process stays. Connected clients are cut off.
    pub async fn release(&self) -> Result<(), Failure> {
        let released = async {
            let qmp = self.qmp.within(RELEASE_TIME_MAX);
            for disk in &self.disks {
                match qmp.block_export_del(disk.name.as_str(), ExportDelMode::Hard).await {
                    Ok(()) | Err(whimbrel_qmp::QmpError::Command { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            for disk in &self.disks {
                qmp.wait_no_export(disk.name.as_str(), RELEASE_TIME_MAX).await?;
                qmp.blockdev_del(&disk_node(&disk.name)).await?;
                qmp.blockdev_del(&file_node(&disk.name)).await?;
            }
            Ok(())
        };
        released.await.map_err(|error| {
            let mut failure = fault::of_qmp(&error);
            failure.detail = format!("the storage daemon does not let go of the disks: {}", failure.detail);
            failure
        })
    }

    /// Asks it to end; kills it at the deadline.
    pub async fn quit(&self, deadline: Duration) -> Result<Exit, Failure> {
        if let Err(error) = self.qmp.within(deadline).quit().await {
            tracing::debug!(error = %fault::chain(&error), "the storage daemon did not take `quit`");
        }
        let exit = self.process.end(deadline).await?;
        forget(&self.run_dir);
        Ok(exit)
    }
}

/// Ends the daemon of this run directory, if it still lives, recorded or not.
pub async fn kill_stale(run_dir: &Path) -> Result<(), Failure> {
    let path = run_dir.with_extension(RECORD_EXTENSION);
    let bytes = durable::read(&path, RECORD_BYTES_MAX).map_err(|error| fault::of_file("read", &path, &error))?;
    let Some(bytes) = bytes else { return process::kill_unrecorded(&run_dir.join(PID_FILE)).await };
    match serde_json::from_slice::<ProcessId>(&bytes) {
        Ok(process) => process.kill().await?,
        Err(error) => tracing::warn!(path = %path.display(), %error, "a storage daemon's record cannot be read"),
    }
    forget(run_dir);
    Ok(())
}

/// Every recorded one: at the agent's start, before anything else uses them.
pub async fn kill_all_stale(run_root: &Path) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| fault::of_file("read", run_root, &error);
    for entry in fs_err::read_dir(run_root).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.to_string_lossy().ends_with(RECORD_EXTENSION) {
            kill_stale(&path.with_extension("").with_extension("")).await?;
        }
    }
    Ok(())
}

fn args(hypervisor: &Hypervisor, run_dir: &Path, disks: &[DaemonDisk]) -> Vec<String> {
    let socket = |name: &str| run_dir.join(name).to_string_lossy().replace(',', ",,");
    let mut args = vec!["--pidfile".to_owned(), run_dir.join(PID_FILE).to_string_lossy().into_owned()];
    let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
    for disk in disks {
        let dir = disk.path.parent().unwrap_or(Path::new("/"));
        for mut node in disk_nodes(&disk.name, &disk.path, disk.format, hypervisor.disk_io(dir)) {
            node["read-only"] = (!disk.writable).into();
            option("--blockdev", node.to_string());
        }
    }
    let limit = NBD_CONNECTIONS_MAX;
    option("--nbd-server", format!("addr.type=unix,addr.path={},max-connections={limit}", socket(NBD_SOCKET)));
    for disk in disks {
        let (name, node) = (&disk.name, disk_node(&disk.name));
        let writable = if disk.writable { "on" } else { "off" };
        option("--export", format!("type=nbd,id={name},node-name={node},name={name},writable={writable}"));
    }
    // Last, so that a greeting says that all of the above is done.
    option("--chardev", format!("socket,id=ctl,path={},server=on,wait=off", socket(CONTROL_SOCKET)));
    option("--monitor", "chardev=ctl".to_owned());
    args
}

async fn greet(run_dir: &Path, process: &Detached) -> Result<Qmp, Failure> {
    let died = |exit: Exit| {
        Failure::new(FailureCode::QemuFailed, format!("the storage daemon ended with {exit}: {}", process.tail()))
            .hint("does another process hold the disks?")
    };
    let socket = run_dir.join(CONTROL_SOCKET);
    tokio::select! {
        biased;
        exit = process.exited() => Err(died(exit)),
        greeted = Qmp::connect(&socket, START_TIME_MAX) => greeted.map_err(|error| fault::of_qmp(&error)),
    }
}

fn record(run_dir: &Path, process: ProcessId) -> Result<(), Failure> {
    let path = run_dir.with_extension(RECORD_EXTENSION);
    let bytes = serde_json::to_vec(&process).map_err(|error| fault::internal("cannot write sd.json", &error))?;
    durable::write(&path, &bytes).map_err(|error| fault::of_file("write", &path, &error))
}

fn forget(run_dir: &Path) {
    let removed = [
        fs_err::remove_dir_all(run_dir),
        fs_err::remove_file(run_dir.with_extension(LOG_EXTENSION)),
        fs_err::remove_file(run_dir.with_extension(RECORD_EXTENSION)),
    ];
    for error in removed.into_iter().filter_map(Result::err) {
        if error.kind() != std::io::ErrorKind::NotFound {
            tracing::warn!(%error, "something of a storage daemon stays");
        }
    }
}
