//! A guest put to sleep in a file, and woken from it: on this host, over restarts of the agent and of the host.
//!
//! ```text
//! suspend  room? -> stop -> QEMU's stream -> suspended.ram, fsynced -> record (disks as they are) -> QEMU ends
//! resume   disks untouched? -> QEMU waits for a stream -> file into it, digest compared -> record: waking -> cont -> files gone
//! ```
//!
//! Ground rules: the stream is the one of a move, so every QEMU that may move a guest may suspend it; until the record is
//! durable the guest goes on where it was if anything fails; a resume that fails before `cont` leaves file and record as they
//! were; the last piece of the stream is held back until the whole was compared with its digest, so a damaged memory never runs.

use std::{path::Path, sync::Arc, time::Duration};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::sys::statvfs::statvfs;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::Epoch,
};
use whimbrel_daemon::durable;
use whimbrel_qmp::{AnnounceRounds, MigrationStatus, Qmp, QmpError, RunState};

use super::{
    Instance, Instances,
    power::QUIT_TIME_MAX,
    saved::{self, Phase, Saved},
};
use crate::{fault, network, vm::Vm};

/// Beside the memory itself, the devices' state is in the file: screens and caches of devices are the largest of it.
const DEVICES_BYTES_MAX: u64 = 64 << 20;
/// QEMU's own limit would be 128 MiB/s.
const BANDWIDTH_BPS_MAX: u64 = 1 << 40;
const BUFFER_BYTES: usize = 256 << 10;
const WRITE_BYTES: usize = 1 << 20;
const MEMORY_MODE: u32 = 0o600;
const SOCKET: &str = "suspend.sock";
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Neither QEMU nor a disk that works is silent for so long.
const STALL_TIME_MAX: Duration = Duration::from_secs(60);
const SETTLE_TIME_MAX: Duration = Duration::from_secs(30);
/// Between a socket that closes and the end of the process that closed it.
const DEATH_TIME_MAX: Duration = Duration::from_millis(500);
/// What moves of before may have set, and a stream into a file must not have.
const CAPABILITIES_OFF: [&str; 3] = ["return-path", "pause-before-switchover", "auto-converge"];

impl Instances {
    /// Once its memory is saved this has nothing more to do but to see its QEMU gone.
    pub(super) async fn suspend(&self, instance: &Arc<Instance>, epoch: Epoch) -> Result<(), Failure> {
        if instance.saved().is_some() {
            return self.switch_off(instance).await;
        }
        let gone = || instance.vm().is_none_or(|vm| vm.has_exited().is_some());
        if gone() {
            self.attach(instance).await;
        }
        let vm = instance.vm().filter(|vm| vm.has_exited().is_none()).ok_or_else(|| {
            let detail = format!("server {} does not run: there is nothing to suspend", instance.id());
            Failure::new(FailureCode::Conflict, detail).hint("start it first")
        })?;
        room_for_memory(instance)?;
        let was = still(vm.qmp(), instance).await?;
        let dir = instance.dir().to_owned();
        let saved = match self.save(instance, &vm, epoch).await {
            Ok(saved) => saved,
            Err(failure) => {
                // Before the guest goes on: a record of a memory that it left behind would end it at the agent's next start.
                fault::blocking(move || saved::forget(&dir)).await?;
                go_on(vm.qmp(), &was).await?;
                return Err(Failure { detail: format!("the guest is as it was: {}", failure.detail), ..failure });
            }
        };
        tracing::info!(instance = %instance.id(), bytes = saved.memory_bytes, "suspended");
        instance.set_saved(Some(saved));
        self.switch_off(instance).await
    }

