//! The target's half of the comparison after a move: its running disks against what the source says of its frozen ones.
//!
//! Ground rules: reads through a read-only export of the running QEMU, or of a storage daemon where the guest is off; a block that differs is only excused if the bitmap
//! that was armed before `cont` marks it, read after the comparison.

use std::sync::Arc;

use whimbrel_core::{disk::DiskName, failure::Failure};
use whimbrel_qmp::{Qmp, QmpError};
use whimbrel_transfer::{
    Extent, NbdPool, Stream,
    extent::{BITMAP_DIRTY, CONTEXT_ALLOCATION, bitmap_context},
    nbd::{Fault, NbdError, Place},
    verify::{VerifyDisk, verify_target},
};

use super::{disks::DAEMON_QUIT_TIME_MAX, road::Road};
use crate::{
    fault::chain,
    instances::Instance,
    migrate::comparisons::Comparison,
    migrate::source::{
        arm::{self, Armed, DIRTY_BITMAP, dirty_export, epoch_bitmap},
        copy::{DISK_CONNECTIONS, of_nbd},
        road::of_qmp,
    },
    storage::daemon::{DaemonDisk, StorageDaemon},
    vm::process::Vm,
};

pub async fn verify(road: &Arc<Road>, vm: &Arc<Vm>, comparison: &Comparison, stream: Stream) -> Result<(), Failure> {
    let qmp = vm.qmp().clone();
    let compared = comparison.unless_ended(compare(road, &qmp, stream)).await;
    arm::disarm(&qmp).await.map_err(of_qmp)?;
    compared.unwrap_or_else(|| {
        tracing::info!(migration = %road.ask.migration, "the next move ended the comparison");
        Ok(())
    })
}

/// Of a guest that is off: its files are read by a storage daemon. Nobody may start it meanwhile; who wants to ends this.
pub async fn verify_off(
    road: &Arc<Road>,
    instance: &Arc<Instance>,
    comparison: &Comparison,
    stream: Stream,
) -> Result<(), Failure> {
    let change = road.context.instances.change_of(instance.id());
    let Some(_still) = comparison.unless_ended(change.lock()).await else { return Ok(()) };
    if instance.vm().is_some() || instance.owned_epoch() != Some(road.ask.epoch) {
        return Ok(());
    }
    let disks: Vec<DaemonDisk> = instance
        .disk_files()
        .into_iter()
        .map(|(name, path, format)| DaemonDisk { name, path, format, writable: false })
        .collect();
    let run_dir = road.context.paths.run_dir_of(road.ask.migration);
    let daemon = StorageDaemon::start(&road.context.hypervisor, &run_dir, &disks).await?;
    let compared = comparison.unless_ended(compare_files(road, &daemon, &disks, stream)).await;
    daemon.quit(DAEMON_QUIT_TIME_MAX).await?;
    compared.unwrap_or(Ok(()))
}

async fn compare_files(
    road: &Road,
    daemon: &StorageDaemon,
    disks: &[DaemonDisk],
    stream: Stream,
) -> Result<(), Failure> {
    let mut sides = Vec::new();
    for disk in disks {
        let pool =
            NbdPool::connect(&daemon.nbd_path(), disk.name.as_str(), DISK_CONNECTIONS, &[CONTEXT_ALLOCATION]).await;
        sides.push(VerifyDisk { name: disk.name.clone(), pool: pool.map_err(of_nbd)? });
    }
    let nothing_written = async |_| Ok(Vec::new());
    finish(road, stream, sides, nothing_written).await
}

async fn compare(road: &Arc<Road>, qmp: &Qmp, stream: Stream) -> Result<(), Failure> {
    let spec = road.with_known(|known| known.spec.clone()).unwrap_or_else(|| road.ask.spec.clone());
    let socket = road.context.paths.run_dir(spec.id).join("move.nbd");
    let disks = spec.disks.iter().map(|disk| (disk.name.clone(), disk.virtual_bytes, arm::GRANULARITY_BYTES)).collect();
    let armed = Armed::expose(qmp, &socket, disks).await.map_err(of_qmp)?;
    let mut sides = Vec::new();
    for disk in &spec.disks {
        let pool = NbdPool::connect(&socket, disk.name.as_str(), DISK_CONNECTIONS, &[CONTEXT_ALLOCATION])
            .await
            .map_err(of_nbd)?;
        sides.push(VerifyDisk { name: disk.name.clone(), pool });
    }
    let armed = tokio::sync::Mutex::new(armed);
    let exempt = |disk: usize| written_since(road, &armed, disk);
    finish(road, stream, sides, exempt).await
}

async fn finish<F>(
    road: &Road,
    stream: Stream,
    sides: Vec<VerifyDisk>,
    exempt: impl Fn(usize) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Vec<Extent>, NbdError>>,
{
    let pools: Vec<_> = sides.iter().map(|side| side.pool.clone()).collect();
    let reports = verify_target(stream, sides, exempt).await;
    for pool in pools {
        pool.disconnect().await;
    }
    let reports = reports.map_err(|error| error.failure())?;
    for report in &reports {
        tracing::info!(migration = %road.ask.migration, ?report, "compared");
    }
    Ok(())
}

async fn written_since(road: &Road, armed: &tokio::sync::Mutex<Armed>, disk: usize) -> Result<Vec<Extent>, NbdError> {
    let mut armed = armed.lock().await;
    let name = armed.disks[disk].name.clone();
    let shown =
        armed.show(disk, &epoch_bitmap(road.ask.epoch)).await.map_err(|error| no_bitmap(&armed, &name, &error))?;
    let context = bitmap_context(DIRTY_BITMAP);
    let pool = NbdPool::connect(&armed.socket, &dirty_export(&name), 1, &[&context]).await?;
    let mut walk = pool.extents(&context);
    let mut written = Vec::new();
    while let Some(batch) = walk.next().await? {
        written.extend(batch.into_iter().filter(|extent| extent.flags & BITMAP_DIRTY != 0));
    }
    pool.disconnect().await;
    armed.hide(&[shown]).await.map_err(|error| no_bitmap(&armed, &name, &error))?;
    Ok(written)
}

fn no_bitmap(armed: &Armed, disk: &DiskName, error: &QmpError) -> NbdError {
    let place = Place { socket: armed.socket.clone(), export: dirty_export(disk) };
    NbdError { place: Arc::new(place), fault: Fault::Lost(chain(error)) }
}
