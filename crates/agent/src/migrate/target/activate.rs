//! From COMMIT to the running guest: the only place where a received guest is let run.
//!
//! ```text
//! (journal: Owned, fsynced) · state loaded? · disks active · no export left · bitmap armed · tap up · cont · announce
//! ```
//!
//! Ground rules: `cont` with a writable export of the disk still there only warns, so it is checked here; the bitmap that
//! makes the way back cheap is armed before the first write; every failure before `cont` surely left the guest unrun; after
//! a restart of the agent it goes on from what QEMU says, and a guest that may have run is never given back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use whimbrel_core::{
    disk::{DiskFormat, Storage},
    failure::{Failure, FailureCode},
    migration::target::Event,
};
use whimbrel_qmp::Qmp;

use super::road::Road;
use crate::{
    cpu,
    hold::Place,
    migrate::{
        link::TargetReceipt,
        meter::ms,
        source::{
            arm::{self, epoch_bitmap, is_epoch_bitmap},
            road::of_qmp,
        },
    },
    network,
    vm::{process::Vm, spec::disk_node},
};

const ATTACH_AGAIN: Duration = Duration::from_secs(1);
const LOADED_TIME_MAX: Duration = Duration::from_secs(10);

/// Returns the event that the machine waits for.
pub async fn activate(road: &Arc<Road>) -> Event {
    road.context.holds.at(Place::Owned).await;
    let vm = match road.recovered {
        true => match found_again(road).await {
            Some(vm) => vm,
            // It was there when OWN was written, and nobody knows whether `cont` was given before it went.
            None => return Event::GuestLost,
        },
        false => match road.work.lock().await.vm.clone() {
            Some(vm) => vm,
            None => return gone_before_cont(),
        },
    };
    if road.recovered {
        // What was taken in before the restart had its `cont`, though its guest may be paused by now.
        // On shared storage the name in `owner.json` comes before `cont`: there only QEMU can tell.
        let may_be_taken_in = !road.ask.storage.is_shared();
        let mine = road.context.instances.get(road.ask.spec.id);
        if may_be_taken_in && mine.is_some_and(|mine| mine.owned_epoch() == Some(road.ask.epoch)) {
            return done(road, &vm).await;
        }
        match state_of(&vm).await {
            Some(GuestState::Ran) => return done(road, &vm).await,
            Some(GuestState::NeverRan) => {}
            None => return Event::GuestLost,
        }
    }
    if let Err(failure) = ready(road, &vm).await {
        return Event::ContFailed { failure };
    }
    if road.with_known(|known| known.running)
        && let Err(error) = vm.qmp().execute("cont", json!({})).await
    {
        return match state_of(&vm).await {
            // The answer was lost or late, the guest runs or did.
            Some(GuestState::Ran) => done(road, &vm).await,
            Some(GuestState::NeverRan) => Event::ContFailed { failure: of_qmp(error) },
            None => Event::GuestLost,
        };
    }
    done(road, &vm).await
}

fn gone_before_cont() -> Event {
    Event::ContFailed { failure: Failure::new(FailureCode::QemuFailed, "the target's QEMU is gone") }
}

/// QEMU of a move whose agent died between OWN and the running guest. A QEMU that lives and does not answer is asked again
/// until it does or ends: only it knows whether the guest runs.
async fn found_again(road: &Road) -> Option<Arc<Vm>> {
    let id = road.ask.spec.id;
    // Taken in before the restart: the instance holds its monitor.
    let held = || road.context.instances.get(id).and_then(|instance| instance.vm());
    loop {
        if let Some(vm) = held().or(road.work.lock().await.vm.clone()) {
            return vm.has_exited().is_none().then_some(vm);
        }
        match Vm::attach(&road.context.paths.run_dir(id)).await {
            Ok(Some(vm)) => road.work.lock().await.vm = Some(Arc::new(vm)),
            Ok(None) => return None,
            Err(failure) => {
                tracing::error!(migration = %road.ask.migration, %failure, "the moved guest's QEMU does not answer yet");
                tokio::time::sleep(ATTACH_AGAIN).await;
            }
        }
    }
}

enum GuestState {
    NeverRan,
    Ran,
}

/// `None` if QEMU does not say.
async fn state_of(vm: &Vm) -> Option<GuestState> {
    let status = vm.qmp().execute("query-status", json!({})).await.ok()?;
    // Of `RunState` in qapi/run-state.json those in which a loaded guest waits for its first `cont`; every other one, also
    // a guest that crashed, shut down or hit an I/O error, has run.
    match status["status"].as_str()? {
        "inmigrate" | "prelaunch" | "paused" | "postmigrate" => Some(GuestState::NeverRan),
        _ => Some(GuestState::Ran),
    }
}

async fn ready(road: &Road, vm: &Vm) -> Result<(), Failure> {
    let begun = Instant::now();
    tokio::try_join!(wait_loaded(vm.qmp()), own_shared(road))?;
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
    if !road.ask.storage.is_shared() {
        arm_bitmaps(road, vm.qmp()).await?;
    }
    network::all_up(vm.taps()).await?;
    road.took("activate", begun);
    Ok(())
}

async fn own_shared(road: &Road) -> Result<(), Failure> {
    match road.ask.storage {
        Storage::Local => Ok(()),
        Storage::Shared => road.context.instances.own_shared(road.ask.spec.id, road.ask.epoch).await,
    }
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
/// One of this hand-over is there if the agent died in the middle.
async fn arm_bitmaps(road: &Road, qmp: &Qmp) -> Result<(), Failure> {
    let Some(spec) = road.with_known(|known| known.spec.clone()) else { return Ok(()) };
    let mine = epoch_bitmap(road.ask.epoch);
    let there = arm::bitmaps(qmp).await.map_err(of_qmp)?;
    for old in there.iter().filter(|bitmap| is_epoch_bitmap(&bitmap.name) && bitmap.name != mine) {
        let which = json!({"node": old.node, "name": old.name});
        qmp.execute("block-dirty-bitmap-remove", which).await.map_err(of_qmp)?;
    }
    for disk in &spec.disks {
        let node = disk_node(&disk.name);
        if there.iter().any(|bitmap| bitmap.node == node && bitmap.name == mine) {
            continue;
        }
        let bitmap = json!({
            "node": node, "name": mine,
            "granularity": arm::GRANULARITY_BYTES, "persistent": disk.format == DiskFormat::Qcow2,
        });
        qmp.execute("block-dirty-bitmap-add", bitmap).await.map_err(of_qmp)?;
    }
    Ok(())
}

/// The guest runs here. What an agent measured that died in the middle is not known any more, and is not told.
async fn done(road: &Arc<Road>, vm: &Arc<Vm>) -> Event {
    if let Some(commit_at) = road.with_known(|known| known.commit_at).filter(|_| !road.recovered) {
        let commit_to_running_ms = ms(commit_at.elapsed());
        let qemu_s = cpu::seconds_of(vm.pid()).unwrap_or_default();
        let receipt = road.with_known(|known| TargetReceipt {
            commit_to_running_ms,
            phases_ms: known.phases_ms.clone(),
            cpu_seconds: cpu::self_seconds() - road.cpu_at_start + qemu_s + known.daemon_cpu_s,
        });
        road.with_known(|known| known.receipt = Some(receipt));
    }
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
    if road.ask.storage.is_shared() {
        instances.withdraw(road.ask.spec.id).await?;
    }
    instances.release(road.ask.spec.id, road.ask.migration).await;
    Ok(())
}
