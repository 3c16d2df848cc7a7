//! Lets a guest run, and switches it off. The only place outside of a hand-over that says `cont`.

use std::{sync::Arc, time::Duration};

use whimbrel_core::{failure::Failure, id::Epoch};
use whimbrel_qmp::RunState;

use super::{Instance, Instances};
use crate::{
    fault, network,
    vm::{StartSpec, Vm},
};

/// Time for a guest to react to its power button; then the power is cut.
pub const POWERDOWN_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for QEMU to flush and end.
pub const QUIT_TIME_MAX: Duration = Duration::from_secs(20);

impl Instances {
    pub(super) async fn run(&self, instance: &Arc<Instance>, epoch: Epoch) -> Result<(), Failure> {
        // From disk, not from memory: this is the gate that the whole protocol of a hand-over relies on.
        match self.owner_on_disk(instance.id())? {
            Some(owner) => owner.permits(epoch)?,
            None => return Err(super::make::load_spec(instance.dir()).err().unwrap_or_else(|| no_owner(instance))),
        }
        let running = instance.vm().filter(|vm| vm.has_exited().is_none());
        if running.is_none() {
            self.attach(instance).await;
        }
        let vm = match instance.vm().filter(|vm| vm.has_exited().is_none()) {
            Some(vm) => vm,
            None => self.start(instance).await?,
        };
        let of_qmp = |error| fault::of_qmp(&error);
        let state = vm.qmp().query_status().await.map_err(of_qmp)?;
        if matches!(state, RunState::Prelaunch | RunState::Paused) {
            network::all_up(vm.taps()).await?;
            vm.qmp().cont().await.map_err(of_qmp)?;
            tracing::info!(instance = %instance.id(), pid = vm.pid(), "running");
        }
        instance.fail(None);
        Ok(())
    }

    /// Holds its CPUs still, with its QEMU running.
    pub(super) async fn pause(&self, instance: &Arc<Instance>, epoch: Epoch) -> Result<(), Failure> {
        let gone = || instance.vm().is_none_or(|vm| vm.has_exited().is_some());
        if gone() {
            // One that stands still must not be let go first.
            self.attach(instance).await;
        }
        if gone() {
            self.run(instance, epoch).await?;
        }
        let Some(vm) = instance.vm() else { return Ok(()) };
        let of_qmp = |error| fault::of_qmp(&error);
        if vm.qmp().query_status().await.map_err(of_qmp)? == RunState::Running {
            vm.qmp().stop().await.map_err(of_qmp)?;
            tracing::info!(instance = %instance.id(), pid = vm.pid(), "paused");
        }
        instance.fail(None);
        Ok(())
    }

    async fn start(&self, instance: &Arc<Instance>) -> Result<Arc<Vm>, Failure> {
        let spec = instance.spec();
        self.images.ensure_all(&spec).await?;
        let taps = network::create_all(&spec, self.hypervisor.user).await?;
        let start = StartSpec {
            spec: (*spec).clone(),
            dir: instance.dir().to_owned(),
            run_dir: self.paths.run_dir(instance.id()),
            images_dir: self.paths.images(),
            incoming: false,
            disks: instance.disk_files(),
            taps: taps.clone(),
        };
        match Vm::start(&self.hypervisor, start).await {
            Ok(vm) => {
                let vm = Arc::new(vm);
                instance.watch(vm.clone(), self.change_of(instance.id()));
                Ok(vm)
            }
            Err(failure) => {
                network::delete_all(&taps).await;
                Err(failure)
            }
        }
    }

    /// Presses the power button, and cuts the power of a guest that does not react.
    pub(super) async fn stop(&self, instance: &Arc<Instance>) -> Result<(), Failure> {
        if let Some(vm) = instance.vm() {
            let running = vm.is_running().await.unwrap_or(false);
            if running && vm.qmp().system_powerdown().await.is_ok() {
                let _ = tokio::time::timeout(POWERDOWN_TIME_MAX, vm.exited()).await;
            }
        }
        self.switch_off(instance).await
    }

    /// Ends its QEMU, at once.
    pub(super) async fn switch_off(&self, instance: &Arc<Instance>) -> Result<(), Failure> {
        match instance.vm() {
            Some(vm) => {
                vm.quit(QUIT_TIME_MAX).await?;
                if instance.unwatch(&vm, None) {
                    network::delete_all(vm.taps()).await;
                }
            }
            // One that runs but did not answer when it was looked for.
            None => Vm::kill_recorded(&self.paths.run_dir(instance.id())).await?,
        }
        instance.fail(None);
        Ok(())
    }
}

fn no_owner(instance: &Instance) -> Failure {
    let detail = format!("nothing on this host says who owns server {}", instance.id());
    Failure::new(whimbrel_core::failure::FailureCode::Conflict, detail).hint("look into the agent's log for the reason")
}
