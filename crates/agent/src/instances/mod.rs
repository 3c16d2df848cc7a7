//! The instances of this host: made, started, stopped, removed, found again after a restart.
//!
//! ```text
//! ask --[change lock]--> claimed by a migration? refuse --> owned here at this epoch? --> make | start | stop
//! ```
//!
//! Ground rules:
//! - one change at a time per instance; a migration claims it for its whole course, and every other change is refused
//!   meanwhile with the migration's name;
//! - a guest is started only here (`power.rs`), and only when `owner.json`, read again from disk, permits it;
//! - an instance gets its directory, and loses it, by one rename: half an instance is never found.
mod console;
mod handover;
mod instance;
mod make;
mod power;
mod reboot;
mod retained;
mod shared;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as AsyncMutex;
use whimbrel_api::agent::{Desired, InstanceAsk, InstanceReport};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{InstanceId, MigrationId},
    instance::InstanceSpec,
};

pub use console::tail as console_tail;
pub use instance::Instance;
pub use retained::Retained;

use crate::{
    fault,
    hypervisor::Hypervisor,
    network,
    owner::Owner,
    paths::Paths,
    sampler::REPORT_WINDOW,
    storage::{ImageStore, daemon},
    vm::Vm,
};

/// A migration waits so long for a start or stop that is under way.
const CLAIM_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Instances {
    paths: Paths,
    hypervisor: Arc<Hypervisor>,
    images: Arc<ImageStore>,
    known: Mutex<HashMap<InstanceId, Arc<Instance>>>,
    claims: Mutex<HashMap<InstanceId, MigrationId>>,
    changes: Mutex<HashMap<InstanceId, Arc<AsyncMutex<()>>>>,
}

impl Instances {
    /// Reads what is on disk and finds the QEMUs that run.
    pub async fn load(
        paths: Paths,
        hypervisor: Arc<Hypervisor>,
        images: Arc<ImageStore>,
    ) -> Result<Arc<Self>, Failure> {
        daemon::kill_all_stale(paths.run_root()).await?;
        let instances = Instances {
            paths,
            hypervisor,
            images,
            known: Mutex::default(),
            claims: Mutex::default(),
            changes: Mutex::default(),
        };
        instances.sweep()?;
        for id in instances.on_disk()? {
            if let Err(failure) = instances.find(id).await {
                // One that cannot be read must not keep the others from being looked after.
                tracing::error!(instance = %id, %failure, "an instance cannot be looked after");
            }
        }
        Ok(Arc::new(instances))
    }

    fn sweep(&self) -> Result<(), Failure> {
        let left = self.paths.half_done().map_err(|error| fault::of_file("read", self.paths.state_dir(), &error))?;
        for dir in left {
            tracing::info!(dir = %dir.display(), "removing what was left half done");
            fs_err::remove_dir_all(&dir).map_err(|error| fault::of_file("remove", &dir, &error))?;
        }
        Ok(())
    }

