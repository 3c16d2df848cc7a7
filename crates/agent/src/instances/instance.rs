//! One instance of this host: what it is made of, who owns it, and its QEMU while there is one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as AsyncMutex;
use whimbrel_core::{
    disk::{DiskFormat, DiskName},
    failure::{Failure, FailureCode},
    id::{Epoch, InstanceId},
    instance::{InstanceSpec, PowerState},
};
use whimbrel_qmp::{QmpError, RunState};

use crate::{
    fault, network,
    owner::{Owner, OwnerState},
    paths::disk_file,
    process::Exit,
    sampler::{REPORT_WINDOW, SAMPLE_EVERY, Sampler, UsualWrites, WriteStats},
    vm::Vm,
};

use super::saved::Saved;

/// A report waits no longer for one guest's QEMU; one that is busy (`stop` drains its disks) is as it was.
const STATUS_TIME_MAX: Duration = Duration::from_millis(500);
/// Linux counts blocks of this size in `st_blocks`, whatever the file system's own.
const STAT_BLOCK_BYTES: u64 = 512;

#[derive(Debug)]
pub struct Instance {
    id: InstanceId,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    spec: Arc<InstanceSpec>,
    owner: Owner,
    vm: Option<Arc<Vm>>,
    sampler: Arc<Sampler>,
    failure: Option<Failure>,
    /// It sleeps, and this is what it will wake with.
    saved: Option<Saved>,
    /// As QEMU said it last.
    power: PowerState,
}

impl Instance {
    pub(super) fn new(dir: &Path, spec: InstanceSpec, owner: Owner) -> Arc<Self> {
        let (vm, sampler, power) = (None, Arc::default(), PowerState::Stopped);
        let state = State { spec: Arc::new(spec), owner, vm, sampler, failure: None, saved: None, power };
        Arc::new(Instance { id: state.owner.instance, dir: dir.to_owned(), state: Mutex::new(state) })
    }

    pub fn id(&self) -> InstanceId {
        self.id
    }

    pub fn spec(&self) -> Arc<InstanceSpec> {
        self.state().spec.clone()
    }

    pub fn owner(&self) -> Owner {
        self.state().owner.clone()
    }

    /// `None` if another host owns it.
    pub fn owned_epoch(&self) -> Option<Epoch> {
        self.state().owner.owned_epoch()
    }

    /// The epoch owned here, or the last that was.
    pub fn epoch(&self) -> Epoch {
        self.state().owner.epoch
    }

    /// Its QEMU; it may have ended a moment ago.
    pub fn vm(&self) -> Option<Arc<Vm>> {
        self.state().vm.clone()
    }

    pub fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    pub(super) fn saved(&self) -> Option<Saved> {
        self.state().saved.clone()
    }

    pub(super) fn set_saved(&self, saved: Option<Saved>) {
        self.state().saved = saved;
    }

    /// Its memory is in a file beside its disks: they must not be written to.
    pub fn is_suspended(&self) -> bool {
        self.state().saved.is_some()
    }

