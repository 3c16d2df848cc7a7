//! From COMMIT to the running guest: the only place where a received guest is let run.
//!
//! ```text
//! (journal: Owned, fsynced) · state loaded? · disks active · no export left · bitmap armed · tap up · cont · announce
//! ```
//!
//! Ground rules: `cont` with a writable export of the disk still there only warns, so it is checked here; the bitmap that
//! makes the way back cheap is armed before the first write; every failure before `cont` surely left the guest unrun.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use whimbrel_core::{
    disk::DiskFormat,
    failure::{Failure, FailureCode},
    migration::target::Event,
};
use whimbrel_qmp::Qmp;

use super::road::Road;
use crate::{
    cpu,
    migrate::{
        link::{FromTarget, TargetReceipt},
        meter::ms,
        source::{
            arm::{self, epoch_bitmap, is_epoch_bitmap},
            road::of_qmp,
        },
    },
    network,
    vm::{process::Vm, spec::disk_node},
    wire,
};

const LOADED_TIME_MAX: Duration = Duration::from_secs(10);

/// Returns the event that the machine waits for.
pub async fn activate(road: &Arc<Road>) -> Event {
    let vm = road.work.lock().await.vm.clone();
    let Some(vm) = vm else {
        let failure = Failure::new(FailureCode::QemuFailed, "the target's QEMU is gone");
        return Event::ContFailed { failure };
    };
    if let Err(failure) = ready(road, &vm).await {
        return Event::ContFailed { failure };
    }
    if road.with_known(|known| known.running)
        && let Err(error) = vm.qmp().execute("cont", json!({})).await
    {
        return match vm.qmp().query_status().await.map(|state| state.is_running()) {
            // The answer was lost or late, the guest runs.
            Ok(true) => done(road, &vm).await,
            Ok(false) => Event::ContFailed { failure: of_qmp(error) },
            Err(_) => Event::GuestLost,
        };
    }
    done(road, &vm).await
}

async fn ready(road: &Road, vm: &Vm) -> Result<(), Failure> {
    let begun = Instant::now();
    wait_loaded(vm.qmp()).await?;
    road.took("load", begun);
    let begun = Instant::now();
    if vm.features().has_blockdev_set_active {
        vm.qmp().execute("blockdev-set-active", json!({"active": true})).await.map_err(of_qmp)?;
    }
    let exports = arm::exports(vm.qmp()).await.map_err(of_qmp)?;
    if !exports.is_empty() {
        let detail = format!("exports {exports:?} still hold the guest's disks");
        return Err(Failure::new(FailureCode::QemuFailed, detail));
    }
    arm_bitmaps(road, vm.qmp()).await?;
    network::all_up(vm.taps()).await?;
    road.took("activate", begun);
    Ok(())
}

async fn wait_loaded(qmp: &Qmp) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let status = qmp.execute("query-status", json!({})).await.map_err(of_qmp)?;
        match status["status"].as_str() {
            Some("inmigrate") if begun.elapsed() < LOADED_TIME_MAX => tokio::task::yield_now().await,
            Some("inmigrate") | None => {
                let detail =
                    format!("QEMU has not loaded the guest's state {} s after COMMIT", LOADED_TIME_MAX.as_secs());
                return Err(Failure::new(FailureCode::QemuFailed, detail));
            }
            Some(_) => return Ok(()),
        }
    }
}

/// One fresh bitmap per disk, from this hand-over on; those of earlier ones came with a retained copy and mean nothing now.
async fn arm_bitmaps(road: &Road, qmp: &Qmp) -> Result<(), Failure> {
    let Some(spec) = road.with_known(|known| known.spec.clone()) else { return Ok(()) };
    for old in arm::bitmaps(qmp).await.map_err(of_qmp)?.into_iter().filter(|bitmap| is_epoch_bitmap(&bitmap.name)) {
        let which = json!({"node": old.node, "name": old.name});
        qmp.execute("block-dirty-bitmap-remove", which).await.map_err(of_qmp)?;
    }
    for disk in &spec.disks {
        let bitmap = json!({
            "node": disk_node(&disk.name), "name": epoch_bitmap(road.ask.epoch),
            "granularity": arm::GRANULARITY_BYTES, "persistent": disk.format == DiskFormat::Qcow2,
        });
        qmp.execute("block-dirty-bitmap-add", bitmap).await.map_err(of_qmp)?;
    }
    Ok(())
}

/// The guest runs here: the source hears the target's half of the receipt first, then that it runs.
async fn done(road: &Arc<Road>, vm: &Arc<Vm>) -> Event {
    let receipt = road.with_known(|known| TargetReceipt {
        commit_to_running_ms: known.commit_at.map_or(0.0, |at| ms(at.elapsed())),
        phases_ms: known.phases_ms.clone(),
        cpu_seconds: 0.0,
        wire_bytes: 0,
    });
    let qemu_s = cpu::seconds_of(vm.pid()).unwrap_or_default();
    let daemon_s = road.with_known(|known| known.daemon_cpu_s);
    let receipt = TargetReceipt {
        cpu_seconds: cpu::self_seconds() - road.cpu_at_start + qemu_s + daemon_s,
        wire_bytes: wire::bytes_of(road.context.data_address().ip())
            .unwrap_or_default()
            .since(road.wire_at_start)
            .received,
        ..receipt
    };
    let _ = road.tell(FromTarget::Receipt(receipt)).await;
    let announced = vm.qmp().clone();
    tokio::spawn(async move { crate::migrate::source::announce(&announced).await });
    Event::ContDone
}

/// Makes the received guest one of this host's: files under `instances/`, owner record. Idempotent.
pub async fn adopt(road: &Arc<Road>) -> Result<(), Failure> {
    let work = road.work.lock().await;
    let vm = work.vm.clone();
    drop(work);
    let spec = road.with_known(|known| known.spec.clone()).unwrap_or_else(|| road.ask.spec.clone());
    let instances = &road.context.instances;
    instances.adopt(spec, road.ask.epoch, road.ask.migration, vm).await?;
    instances.release(road.ask.spec.id, road.ask.migration).await;
    Ok(())
}
