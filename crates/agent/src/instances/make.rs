//! Makes and removes an instance's directory, each by one rename.

use std::path::Path;

use whimbrel_api::agent::InstanceAsk;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::Epoch,
    instance::InstanceSpec,
};
use whimbrel_daemon::durable;

use super::{Instance, Instances};
use crate::{
    fault,
    owner::Owner,
    paths::{SPEC_FILE, disk_file},
};

const SPEC_BYTES_MAX: u64 = 1 << 20;

impl Instances {
    /// A new instance, which no host ever had: its disks are made here, blank or on their base images.
    pub(super) async fn make(&self, ask: &InstanceAsk) -> Result<std::sync::Arc<Instance>, Failure> {
        let id = ask.spec.id;
        if ask.epoch != Epoch::FIRST {
            let detail =
                format!("server {id} is not on this host, and epoch {} says that another host had it", ask.epoch);
            return Err(Failure::new(FailureCode::Conflict, detail).hint("its disks are where it was owned last"));
        }
        let (new, place) = (self.paths.being_made(id), self.paths.instance(id));
        if place.exists() {
            let detail = format!("{} is there but says nothing of who owns it", place.display());
            return Err(Failure::new(FailureCode::Conflict, detail).hint("look into the agent's log for the reason"));
        }
        let made = self.make_in(&new, &ask.spec).await;
        if made.is_err() && new.exists() {
            fs_err::remove_dir_all(&new).map_err(|error| fault::of_file("remove", &new, &error))?;
        }
        made?;
        durable::rename(&new, &place).map_err(|error| fault::of_file("make", &place, &error))?;
        let instance = Instance::new(&place, ask.spec.clone(), self.signed(Owner::owned(id, ask.epoch)));
        self.insert(instance.clone());
        tracing::info!(instance = %id, name = ask.spec.name, "made");
        Ok(instance)
    }

    async fn make_in(&self, dir: &Path, spec: &InstanceSpec) -> Result<(), Failure> {
        if dir.exists() {
            fs_err::remove_dir_all(dir).map_err(|error| fault::of_file("remove", dir, &error))?;
        }
        self.images.ensure_all(spec).await?;
        self.paths.make_dir(dir)?;
        for disk in &spec.disks {
            self.images.create_disk(&dir.join(disk_file(&disk.name, disk.format)), disk).await?;
        }
        store_spec(dir, spec)?;
        self.signed(Owner::owned(spec.id, Epoch::FIRST)).store(dir)
    }

    /// Out of sight by one rename, then gone.
    pub(super) async fn remove_dir(&self, dir: &Path) -> Result<(), Failure> {
        let (dir, gone) = (dir.to_owned(), self.paths.being_removed(dir));
        fault::blocking(move || {
            if gone.exists() {
                fs_err::remove_dir_all(&gone).map_err(|error| fault::of_file("remove", &gone, &error))?;
            }
            if !dir.exists() {
                return Ok(());
            }
            durable::rename(&dir, &gone).map_err(|error| fault::of_file("remove", &dir, &error))?;
            fs_err::remove_dir_all(&gone).map_err(|error| fault::of_file("remove", &gone, &error))
        })
        .await
    }
}

pub(super) fn load_spec(dir: &Path) -> Result<InstanceSpec, Failure> {
    let path = dir.join(SPEC_FILE);
    let bytes = durable::read(&path, SPEC_BYTES_MAX).map_err(|error| fault::of_file("read", &path, &error))?;
    let bytes = bytes.ok_or_else(|| Failure::new(FailureCode::Internal, format!("there is no {}", path.display())))?;
    serde_json::from_slice(&bytes).map_err(|error| fault::of_file("read", &path, &error.into()))
}

pub(super) fn store_spec(dir: &Path, spec: &InstanceSpec) -> Result<(), Failure> {
    let path = dir.join(SPEC_FILE);
    let bytes = serde_json::to_vec_pretty(spec).map_err(|error| fault::internal("cannot write spec.json", &error))?;
    durable::write(&path, &bytes).map_err(|error| fault::of_file("write", &path, &error))
}