    async fn save(&self, instance: &Arc<Instance>, vm: &Vm, epoch: Epoch) -> Result<Saved, Failure> {
        let (dir, qmp) = (instance.dir(), vm.qmp());
        let off: Vec<_> = CAPABILITIES_OFF.iter().map(|name| (*name, false)).collect();
        qmp.migrate_set_capabilities(&off).await.map_err(|error| fault::of_qmp(&error))?;
        let parameters = json!({"max-bandwidth": BANDWIDTH_BPS_MAX});
        qmp.migrate_set_parameters(parameters).await.map_err(|error| fault::of_qmp(&error))?;
        let socket = vm.run_dir().join(SOCKET);
        let _ = fs_err::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(|error| fault::of_file("listen on", &socket, &error))?;
        self.paths.give_to_qemu(&socket).map_err(|error| fault::of_file("give to QEMU's user", &socket, &error))?;
        qmp.migrate(&format!("unix:{}", socket.display())).await.map_err(|error| fault::of_qmp(&error))?;
        let accepted = timeout(CONNECT_TIME_MAX, listener.accept()).await.map_err(|_| stalled("connect"))?;
        let (stream, _) = accepted.map_err(|error| fault::of_file("accept on", &socket, &error))?;
        let _ = fs_err::remove_file(&socket);

        let (part, whole) = (saved::memory_part(dir), saved::memory(dir));
        let (memory_bytes, memory_digest) = pour(stream, &part).await?;
        sent(qmp).await?;
        let (instance, dir) = (instance.clone(), dir.to_owned());
        let qemu_version = vm.qemu_version();
        fault::blocking(move || {
            durable::rename(&part, &whole).map_err(|error| fault::of_file("place", &whole, &error))?;
            // QEMU has given the disks up: nothing writes to them any more.
            let disks = saved::marks(&instance)?;
            let saved = Saved { phase: Phase::Saved, epoch, qemu_version, memory_bytes, memory_digest, disks };
            saved.store(&dir).map(|()| saved)
        })
        .await
    }

    pub(super) async fn resume(&self, instance: &Arc<Instance>, epoch: Epoch, saved: Saved) -> Result<(), Failure> {
        self.gate(instance, epoch)?;
        saved.fits(instance, epoch)?;
        // What an attempt of before left: its guest never ran.
        self.switch_off(instance).await?;
        let kept = |failure: Failure| {
            let detail =
                format!("server {} could not be resumed, its memory is kept: {}", instance.id(), failure.detail);
            Failure { detail, ..failure }
        };
        let vm = Arc::new(self.boot(instance, true, false).await.map_err(kept)?);
        if let Err(failure) = self.fill(instance, &vm, &saved).await {
            self.back_to_sleep(instance, &vm, saved).await?;
            return Err(kept(failure));
        }
        let waking = Saved { phase: Phase::Waking, ..saved.clone() };
        let dir = instance.dir().to_owned();
        if let Err(failure) = fault::blocking(move || waking.store(&dir)).await {
            self.back_to_sleep(instance, &vm, saved).await?;
            return Err(kept(failure));
        }
        // Only a refusal is sure: what was not answered may still be done.
        if let Err(error @ QmpError::Command { .. }) = vm.qmp().cont().await
            && never_ran(vm.qmp()).await
        {
            self.back_to_sleep(instance, &vm, saved).await?;
            return Err(kept(fault::of_qmp(&error)));
        }
        instance.set_saved(None);
        instance.watch(vm.clone(), self.change_of(instance.id()));
        tracing::info!(instance = %instance.id(), pid = vm.pid(), "resumed");
        if let Err(error) = vm.qmp().announce_self(AnnounceRounds::default()).await {
            tracing::debug!(instance = %instance.id(), error = %fault::chain(&error), "its network was not told of it");
        }
        let dir = instance.dir().to_owned();
        if let Err(failure) = fault::blocking(move || saved::forget(&dir)).await {
            tracing::warn!(instance = %instance.id(), %failure, "the memory of a guest that runs again stays behind");
        }
        Ok(())
    }

    /// Up to the first instruction.
    async fn fill(&self, instance: &Instance, vm: &Vm, saved: &Saved) -> Result<(), Failure> {
        let qmp = vm.qmp();
        let socket = vm.run_dir().join(SOCKET);
        let exit_on_error = vm.features().has_exit_on_error.then_some(false);
        let uri = format!("unix:{}", socket.display());
        qmp.migrate_incoming(&uri, exit_on_error).await.map_err(|error| fault::of_qmp(&error))?;
        let fed = async {
            let stream =
                UnixStream::connect(&socket).await.map_err(|error| fault::of_file("connect to", &socket, &error));
            feed(&saved::memory(instance.dir()), saved, stream?).await?;
            loaded(qmp).await
        };
        let fed = tokio::select! {
            biased;
            fed = fed => fed,
            exit = vm.exited() => Err(vm.death(exit)),
        };
        if let Err(failure) = fed {
            return Err(refused(vm, failure).await);
        }
        if vm.features().has_blockdev_set_active {
            qmp.execute("blockdev-set-active", json!({"active": true})).await.map_err(|error| fault::of_qmp(&error))?;
        }
        network::all_up(vm.taps()).await
    }

