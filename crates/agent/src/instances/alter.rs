//! The hardware of a guest that is off becomes what is asked for: `core::hardware` says what that takes, and what cannot be.
//!
//! ```text
//! disks grown, blank ones made -> spec.json -> files of disks that are gone removed
//! ```
//!
//! Ground rules: a death in the middle leaves disks that are as large as the old hardware says or larger, and the same ask ends
//! what it began; a guest with a QEMU is never changed.

use std::{path::Path, sync::Arc};

use whimbrel_core::{
    disk::DiskSpec,
    failure::{Failure, FailureCode},
    hardware::{self, DiskChange},
    instance::InstanceSpec,
};

use super::{Instance, Instances, make};
use crate::{fault, paths::disk_file};

impl Instances {
    pub(super) async fn alter(&self, instance: &Arc<Instance>, asked: &InstanceSpec) -> Result<(), Failure> {
        let Some(change) = hardware::change(&instance.spec(), asked)? else { return Ok(()) };
        if instance.vm().is_some_and(|vm| vm.has_exited().is_none()) {
            let detail = format!("server {} runs: its hardware cannot be changed now", instance.id());
            return Err(Failure::new(FailureCode::Conflict, detail).hint("stop it first"));
        }
        let dir = instance.dir();
        for (disk, change) in change.spec.disks.iter().zip(&change.disks) {
            match change {
                DiskChange::Keep => {}
                DiskChange::Grow => self.images.grow_disk(&path(dir, disk), disk).await?,
                DiskChange::Make => {
                    remove(&path(dir, disk))?;
                    self.images.create_disk(&path(dir, disk), disk).await?;
                }
            }
        }
        make::store_spec(dir, &change.spec)?;
        instance.set(change.spec, instance.owner());
        for disk in &change.gone {
            remove(&path(dir, disk))?;
        }
        let spec = instance.spec();
        tracing::info!(instance = %spec.id, vcpus = spec.vcpus, ram_mb = spec.ram_mb, "its hardware is changed");
        Ok(())
    }
}

fn path(dir: &Path, disk: &DiskSpec) -> std::path::PathBuf {
    dir.join(disk_file(&disk.name, disk.format))
}

fn remove(path: &Path) -> Result<(), Failure> {
    whimbrel_daemon::durable::remove(path).map(drop).map_err(|error| fault::of_file("remove", path, &error))
}
