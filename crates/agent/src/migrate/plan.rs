//! Facts of a running guest for the plan of a move; nothing is touched but for a short sample of its RAM.

use serde_json::json;
use whimbrel_api::agent::{DiskFacts, MoveFacts};
use whimbrel_core::{cpu::GuestCpu, failure::Failure};

use super::source::{
    arm::{self, epoch_bitmap},
    road::of_qmp,
};
use crate::{guest_cpu, instances::Instance, vm::spec::disk_node};

pub async fn move_facts(instance: &Instance) -> Result<MoveFacts, Failure> {
    let spec = instance.spec();
    let epoch = instance.epoch();
    let bitmaps = match instance.vm() {
        Some(vm) => arm::bitmaps(vm.qmp()).await.map_err(of_qmp)?,
        None => Vec::new(),
    };
    let mut disks = Vec::new();
    for disk in &spec.disks {
        let node = disk_node(&disk.name);
        let trusted = bitmaps.iter().find(|bitmap| {
            bitmap.node == node && bitmap.name == epoch_bitmap(epoch) && bitmap.recording && !bitmap.inconsistent
        });
        disks.push(DiskFacts {
            name: disk.name.clone(),
            virtual_bytes: disk.virtual_bytes,
            allocated_bytes: instance.allocated_bytes(&disk.name).await?,
            base_allocated_bytes: disk.base.as_ref().map_or(0, |base| base.file_bytes),
            changed_bytes: trusted.map(|bitmap| bitmap.dirty_bytes),
            changed_since: trusted.map(|_| epoch),
        });
    }
    Ok(MoveFacts {
        id: spec.id,
        epoch,
        disks,
        ram_mb: spec.ram_mb,
        ram_dirty_bps: ram_dirty_bps(instance).await,
        write_bps: instance.write_bps_over(super::source::BEFORE),
        qemu_version: instance.vm().map(|vm| vm.qemu_version()).unwrap_or_default(),
        cpu: cpu(instance, &spec.cpu_model).await,
    })
}

/// As its own QEMU has it, with all that the machine's version adds and takes away.
async fn cpu(instance: &Instance, model: &str) -> Option<GuestCpu> {
    let told = guest_cpu::of_model(instance.vm()?.qmp(), model).await;
    told.inspect_err(|error| tracing::warn!(server = %instance.spec().id, %error, "its QEMU does not tell its CPU"))
        .ok()
}

/// What QEMU last measured; `None` if it never did. Asking it to measure now would hold the plan up for a second.
async fn ram_dirty_bps(instance: &Instance) -> Option<u64> {
    let vm = instance.vm()?;
    let rate = vm.qmp().execute("query-dirty-rate", json!({})).await.ok()?;
    rate["dirty-rate"].as_u64().map(|mb| mb << 20)
}