    /// The guest did not run: its memory goes with the disks as they are, whatever QEMU noted in their headers.
    async fn back_to_sleep(&self, instance: &Arc<Instance>, vm: &Vm, saved: Saved) -> Result<(), Failure> {
        vm.quit(QUIT_TIME_MAX).await?;
        network::delete_all(vm.taps()).await;
        let (instance, dir) = (instance.clone(), instance.dir().to_owned());
        let saved = fault::blocking(move || {
            let saved = Saved { phase: Phase::Saved, disks: saved::marks(&instance)?, ..saved };
            saved.store(&dir)?;
            instance.set_saved(Some(saved));
            Ok(())
        });
        saved.await
    }

    /// Its memory is thrown away; the guest is off.
    pub(super) async fn forget_memory(&self, instance: &Arc<Instance>) -> Result<(), Failure> {
        if instance.saved().is_none() {
            return Ok(());
        }
        let dir = instance.dir().to_owned();
        fault::blocking(move || saved::forget(&dir)).await?;
        instance.set_saved(None);
        tracing::info!(instance = %instance.id(), "the memory of a suspended guest is thrown away");
        Ok(())
    }

    /// After a restart of the agent; `true` if the guest sleeps, and then nothing else of it is there.
    pub(super) async fn find_memory(&self, instance: &Arc<Instance>) -> Result<bool, Failure> {
        let dir = instance.dir();
        match Saved::load(dir)? {
            None => saved::sweep(dir).map(|()| false),
            Some(saved) if saved.phase == Phase::Saved => {
                Vm::kill_recorded(&self.paths.run_dir(instance.id())).await?;
                network::delete_all(&network::tap_names(&instance.spec())).await;
                instance.set_saved(Some(saved));
                Ok(true)
            }
            Some(_) => {
                self.attach(instance).await;
                saved::forget(dir)?;
                if instance.vm().is_none() {
                    let detail = format!("server {} was being resumed when its host went down", instance.id());
                    let failure = Failure::new(FailureCode::QemuFailed, detail);
                    instance.fail(Some(failure.hint("its memory is lost, as by a power cut: start it again")));
                }
                Ok(true)
            }
        }
    }
}

/// The state that the guest was in before.
async fn still(qmp: &Qmp, instance: &Instance) -> Result<RunState, Failure> {
    let of_qmp = |error: QmpError| fault::of_qmp(&error);
    let was = qmp.query_status().await.map_err(of_qmp)?;
    match &was {
        RunState::Paused => {}
        RunState::Running => qmp.stop().await.map_err(of_qmp)?,
        // An attempt whose agent died: QEMU sends only what it has not sent already.
        RunState::Postmigrate => {
            qmp.cont().await.map_err(of_qmp)?;
            qmp.stop().await.map_err(of_qmp)?;
            return Ok(RunState::Running);
        }
        other => {
            let detail = format!("server {} is {other} and cannot be suspended", instance.id());
            return Err(Failure::new(FailureCode::Conflict, detail).hint("reboot it"));
        }
    }
    Ok(was)
}

async fn go_on(qmp: &Qmp, was: &RunState) -> Result<(), Failure> {
    let of_qmp = |error: QmpError| fault::of_qmp(&error);
    let ended = |status: &MigrationStatus| status.is_over() || *status == MigrationStatus::None;
    if !ended(&qmp.query_migrate().await.map_err(of_qmp)?.status) {
        qmp.migrate_cancel().await.map_err(of_qmp)?;
        qmp.wait_migration(|info| ended(&info.status), SETTLE_TIME_MAX).await.map_err(of_qmp)?;
    }
    if was.is_running() { qmp.cont().await.map_err(of_qmp) } else { Ok(()) }
}

/// QEMU has nothing more to send, and its disks are written and given up.
async fn sent(qmp: &Qmp) -> Result<(), Failure> {
    let of_qmp = |error: QmpError| fault::of_qmp(&error);
    let info = qmp.wait_migration(|info| info.status.is_over(), SETTLE_TIME_MAX).await.map_err(of_qmp)?;
    if info.status != MigrationStatus::Completed {
        let why = info.error_desc.unwrap_or_else(|| "QEMU gave no reason".to_owned());
        return Err(Failure::new(FailureCode::QemuFailed, format!("the memory's stream is {}: {why}", info.status)));
    }
    let given_up = |state: &RunState| *state == RunState::Postmigrate;
    qmp.wait_run_state(given_up, SETTLE_TIME_MAX).await.map(drop).map_err(of_qmp)
}

