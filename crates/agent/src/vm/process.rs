//! One QEMU process: started or found again, spoken to, ended.
//!
//! ```text
//! start:  stale sockets away -> spawn -> vm.json -> greeting (or its last words) -> Vm, guest not running (-S)
//! attach: vm.json -> same process? -> greeting -> Vm
//! ```
//!
//! Ground rules: dropping a `Vm` leaves QEMU alone; only `quit` ends it. `start` never lets a guest run.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use whimbrel_core::{
    disk::{DiskFormat, DiskName},
    failure::{Failure, FailureCode},
    id::InstanceId,
    instance::InstanceSpec,
};
use whimbrel_qmp::{EventName, Features, Oob, Qmp};

use super::{
    record::VmRecord,
    spec::{CONSOLE_LOG, CONTROL_SOCKET, CommandLine, OOB_SOCKET, PID_FILE, QEMU_LOG},
};
use crate::{
    fault,
    hypervisor::Hypervisor,
    paths,
    process::{self, Detached, Exit, Start},
};

/// From the start of the process to its greeting; generous, since a loaded host reads QEMU from disk first.
pub const START_TIME_MAX: Duration = Duration::from_secs(30);
/// Between the end of a monitor and that of its process.
const DEATH_TIME_MAX: Duration = Duration::from_millis(500);
/// A QEMU that lives answers at once; one that is stuck in storage does not.
pub const ATTACH_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct StartSpec {
    pub spec: InstanceSpec,
    /// Holds console.log and qemu.log.
    pub dir: PathBuf,
    pub run_dir: PathBuf,
    pub images_dir: PathBuf,
    pub incoming: bool,
    /// Never to run: `spec` is that of a dormant machine.
    pub dormant: bool,
    /// In the order of `spec.disks`.
    pub disks: Vec<(DiskName, PathBuf, DiskFormat)>,
    /// In the order of `spec.nics`; they exist already.
    pub taps: Vec<String>,
}

#[derive(Debug)]
pub struct Vm {
    id: InstanceId,
    run_dir: PathBuf,
    process: Mutex<Detached>,
    qmp: Qmp,
    oob: Oob,
    features: Features,
    taps: Vec<String>,
    dormant: bool,
    /// The guest switched itself off: an end that is no crash.
    switched_off: Arc<AtomicBool>,
}

impl Vm {
    /// Returns when QEMU has greeted; the guest does not run yet. Refused while a recorded QEMU of this instance lives.
    pub async fn start(hypervisor: &Hypervisor, start: StartSpec) -> Result<Vm, Failure> {
        let id = start.spec.id;
        if VmRecord::load(&start.run_dir)?.is_some_and(|record| record.is_alive()) {
            return Err(Failure::new(
                FailureCode::Conflict,
                format!("a QEMU of server {id} runs on this host already"),
            )
            .hint("restart the agent, which looks for it again; if it does not answer, end it by its process id"));
        }
        process::kill_unrecorded(&start.run_dir.join(PID_FILE)).await?;
        forget(&start.run_dir)?;
        paths::make_run_dir(&start.run_dir, hypervisor.user)?;
        paths::make_file(&start.dir.join(CONSOLE_LOG), hypervisor.user)?;
        let args = CommandLine {
            spec: &start.spec,
            accel: hypervisor.accel,
            run_dir: &start.run_dir,
            dir: &start.dir,
            images_dir: &start.images_dir,
            disks: &start.disks,
            disk_io: hypervisor.disk_io(&start.dir),
            taps: &start.taps,
            incoming: start.incoming,
        }
        .args()?;
        let log = start.dir.join(QEMU_LOG);
        let unit = format!("whimbrel-{id}");
        let process = Detached::start(&Start {
            program: &hypervisor.system,
            args: &args,
            user: hypervisor.user,
            log: &log,
            unit: &unit,
        })?;
        let record = VmRecord {
            instance: id,
            process: process.id,
            log,
            log_from: process.log_from(),
            taps: start.taps.clone(),
            dormant: start.dormant,
        };
        let greeted = match record.store(&start.run_dir) {
            Ok(()) => greet(id, &start.run_dir, &process, START_TIME_MAX).await,
            Err(failure) => Err(failure),
        };
        if greeted.is_err() {
            process.end(Duration::ZERO).await?;
            forget(&start.run_dir)?;
        }
        let (qmp, oob, features) = greeted?;
        Ok(Vm::new(record, start.run_dir, process, qmp, oob, features))
    }

