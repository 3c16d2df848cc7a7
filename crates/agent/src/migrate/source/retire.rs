//! After the hand-over, on the source: QEMU ends, the disks become the retained copy, and they are compared with the moved
//! ones in the background.
//!
//! Ground rules: a copy is told to be put away only when it is, for until then QEMU or the files may be in somebody's way; a
//! failed comparison changes nothing of the hand-over, it is told loudly; the retained copy is opened read-only by a storage
//! daemon of its own.

use std::{sync::Arc, time::Duration};

use whimbrel_api::agent::Verification;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::Epoch,
};
use whimbrel_transfer::{
    NbdPool, Stream,
    extent::CONTEXT_ALLOCATION,
    hello::StreamKind,
    verify::{VerifyDisk, VerifyReport, verify_source},
};

use super::{
    connect,
    copy::{DISK_CONNECTIONS, of_nbd},
    road::Road,
};
use crate::{
    migrate::{again::Again, comparisons::Comparison},
    paths::disk_file,
    storage::daemon::{DaemonDisk, StorageDaemon},
};

const QUIT_TIME_MAX: Duration = Duration::from_secs(10);

pub async fn retire_until_done(road: &Arc<Road>) {
    let mut again = Again::UNTIL_DONE;
    while let Err(failure) = retire(road).await {
        tracing::error!(migration = %road.ask.migration, %failure, "the source's copy could not be put away yet");
        road.step(format!("moved; the source's copy cannot be put away yet: {failure}"));
        tokio::time::sleep(again.pause()).await;
    }
}

/// Idempotent: also after a restart, with QEMU gone and the files renamed already.
async fn retire(road: &Arc<Road>) -> Result<(), Failure> {
    drop(road.copy.lock().await.take());
    if let Some(vm) = road.instance.vm() {
        vm.quit(QUIT_TIME_MAX).await?;
    }
    if road.ask.storage.is_shared() {
        return road.context.instances.leave_shared(road.instance.id(), road.ask.epoch).await;
    }
    road.context.instances.retire(road.instance.id(), &road.ask.target, road.ask.epoch).await
}

/// The result for the receipt.
pub struct Verdict {
    pub verification: Verification,
    pub failure: Option<String>,
    pub reports: Vec<VerifyReport>,
}

pub async fn verify(road: &Arc<Road>, comparison: &Comparison) -> Verdict {
    match compare(road, comparison).await {
        Ok(reports) => {
            let equal = reports.iter().all(VerifyReport::is_equal);
            let verification = if equal { Verification::Equal } else { Verification::Different };
            let failure = (!equal).then(|| differences(&reports));
            Verdict { verification, failure, reports }
        }
        Err(failure) if failure.code == FailureCode::Cancelled => {
            Verdict { verification: Verification::Superseded, failure: Some(failure.detail), reports: Vec::new() }
        }
        Err(failure) => {
            tracing::warn!(migration = %road.ask.migration, %failure, "the moved disks could not be compared");
            Verdict { verification: Verification::Failed, failure: Some(failure.detail), reports: Vec::new() }
        }
    }
}

fn differences(reports: &[VerifyReport]) -> String {
    let each = reports.iter().filter(|report| !report.is_equal()).map(|report| {
        format!(
            "disk {}: {} bytes differ, first at {:?}",
            report.disk,
            report.mismatch_bytes,
            report.mismatches.first()
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

async fn compare(road: &Arc<Road>, comparison: &Comparison) -> Result<Vec<VerifyReport>, Failure> {
    let ended = || Failure::new(FailureCode::Cancelled, "the server's next move began before its disks were compared");
    // This move's own claim goes when its end is on disk.
    if road.context.instances.claimed_by(road.ask.instance).is_some_and(|by| by != road.ask.migration) {
        return Err(ended());
    }
    let disks = retained_disks(road, road.ask.epoch)?;
    let daemon =
        StorageDaemon::start(&road.context.hypervisor, &road.context.paths.run_dir_of(road.ask.migration), &disks)
            .await?;
    let compared = comparison.unless_ended(compare_over(road, &daemon, &disks)).await;
    daemon.quit(QUIT_TIME_MAX).await?;
    compared.unwrap_or_else(|| Err(ended()))
}

async fn compare_over(
    road: &Arc<Road>,
    daemon: &StorageDaemon,
    disks: &[DaemonDisk],
) -> Result<Vec<VerifyReport>, Failure> {
    let mut sides = Vec::new();
    for disk in disks {
        let pool =
            NbdPool::connect(&daemon.nbd_path(), disk.name.as_str(), DISK_CONNECTIONS, &[CONTEXT_ALLOCATION]).await;
        sides.push(VerifyDisk { name: disk.name.clone(), pool: pool.map_err(of_nbd)? });
    }
    let pools: Vec<_> = sides.iter().map(|side| side.pool.clone()).collect();
    let stream: Stream = Box::new(connect::open(road, StreamKind::Verify).await?);
    let reports = verify_source(stream, sides, road.ask.options.bandwidth_bps_max).await;
    for pool in pools {
        pool.disconnect().await;
    }
    reports.map_err(|error| error.failure())
}

fn retained_disks(road: &Road, epoch: Epoch) -> Result<Vec<DaemonDisk>, Failure> {
    let dir = road.context.paths.retired(road.ask.instance, epoch);
    let spec = road.instance.spec();
    let disk = |disk: &whimbrel_core::disk::DiskSpec| DaemonDisk {
        name: disk.name.clone(),
        path: dir.join(disk_file(&disk.name, disk.format)),
        format: disk.format,
        writable: false,
    };
    Ok(spec.disks.iter().map(disk).collect())
}
