//! The target's files: made as the source offers its disks, written by a storage daemon, sealed after the last round.
//!
//! Ground rules: a retained copy is moved into `incoming/` only after the journal says so, and goes back in an undo; the
//! storage daemon holds the files' locks, so no QEMU here can run on them before it is gone; sealed means: every chunk of
//! every round was written, sums equal, flushed, daemon gone.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use whimbrel_core::{
    copy_mode,
    disk::DiskSpec,
    failure::{Failure, FailureCode},
    id::{Epoch, ImageDigest},
    instance::InstanceSpec,
    migration::target::Event,
};
use whimbrel_transfer::{
    NbdPool,
    extent::CONTEXT_ALLOCATION,
    receive::{Receiver, Sink, TargetDisk},
    totals::DiskTotals,
};

use super::{images, road::Road, shared};
use crate::{
    instances::Retained,
    migrate::{
        link::{AcceptedDisk, FromTarget, Offer, OfferedDisk},
        source::copy::{DISK_CONNECTIONS, of_nbd},
    },
    paths::disk_file,
    storage::{DaemonDisk, StorageDaemon},
};

pub const DATA_STREAMS_TIME_MAX: Duration = Duration::from_secs(30);
pub const ROUND_WRITTEN_TIME_MAX: Duration = Duration::from_secs(110);
/// The storage daemon's own end is not waited for in the downtime: its files are released before.
const DAEMON_QUIT_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes the files for what is offered and says how each disk shall come. Its base images are here, some of them
/// at the path in `arrived`.
pub async fn accept(road: &Arc<Road>, offer: Offer, arrived: &BTreeMap<ImageDigest, PathBuf>) -> Result<(), Failure> {
    let streams = road.arrivals.data(offer.streams, DATA_STREAMS_TIME_MAX).await?;
    let retained = take_retained(road, &offer).await?;
    let making = offer.disks.iter().map(|disk| make(road, disk, offer.source_epoch, retained.as_ref(), arrived));
    // One that fails leaves no other in the middle.
    let made = join_all(making).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (accepted, disks): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    let spec = InstanceSpec { disks, ..road.ask.spec.clone() };
    serve(road, &spec, streams).await?;
    images::patiently(road, road.context.images.ensure_boot(&spec)).await?;
    road.with_known(|known| {
        known.mode = accepted.iter().map(|disk| disk.mode).max();
        known.running = offer.running;
        known.spec = Some(spec);
    });
    super::persist_payload(road).await?;
    road.step("receiving the disks");
    road.tell(FromTarget::Accept { disks: accepted }).await
}

/// Whether the source offers what the controller announced.
pub fn check(road: &Road, offer: &Offer) -> Result<(), Failure> {
    let expected: Vec<_> =
        road.ask.spec.disks.iter().map(|disk| (&disk.name, disk.virtual_bytes, disk.format)).collect();
    let offered: Vec<_> =
        offer.disks.iter().map(|disk| (&disk.spec.name, disk.spec.virtual_bytes, disk.spec.format)).collect();
    if expected == offered && offer.source_epoch.next() == road.ask.epoch {
        return Ok(());
    }
    let detail = format!(
        "the source offers disks {offered:?} at epoch {}, the controller announced {expected:?} for epoch {}",
        offer.source_epoch, road.ask.epoch
    );
    Err(Failure::new(FailureCode::Conflict, detail).hint("the server was changed meanwhile: start the move again"))
}

/// The retained copy, if it fits every disk: one that fits only some would be half overwritten, and no copy to put back.
pub async fn fitting_retained(road: &Road, offer: &Offer) -> Option<Retained> {
    let found = road.context.instances.retained(offer.instance).await?;
    let fits = |disk: &OfferedDisk| {
        let kept = found.disk(&disk.spec.name);
        kept.is_some_and(|kept| kept.virtual_bytes == disk.spec.virtual_bytes && kept.format == disk.spec.format)
    };
    offer.disks.iter().all(fits).then_some(found)
}

async fn take_retained(road: &Road, offer: &Offer) -> Result<Option<Retained>, Failure> {
    let Some(found) = fitting_retained(road, offer).await else { return Ok(None) };
    road.with_known(|known| known.took_retained = true);
    super::persist_payload(road).await?;
    road.context.instances.take_retained(&found, road.ask.migration).await.map(Some)
}