    /// The recorded QEMU of this run directory; `None` where there is none or it ended, and what it left is removed. One
    /// that was started and not recorded is killed, and a dormant one: its guest never ran.
    pub async fn attach(run_dir: &Path) -> Result<Option<Vm>, Failure> {
        let Some(record) = VmRecord::load(run_dir)? else {
            process::kill_unrecorded(&run_dir.join(PID_FILE)).await?;
            return Ok(None);
        };
        if record.dormant {
            Vm::kill_recorded(run_dir).await?;
            return Ok(None);
        }
        let found = if record.is_alive() { Detached::find(record.process, &record.log, record.log_from) } else { None };
        let Some(process) = found else {
            forget(run_dir)?;
            return Ok(None);
        };
        let (qmp, oob, features) = greet(record.instance, run_dir, &process, ATTACH_TIME_MAX).await?;
        Ok(Some(Vm::new(record, run_dir.to_owned(), process, qmp, oob, features)))
    }

    fn new(record: VmRecord, run_dir: PathBuf, process: Detached, qmp: Qmp, oob: Oob, features: Features) -> Self {
        let switched_off = Arc::new(AtomicBool::new(false));
        tokio::spawn(watch_shutdown(qmp.clone(), switched_off.clone()));
        let (id, taps, dormant) = (record.instance, record.taps, record.dormant);
        Vm { id, run_dir, process: Mutex::new(process), qmp, oob, features, taps, dormant, switched_off }
    }

    /// Kills the recorded QEMU of this run directory, if it lives; without a word to its monitors, which may be stuck.
    pub async fn kill_recorded(run_dir: &Path) -> Result<(), Failure> {
        if let Some(record) = VmRecord::load(run_dir)?.filter(VmRecord::is_alive) {
            record.process.kill().await?;
        }
        process::kill_unrecorded(&run_dir.join(PID_FILE)).await?;
        forget(run_dir)
    }

    pub fn id(&self) -> InstanceId {
        self.id
    }

    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// The monitor that answers even while the other is stuck.
    pub fn oob(&self) -> &Oob {
        &self.oob
    }

    pub fn features(&self) -> &Features {
        &self.features
    }

    pub fn pid(&self) -> u32 {
        self.process().id.pid
    }

    pub fn qemu_version(&self) -> String {
        self.qmp.version().to_string()
    }

    pub async fn is_running(&self) -> Result<bool, whimbrel_qmp::QmpError> {
        self.qmp.query_status().await.map(|state| state.is_running())
    }

    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// It carries the disks of a guest that is off, and never runs.
    pub fn is_dormant(&self) -> bool {
        self.dormant
    }

    pub fn taps(&self) -> &[String] {
        &self.taps
    }