    /// Holds its disks while this host owns it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn disk_files(&self) -> Vec<(DiskName, PathBuf, DiskFormat)> {
        disk_files(&self.spec(), &self.dir)
    }

    /// Held by the disk's own file on this host.
    pub async fn allocated_bytes(&self, name: &DiskName) -> Result<u64, Failure> {
        let found = self.disk_files().into_iter().find(|(disk, ..)| disk == name);
        let (_, path, _) = found
            .ok_or_else(|| Failure::new(FailureCode::NotFound, format!("server {} has no disk '{name}'", self.id)))?;
        allocated_bytes(&path)
    }

    /// Of all disks; one whose file is not there counts nothing.
    pub fn all_allocated_bytes(&self) -> u64 {
        self.disk_files().iter().map(|(_, path, _)| allocated_bytes(path).unwrap_or_default()).sum()
    }

    /// Bytes per second that the guest wrote to all its disks.
    pub fn write_bps_over(&self, last: Duration) -> u64 {
        self.sampler().write_bps_over(last)
    }

    /// What it usually writes; `None` while too little is known.
    pub fn usual_writes(&self) -> Option<UsualWrites> {
        self.sampler().usual_writes()
    }

    /// Over the whole window that is remembered.
    pub fn write_stats(&self) -> WriteStats {
        self.sampler().write_stats()
    }

    /// CPU seconds per second that QEMU uses for the guest.
    pub fn cpu_rate(&self) -> f64 {
        self.sampler().cpu_rate_over(REPORT_WINDOW)
    }

    pub async fn power(&self) -> PowerState {
        let (vm, off) = {
            let state = self.state();
            let off = match (&state.saved, &state.failure) {
                (Some(_), _) => PowerState::Suspended,
                (None, Some(_)) => PowerState::Crashed,
                (None, None) => PowerState::Stopped,
            };
            (state.vm.clone(), off)
        };
        let Some(vm) = vm.filter(|vm| !vm.is_dormant()) else { return off };
        match vm.qmp().within(STATUS_TIME_MAX).query_status().await {
            Ok(state) => {
                let power = power_of(&state);
                self.state().power = power;
                power
            }
            Err(QmpError::Deadline { .. }) => self.state().power,
            Err(_) => PowerState::Crashed,
        }
    }

    pub(super) fn set(&self, spec: InstanceSpec, owner: Owner) {
        let mut state = self.state();
        state.spec = Arc::new(spec);
        state.owner = owner;
        state.failure = None;
    }

    pub(super) fn hand_over(&self, owner: Owner) {
        let mut state = self.state();
        debug_assert!(matches!(owner.state, OwnerState::HandedOver(_)));
        state.owner = owner;
        state.failure = None;
    }

    pub(super) fn fail(&self, failure: Option<Failure>) {
        self.state().failure = failure;
    }

    /// Takes the QEMU in, and watches and samples it until it ends. `change` is held while its end is dealt with.
    pub(super) fn watch(self: &Arc<Self>, vm: Arc<Vm>, change: Arc<AsyncMutex<()>>) {
        let sampler = Arc::new(Sampler::default());
        {
            let mut state = self.state();
            state.vm = Some(vm.clone());
            state.sampler = sampler.clone();
            state.power = PowerState::Paused;
            state.failure = None;
        }
        let instance = self.clone();
        tokio::spawn(async move {
            let exit = sample_until_end(&vm, &sampler).await;
            let _held = change.lock().await;
            // The end of a dormant one is its migration's matter.
            let failure = (exit != Exit::Code(0) && !vm.was_switched_off() && !vm.is_dormant())
                .then(|| vm.death(exit).hint("start the server again; its log is qemu.log in its directory"));
            if instance.unwatch(&vm, failure.clone()) {
                match failure {
                    Some(failure) => tracing::error!(instance = %instance.id, %failure, "QEMU died"),
                    None => tracing::info!(instance = %instance.id, %exit, "the guest is off"),
                }
                network::delete_all(vm.taps()).await;
            }
        });
    }

    /// Whether it was this instance's QEMU until now. It goes together with why: without it the guest counts as off.
    pub(super) fn unwatch(&self, vm: &Arc<Vm>, failure: Option<Failure>) -> bool {
        let mut state = self.state();
        let ours = state.vm.as_ref().is_some_and(|current| Arc::ptr_eq(current, vm));
        if ours {
            state.vm = None;
            state.failure = failure;
        }
        ours
    }

    fn sampler(&self) -> Arc<Sampler> {
        self.state().sampler.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sample_until_end(vm: &Vm, sampler: &Sampler) -> Exit {
    let mut beat = tokio::time::interval(SAMPLE_EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            exit = vm.exited() => return exit,
            _ = beat.tick() => sampler.sample(vm.qmp(), vm.pid()).await,
        }
    }
}

pub(super) fn disk_files(spec: &InstanceSpec, dir: &Path) -> Vec<(DiskName, PathBuf, DiskFormat)> {
    let file = |disk: &whimbrel_core::disk::DiskSpec| {
        (disk.name.clone(), dir.join(disk_file(&disk.name, disk.format)), disk.format)
    };
    spec.disks.iter().map(file).collect()
}

pub(super) fn allocated_bytes(path: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs_err::metadata(path).map_err(|error| fault::of_file("look at", path, &error))?;
    Ok(metadata.blocks() * STAT_BLOCK_BYTES)
}

fn power_of(state: &RunState) -> PowerState {
    match state {
        RunState::Running => PowerState::Running,
        RunState::Shutdown => PowerState::Stopped,
        RunState::InternalError => PowerState::Crashed,
        RunState::Debug
        | RunState::Inmigrate
        | RunState::IoError
        | RunState::Paused
        | RunState::Postmigrate
        | RunState::Prelaunch
        | RunState::FinishMigrate
        | RunState::RestoreVm
        | RunState::SaveVm
        | RunState::Suspended
        | RunState::Watchdog
        | RunState::GuestPanicked
        | RunState::Colo
        | RunState::Other(_) => PowerState::Paused,
    }
}