async fn make(
    road: &Road,
    disk: &OfferedDisk,
    source_epoch: Epoch,
    retained: Option<&Retained>,
    arrived: &BTreeMap<ImageDigest, PathBuf>,
) -> Result<(AcceptedDisk, DiskSpec), Failure> {
    let name = &disk.spec.name;
    let mode = copy_mode::choose(source_epoch, disk.changed_since, retained.map(|retained| retained.epoch));
    if let Some(kept) = retained.and_then(|retained| retained.disk(name)) {
        return Ok((AcceptedDisk { name: name.clone(), mode, base: None }, kept.clone()));
    }
    let made = DiskSpec { base: copy_mode::base(&disk.spec).cloned(), ..disk.spec.clone() };
    let path = path_of(road, &made);
    let images = &road.context.images;
    let base = made.base.as_ref().map(|base| base.digest.clone());
    let backing = match &base {
        Some(digest) => Some(match arrived.get(digest) {
            Some(path) => path.clone(),
            None => images.ensure(digest).await?,
        }),
        None => None,
    };
    images.create_arriving(&path, &made, backing.as_deref()).await?;
    Ok((AcceptedDisk { name: name.clone(), mode, base }, made))
}

fn path_of(road: &Road, disk: &DiskSpec) -> PathBuf {
    road.incoming_dir().join(disk_file(&disk.name, disk.format))
}

async fn serve(road: &Arc<Road>, spec: &InstanceSpec, streams: Vec<whimbrel_transfer::Stream>) -> Result<(), Failure> {
    let disks: Vec<DaemonDisk> = spec
        .disks
        .iter()
        .map(|disk| DaemonDisk {
            name: disk.name.clone(),
            path: path_of(road, disk),
            format: disk.format,
            writable: true,
        })
        .collect();
    let run_dir = road.context.paths.run_dir_of(road.ask.migration);
    let daemon = StorageDaemon::start(&road.context.hypervisor, &run_dir, &disks).await?;
    let mut pools = Vec::new();
    let mut targets = Vec::new();
    for disk in &disks {
        let pool =
            NbdPool::connect(&daemon.nbd_path(), disk.name.as_str(), DISK_CONNECTIONS, &[CONTEXT_ALLOCATION]).await;
        let pool = pool.map_err(of_nbd)?;
        pools.push(pool.clone());
        targets.push(TargetDisk { name: disk.name.clone(), sink: Sink::Export(pool) });
    }
    let receiver = Arc::new(Receiver::start(streams, targets));
    let mut work = road.work.lock().await;
    work.daemon = Some(daemon);
    work.pools = pools;
    work.receiver = Some(receiver.clone());
    drop(work);
    let watched = road.clone();
    tokio::spawn(async move {
        tokio::select! {
            error = receiver.failed() => watched.fail(error.failure()).await,
            () = watched.cancel.cancelled() => {}
            () = watched.sealed.cancelled() => {}
        }
    });
    Ok(())
}

/// Confirms a round once all of it is written; the last one is sealed.
pub async fn end_round(road: &Arc<Road>, round: u32, totals: &[DiskTotals], seal: bool) -> Result<(), Failure> {
    if road.ask.storage.is_shared() && seal {
        shared::seal(road).await;
        return Ok(());
    }
    let begun = Instant::now();
    let receiver = road.work.lock().await.receiver.clone();
    let receiver = receiver.ok_or_else(|| {
        Failure::new(FailureCode::Internal, format!("round {round} ended although no disk was accepted"))
    })?;
    receiver.await_round(round, totals, ROUND_WRITTEN_TIME_MAX).await.map_err(|error| error.failure())?;
    if !seal {
        return road.tell(FromTarget::RoundDone { round }).await;
    }
    road.took("last_round_written", begun);
    road.images_durable.cancelled().await;
    let flushing = Instant::now();
    receiver.flush_all().await.map_err(|error| error.failure())?;
    road.took("flush", flushing);
    drop(receiver);
    road.sealed.cancel();
    release(road).await?;
    let _ = road.events.send(Event::DisksSealed).await;
    Ok(())
}

async fn release(road: &Arc<Road>) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut work = road.work.lock().await;
    work.receiver = None;
    for pool in std::mem::take(&mut work.pools) {
        pool.disconnect().await;
    }
    let Some(daemon) = work.daemon.take() else { return Ok(()) };
    drop(work);
    daemon.release().await?;
    road.took("release", begun);
    let cpu_s = crate::cpu::seconds_of(daemon.pid()).unwrap_or_default();
    road.with_known(|known| known.daemon_cpu_s = cpu_s);
    tokio::spawn(async move {
        if let Err(failure) = daemon.quit(DAEMON_QUIT_TIME_MAX).await {
            tracing::warn!(%failure, "the storage daemon did not end");
        }
    });
    Ok(())
}
