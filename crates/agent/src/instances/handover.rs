//! Both ends of a hand-over on disk: the target takes an instance in, the source puts its copy away.
//!
//! ```text
//! adopt    incoming/<migration>/*  -> instances/<uuid>/   spec.json   owner.json: Owned      incoming gone
//! retire   owner.json: HandedOver  -> instances/<uuid>/* -> retired/<uuid>.<epoch>/          older copies gone
//! ```
//!
//! Ground rules: every step may be repeated after a death in any place; what says who owns the instance is written before
//! a source's files move and after a target's have.

use std::{io, path::Path, sync::Arc};

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, HostName, InstanceId, MigrationId},
    instance::InstanceSpec,
};
use whimbrel_daemon::durable;

use super::{
    Instance, Instances, make,
    retained::{self, MARK, Mark, README},
};
use crate::{
    fault,
    owner::{HandedOver, Owner, OwnerState},
    paths::{OWNER_FILE, Paths, SPEC_FILE},
    vm::Vm,
};

impl Instances {
    /// The migration's journal says that this host owns it at `epoch`: its files become an instance of this host. `vm` is
    /// `None` if QEMU was lost meanwhile.
    pub async fn adopt(
        &self,
        spec: InstanceSpec,
        epoch: Epoch,
        migration: MigrationId,
        vm: Option<Arc<Vm>>,
    ) -> Result<(), Failure> {
        let id = spec.id;
        let owner = self.signed(Owner::owned(id, epoch));
        let (paths, placed, stored) = (self.paths.clone(), spec.clone(), owner.clone());
        fault::blocking(move || place(&paths, migration, &placed, &stored)).await?;
        let dir = self.paths.instance(id);
        let instance = match self.get(id) {
            Some(instance) => {
                instance.set(spec, owner);
                instance
            }
            None => {
                let instance = Instance::new(&dir, spec, owner);
                self.insert(instance.clone());
                instance
            }
        };
        if let Some(vm) = vm {
            vm.moved(&dir)?;
            if !instance.vm().is_some_and(|current| Arc::ptr_eq(&current, &vm)) {
                instance.watch(vm, self.change_of(id));
            }
        }
        tracing::info!(instance = %id, %epoch, "taken in");
        Ok(())
    }

    /// As [`Instances::adopt`], for every journal that says so after a restart: of hand-overs long past nothing is left to
    /// do, and an instance that was deleted since does not come back.
    pub async fn adopt_after_restart(
        &self,
        spec: InstanceSpec,
        epoch: Epoch,
        migration: MigrationId,
    ) -> Result<(), Failure> {
        let id = spec.id;
        let arrived = self.paths.incoming_of(migration).exists();
        let later = match self.owner_on_disk(id)? {
            Some(owner) => match owner.state {
                OwnerState::Owned => owner.epoch > epoch || (owner.epoch == epoch && !arrived),
                OwnerState::HandedOver(gone) => gone.epoch > epoch,
            },
            None => !arrived,
        };
        if later {
            return Ok(());
        }
        let known = self.get(id).and_then(|instance| instance.vm());
        let vm = match known {
            Some(vm) => Some(vm),
            None => Vm::attach(&self.paths.run_dir(id)).await?.map(Arc::new),
        };
        self.adopt(spec, epoch, migration, vm).await
    }

    /// Host `to` owns it at `epoch` and its QEMU here is gone: the disks become a retained copy.
    pub async fn retire(&self, id: InstanceId, to: &HostName, epoch: Epoch) -> Result<(), Failure> {
        let instance = self.get(id).ok_or_else(|| {
            Failure::new(FailureCode::NotFound, format!("server {id} is not on this host and cannot be put away"))
        })?;
        if instance.vm().is_some_and(|vm| vm.has_exited().is_none()) {
            let detail = format!("server {id} still has a QEMU here and cannot be put away");
            return Err(Failure::new(FailureCode::Conflict, detail));
        }
        let from = match instance.owner().state {
            OwnerState::Owned => instance.epoch(),
            OwnerState::HandedOver(ref gone) => gone.from,
        };
        let gone = HandedOver { from, to: to.clone(), epoch };
        let state = OwnerState::HandedOver(gone);
        let owner = self.signed(Owner { instance: id, epoch: from, state, host: None });
        let (paths, spec, stored) = (self.paths.clone(), instance.spec(), owner.clone());
        fault::blocking(move || put_away(&paths, &spec, &stored, epoch)).await?;
        instance.hand_over(owner);
        for older in retained::dirs(&self.paths, id)?.into_iter().filter(|older| older.epoch < epoch) {
            self.remove_dir(&older.dir).await?;
        }
        tracing::info!(instance = %id, %to, %epoch, "handed over; the copy here is retained");
        Ok(())
    }
}

fn place(paths: &Paths, migration: MigrationId, spec: &InstanceSpec, owner: &Owner) -> Result<(), Failure> {
    let (from, to) = (paths.incoming_of(migration), paths.instance(spec.id));
    paths.make_dir(&to)?;
    if from.exists() {
        move_files(&from, &to, &[MARK, README, SPEC_FILE, OWNER_FILE])?;
    }
    make::store_spec(&to, spec)?;
    owner.store(&to)?;
    match fs_err::remove_dir_all(&from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault::of_file("remove", &from, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn put_away(paths: &Paths, spec: &InstanceSpec, owner: &Owner, epoch: Epoch) -> Result<(), Failure> {
    let (from, to) = (paths.instance(spec.id), paths.retired(spec.id, epoch));
    owner.store(&from)?;
    paths.make_dir(&to)?;
    let mark = Mark { instance: spec.id, epoch };
    let mark = serde_json::to_vec(&mark).map_err(|error| fault::internal("cannot write retained.json", &error))?;
    make::store_spec(&to, spec)?;
    for (name, bytes) in [(MARK, mark), (README, readme(spec, owner).into_bytes())] {
        let path = to.join(name);
        durable::write(&path, &bytes).map_err(|error| fault::of_file("write", &path, &error))?;
    }
    move_files(&from, &to, &[OWNER_FILE, SPEC_FILE])
}

fn move_files(from: &Path, to: &Path, stay: &[&str]) -> Result<(), Failure> {
    let moved = || {
        for entry in fs_err::read_dir(from)? {
            let entry = entry?;
            if stay.iter().all(|name| entry.file_name() != *name) {
                fs_err::rename(entry.path(), to.join(entry.file_name()))?;
            }
        }
        durable::sync_dir(to)?;
        durable::sync_dir(from)
    };
    moved().map_err(|error| fault::of_file("move", from, &error))
}

fn readme(spec: &InstanceSpec, owner: &Owner) -> String {
    let OwnerState::HandedOver(gone) = &owner.state else { return String::new() };
    let (id, name) = (spec.id, &spec.name);
    format!(
        "This is a retained copy of server '{name}' ({id}). It will not boot.\n\n\
         The server moved from here to host '{to}', which owns it since epoch {epoch}. These are its disks as they were at\n\
         that moment; the server has written to its disks on '{to}' since, and two running copies of one server would\n\
         destroy each other's work. Whimbrel therefore starts nothing from this directory.\n\n\
         What it is good for: a move back to this host ships only what changed since.\n\
         It is removed with the server, or when a newer copy takes its place. To see where the server is:\n\n    \
         whimbrel server show {id}\n",
        to = gone.to,
        epoch = gone.epoch,
    )
}
