//! What a target does instead of making files where it sees the source's.
//!
//! Ground rules: that it sees them is shown by what the source wrote there for this very move; nothing of the instance's
//! directory is changed before COMMIT but the logs that QEMU appends to, and nothing of it is ever removed by an undo;
//! `owner.json` names this host before the guest runs, and the source again before a refusal is told.

use std::{sync::Arc, time::Duration};

use whimbrel_core::{
    copy_mode,
    disk::{CopyMode, DiskSpec},
    failure::{Failure, FailureCode},
    instance::InstanceSpec,
    migration::target::Event,
};

use super::{disks, images, road::Road};
use crate::{
    migrate::link::{AcceptedDisk, FromTarget, Offer},
    paths::disk_file,
    storage::shared::check_direct,
};

/// Answers the offer of disks that stay where they are.
pub async fn accept(road: &Arc<Road>, offer: Offer) -> Result<(), Failure> {
    disks::check(road, &offer)?;
    let context = &road.context;
    check_direct(&context.paths, &context.hypervisor)?;
    context.instances.sees_offer(offer.instance, road.ask.migration, &road.ask.source, road.ask.epoch).await?;
    let disks: Vec<DiskSpec> = offer.disks.into_iter().map(|disk| disk.spec).collect();
    for disk in &disks {
        let path = road.disks_dir().join(disk_file(&disk.name, disk.format));
        if !path.is_file() {
            let detail = format!("disk {} is not at {}", disk.name, path.display());
            return Err(Failure::new(FailureCode::Conflict, detail).hint("is the storage mounted on this host?"));
        }
    }
    let spec = InstanceSpec { disks, ..road.ask.spec.clone() };
    images::patiently(road, context.images.ensure_all(&spec)).await?;
    let accepted = spec.disks.iter().map(|disk| AcceptedDisk {
        name: disk.name.clone(),
        mode: CopyMode::Shared,
        base: copy_mode::base(disk).map(|base| base.digest.clone()),
    });
    let accepted = accepted.collect();
    road.with_known(|known| {
        known.mode = Some(CopyMode::Shared);
        known.running = offer.running;
        known.spec = Some(spec);
    });
    super::persist_payload(road).await?;
    road.images_durable.cancel();
    road.step("receiving RAM; the disks stay where they are");
    road.tell(FromTarget::Accept { disks: accepted }).await
}

/// The guest has stopped, and what it wrote lies where it lies: nothing is left to be sealed.
pub async fn seal(road: &Road) {
    road.sealed.cancel();
    let _ = road.events.send(Event::DisksSealed).await;
}

/// What a restarted agent took for its own by the name in `owner.json`, and the name itself.
pub async fn undo(road: &Road, quit_time_max: Duration) -> Result<(), Failure> {
    let (id, epoch) = (road.ask.spec.id, road.ask.epoch);
    let instances = &road.context.instances;
    if let Some(taken) = instances.get(id).filter(|taken| taken.owned_epoch() == Some(epoch)) {
        if let Some(vm) = taken.vm() {
            vm.quit(quit_time_max).await?;
        }
        instances.leave_shared(id, epoch.next()).await?;
    }
    instances.give_back_shared(id, epoch, &road.ask.source).await
}