    fn process(&self) -> Detached {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when the process does.
    pub async fn exited(&self) -> Exit {
        self.process().exited().await
    }

    pub fn has_exited(&self) -> Option<Exit> {
        self.process().has_exited()
    }

    /// The last words of this run on stderr, bounded. On QEMU 7.2 the only place that tells why a load failed.
    pub fn stderr_tail(&self) -> String {
        self.process().tail()
    }

    /// Whether an end was the guest's own switching off, or ours.
    pub fn was_switched_off(&self) -> bool {
        self.switched_off.load(Ordering::SeqCst)
    }

    /// Why it ended, in words, with QEMU's own.
    pub fn death(&self, exit: Exit) -> Failure {
        died(self.id, &self.process(), exit)
    }

    /// Asks QEMU to end; kills it by process id at the deadline. The guest's disks are flushed only by a `quit` that
    /// QEMU answers. Removes sockets and `vm.json`.
    pub async fn quit(&self, deadline: Duration) -> Result<Exit, Failure> {
        let process = self.process();
        self.switched_off.store(true, Ordering::SeqCst);
        let asked = async {
            if let Err(error) = self.qmp.within(deadline).quit().await {
                tracing::debug!(instance = %self.id, error = %fault::chain(&error), "QEMU did not take `quit`");
            }
            process.exited().await
        };
        let exit = match tokio::time::timeout(deadline, asked).await {
            Ok(exit) => exit,
            Err(_) => process.end(Duration::ZERO).await?,
        };
        forget(&self.run_dir)?;
        Ok(exit)
    }

    /// The directory with the logs got another name.
    pub fn moved(&self, dir: &Path) -> Result<(), Failure> {
        let log = dir.join(QEMU_LOG);
        let process = {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            process.moved(&log);
            process.clone()
        };
        let (log_from, taps, dormant) = (process.log_from(), self.taps.clone(), self.dormant);
        VmRecord { instance: self.id, process: process.id, log, log_from, taps, dormant }.store(&self.run_dir)
    }
}

/// Both monitors and the features, or why the process ended before.
async fn greet(
    id: InstanceId,
    run_dir: &Path,
    process: &Detached,
    time_max: Duration,
) -> Result<(Qmp, Oob, Features), Failure> {
    let (control, oob) = (run_dir.join(CONTROL_SOCKET), run_dir.join(OOB_SOCKET));
    let connect = async {
        let qmp = Qmp::connect(&control, time_max).await?;
        let oob = Oob::connect(&oob, time_max).await?;
        let features = features_of(&qmp).await?;
        Ok::<_, whimbrel_qmp::QmpError>((qmp, oob, features))
    };
    let greeted = tokio::select! {
        biased;
        exit = process.exited() => return Err(died(id, process, exit)),
        greeted = connect => greeted,
    };
    let Err(error) = greeted else { return greeted.map_err(|error| fault::of_qmp(&error)) };
    // A monitor that closes is often the first that is seen of a death; its cause says more.
    if let Ok(exit) = tokio::time::timeout(DEATH_TIME_MAX, process.exited()).await {
        return Err(died(id, process, exit));
    }
    let mut failure = fault::of_qmp(&error);
    failure.detail = format!("QEMU of server {id} (process {}) does not answer: {}", process.id.pid, failure.detail);
    Err(failure)
}

fn died(id: InstanceId, process: &Detached, exit: Exit) -> Failure {
    let tail = process.tail();
    let words = if tail.is_empty() { "it said nothing on stderr" } else { &tail };
    Failure::new(FailureCode::QemuFailed, format!("QEMU of server {id} ended with {exit}: {words}"))
}

/// Asked once per build of QEMU: the schema is large and always the same.
async fn features_of(qmp: &Qmp) -> Result<Features, whimbrel_qmp::QmpError> {
    static KNOWN: Mutex<Option<HashMap<String, Features>>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let build = format!("{} {}", qmp.version(), qmp.version().package);
    if let Some(features) = known().as_ref().and_then(|known| known.get(&build)) {
        return Ok(*features);
    }
    let features = qmp.probe_features().await?;
    known().get_or_insert_default().insert(build, features);
    Ok(features)
}

async fn watch_shutdown(qmp: Qmp, switched_off: Arc<AtomicBool>) {
    let mut events = qmp.events();
    drop(qmp);
    loop {
        match events.recv().await {
            // A signal from the host is told by the same event.
            Ok(event) if event.name == EventName::Shutdown && event.data["guest"] == true => {
                switched_off.store(true, Ordering::SeqCst)
            }
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Removes what a QEMU that ended left in its run directory, and its record last.
fn forget(run_dir: &Path) -> Result<(), Failure> {
    match fs_err::remove_dir_all(run_dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault::of_file("remove", run_dir, &error)),
    }
    VmRecord::remove(run_dir)
}