    fn on_disk(&self) -> Result<Vec<InstanceId>, Failure> {
        let dir = self.paths.instances();
        let entries = fs_err::read_dir(&dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let entries = entries.map_err(|error| fault::of_file("read", &dir, &error))?;
        Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    async fn find(&self, id: InstanceId) -> Result<(), Failure> {
        let dir = self.paths.instance(id);
        // Without an owner it is an adoption that did not end; the migration's journal goes on with it.
        let Some(owner) = Owner::load(&dir)? else { return Ok(()) };
        if owner.is_of_another(self.me()) {
            return Ok(());
        }
        let instance = Instance::new(&dir, make::load_spec(&dir)?, owner);
        self.insert(instance.clone());
        if instance.owned_epoch().is_some() {
            self.attach(&instance).await;
        }
        Ok(())
    }

    /// Finds the instance's QEMU, if it runs.
    async fn attach(&self, instance: &Arc<Instance>) {
        match Vm::attach(&self.paths.run_dir(instance.id())).await {
            Ok(Some(vm)) => {
                tracing::info!(instance = %instance.id(), pid = vm.pid(), "found its QEMU again");
                instance.watch(Arc::new(vm), self.change_of(instance.id()));
            }
            Ok(None) => network::delete_all(&network::tap_names(&instance.spec())).await,
            Err(failure) => {
                tracing::error!(instance = %instance.id(), %failure, "its QEMU runs but does not answer");
                instance.fail(Some(failure));
            }
        }
    }

    /// Also those that were handed over and whose files may still be here.
    pub fn get(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.known().get(&id).cloned()
    }

    /// In no order.
    pub fn all(&self) -> Vec<Arc<Instance>> {
        self.known().values().cloned().collect()
    }

    /// "This instance should be here and be so." Goes on even if the one who asked goes away.
    pub async fn ensure(self: &Arc<Self>, ask: InstanceAsk) -> Result<InstanceReport, Failure> {
        let instances = self.clone();
        apart(async move { instances.ensure_here(ask).await }).await
    }

    async fn ensure_here(&self, ask: InstanceAsk) -> Result<InstanceReport, Failure> {
        let id = ask.spec.id;
        let change = self.change_of(id);
        let _held = change.lock().await;
        self.refuse_if_claimed(id)?;
        let instance = match self.get(id) {
            Some(instance) => {
                instance.owner().permits(ask.epoch)?;
                refuse_other_hardware(&instance.spec(), &ask.spec)?;
                instance
            }
            None => match &ask.taken_from {
                Some(from) => self.take_over(&ask, from).await?,
                None => self.make(&ask).await?,
            },
        };
        let changed = self.change(&instance, &ask).await;
        if let Err(failure) = &changed {
            instance.fail(Some(failure.clone()));
        }
        changed?;
        Ok(self.report(&instance).await)
    }

    async fn change(&self, instance: &Arc<Instance>, ask: &InstanceAsk) -> Result<(), Failure> {
        if let Some(reboot) = ask.reboot {
            self.reboot(instance, reboot).await?;
        }
        match ask.desired {
            Desired::Running => self.run(instance, ask.epoch).await,
            Desired::Paused => self.pause(instance, ask.epoch).await,
            Desired::Stopped => self.stop(instance).await,
        }
    }

    /// Everything of it here, its retained copies too. Nothing to do where there is nothing.
    pub async fn delete(self: &Arc<Self>, id: InstanceId) -> Result<(), Failure> {
        let instances = self.clone();
        apart(async move { instances.delete_here(id).await }).await
    }

    async fn delete_here(&self, id: InstanceId) -> Result<(), Failure> {
        let change = self.change_of(id);
        let _held = change.lock().await;
        self.refuse_if_claimed(id)?;
        if let Some(instance) = self.get(id) {
            self.switch_off(&instance).await?;
            if !self.is_of_another(id)? {
                self.remove_dir(&self.paths.instance(id)).await?;
            }
            self.known().remove(&id);
        }
        for retained in retained::dirs(&self.paths, id)? {
            self.remove_dir(&retained.dir).await?;
        }
        self.lock_changes().remove(&id);
        Ok(())
    }

    /// From now on only this migration changes the instance, which need not be known here. Asked twice, it is so already.
    pub async fn claim(&self, id: InstanceId, migration: MigrationId) -> Result<(), Failure> {
        let change = self.change_of(id);
        let held = tokio::time::timeout(CLAIM_TIME_MAX, change.lock()).await;
        let _held = held.map_err(|_| {
            let detail =
                format!("server {id} is being started, stopped or removed since {} s", CLAIM_TIME_MAX.as_secs());
            Failure::new(FailureCode::Conflict, detail).hint("wait until that is done, then move it")
        })?;
        match *self.lock_claims().entry(id).or_insert(migration) {
            holder if holder == migration => Ok(()),
            holder => Err(claimed(id, holder)),
        }
    }

    /// The migration is done with the instance. One that holds no claim changes nothing.
    pub async fn release(&self, id: InstanceId, migration: MigrationId) {
        let mut claims = self.lock_claims();
        if claims.get(&id) == Some(&migration) {
            claims.remove(&id);
        }
    }

    pub fn claimed_by(&self, id: InstanceId) -> Option<MigrationId> {
        self.lock_claims().get(&id).copied()
    }

    fn refuse_if_claimed(&self, id: InstanceId) -> Result<(), Failure> {
        match self.claimed_by(id) {
            Some(migration) => Err(claimed(id, migration)),
            None => Ok(()),
        }
    }

    pub async fn report(&self, instance: &Instance) -> InstanceReport {
        let vm = instance.vm();
        InstanceReport {
            id: instance.id(),
            name: instance.spec().name.clone(),
            owned_epoch: instance.owned_epoch(),
            power: instance.power().await,
            migration: self.claimed_by(instance.id()),
            failure: instance.failure(),
            write_bps: instance.write_bps_over(REPORT_WINDOW),
            qemu_version: vm.as_ref().map(|vm| vm.qemu_version()),
            qemu_pid: vm.as_ref().map(|vm| vm.pid()),
        }
    }

    /// Of those that are owned here or on their way; what was handed over is only told when asked for by name.
    pub async fn reports(&self) -> Vec<InstanceReport> {
        let here =
            |instance: &Arc<Instance>| instance.owned_epoch().is_some() || self.claimed_by(instance.id()).is_some();
        let mut instances = self.all();
        instances.retain(here);
        instances.sort_by_key(|instance| instance.id());
        futures_util::future::join_all(instances.iter().map(|instance| self.report(instance))).await
    }

    fn insert(&self, instance: Arc<Instance>) {
        self.known().insert(instance.id(), instance);
    }

    fn change_of(&self, id: InstanceId) -> Arc<AsyncMutex<()>> {
        self.lock_changes().entry(id).or_default().clone()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Instance>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_claims(&self) -> MutexGuard<'_, HashMap<InstanceId, MigrationId>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_changes(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<AsyncMutex<()>>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An HTTP handler is dropped with its connection; a change must not stop in the middle.
async fn apart<T: Send + 'static>(
    change: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(error) => Err(fault::internal("a change died", &error)),
    }
}

fn claimed(id: InstanceId, migration: MigrationId) -> Failure {
    Failure::new(FailureCode::Conflict, format!("server {id} is being moved by migration {migration}"))
        .hint(format!("wait for it, or cancel it: `whimbrel migration cancel {migration}`"))
}

/// What the guest sees must stay. What a disk lies on is this host's own matter.
fn refuse_other_hardware(here: &InstanceSpec, asked: &InstanceSpec) -> Result<(), Failure> {
    let visible = |spec: &InstanceSpec| {
        let mut spec = spec.clone();
        spec.name.clear();
        spec.disks.iter_mut().for_each(|disk| disk.base = None);
        spec
    };
    if visible(here) == visible(asked) {
        return Ok(());
    }
    let detail = format!("server {} is here with other hardware than asked for", here.id);
    Err(Failure::new(FailureCode::Conflict, detail).hint("hardware cannot be changed: make a new server"))
}

#[cfg(test)]
mod read_only_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;