async fn loaded(qmp: &Qmp) -> Result<(), Failure> {
    let of_qmp = |error: QmpError| fault::of_qmp(&error);
    let info = qmp.wait_migration(|info| info.status.is_over(), SETTLE_TIME_MAX).await.map_err(of_qmp)?;
    if info.status != MigrationStatus::Completed {
        let why = info.error_desc.unwrap_or_else(|| "QEMU gave no reason".to_owned());
        return Err(Failure::new(FailureCode::QemuFailed, format!("the memory's load is {}: {why}", info.status)));
    }
    let waits = |state: &RunState| *state != RunState::Inmigrate;
    qmp.wait_run_state(waits, SETTLE_TIME_MAX).await.map(drop).map_err(of_qmp)
}

/// Why the memory is not loaded: QEMU's own words, where the broken stream is only what they led to. On 7.2 they are on its
/// stderr when it has ended, later versions tell them when asked.
async fn refused(vm: &Vm, failure: Failure) -> Failure {
    if failure.code == FailureCode::Corrupt {
        return failure;
    }
    if let Ok(exit) = timeout(DEATH_TIME_MAX, vm.exited()).await {
        return vm.death(exit);
    }
    match vm.qmp().query_migrate().await.ok().and_then(|info| info.error_desc) {
        Some(why) => Failure::new(FailureCode::QemuFailed, format!("QEMU does not load its memory: {why}")),
        None => failure,
    }
}

/// Only what QEMU says for sure counts.
async fn never_ran(qmp: &Qmp) -> bool {
    matches!(qmp.query_status().await, Ok(RunState::Inmigrate | RunState::Prelaunch | RunState::Paused))
}

pub(super) fn room_for_memory(instance: &Instance) -> Result<(), Failure> {
    let dir = instance.dir();
    let needed = (instance.spec().ram_mb << 20) + DEVICES_BYTES_MAX;
    let free = free_bytes(dir)?;
    if free >= needed {
        return Ok(());
    }
    let detail =
        format!("server {} needs {needed} bytes for its memory, {} has {free} left", instance.id(), dir.display());
    Err(Failure::new(FailureCode::NoDisk, detail).hint("make room on the host's disk, or move servers away"))
}

pub(super) fn free_bytes(dir: &Path) -> Result<u64, Failure> {
    let found = statvfs(dir).map_err(|error| fault::of_file("look at", dir, &error.into()))?;
    Ok(found.blocks_available() * found.fragment_size())
}

fn stalled(what: &str) -> Failure {
    Failure::new(FailureCode::QemuFailed, format!("QEMU did not {what} in time"))
        .hint("is the host's disk slow or stuck?")
}

/// All of the stream into a new file, durable: its size and digest.
async fn pour(mut stream: UnixStream, part: &Path) -> Result<(u64, String), Failure> {
    let failed = |error: std::io::Error| fault::of_file("write", part, &error);
    let _ = fs_err::remove_file(part);
    let file = fs_err::OpenOptions::new().write(true).create_new(true).mode(MEMORY_MODE).open(part).map_err(failed)?;
    let mut file = BufWriter::with_capacity(WRITE_BYTES, tokio::fs::File::from_std(file.into_file()));
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = timeout(STALL_TIME_MAX, stream.read(&mut buffer)).await.map_err(|_| stalled("send"))?;
        let len = read.map_err(|error| fault::internal("cannot read QEMU's stream", &error))?;
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
        bytes += len as u64;
        file.write_all(&buffer[..len]).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    file.get_ref().sync_all().await.map_err(failed)?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// All of the file into QEMU, the last piece only when all was read and is what was saved.
async fn feed(path: &Path, saved: &Saved, mut stream: UnixStream) -> Result<(), Failure> {
    let failed = |error: std::io::Error| fault::of_file("read", path, &error);
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let (mut hasher, mut held, mut bytes) = (blake3::Hasher::new(), Vec::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut give = async |piece: &[u8]| {
        let written = timeout(STALL_TIME_MAX, stream.write_all(piece)).await.map_err(|_| stalled("load"))?;
        written.map_err(|error| fault::internal("QEMU does not take its memory", &error))
    };
    loop {
        let len = file.read(&mut buffer).await.map_err(failed)?;
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
        bytes += len as u64;
        give(&held).await?;
        held.clear();
        held.extend_from_slice(&buffer[..len]);
    }
    let found = hasher.finalize().to_hex();
    if bytes != saved.memory_bytes || found.as_str() != saved.memory_digest {
        let detail = format!("{} is not what was saved: {bytes} bytes with digest {found}", path.display());
        return Err(Failure::new(FailureCode::Corrupt, detail)
            .hint("the host's disk has lost or changed it; a hard reboot starts the guest without it"));
    }
    give(&held).await
}
