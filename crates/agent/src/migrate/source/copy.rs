//! The copy: disk rounds, then RAM beside them, until what is left fits the downtime budget.
//!
//! ```text
//! offer -> (base images) -> accept -> arm -> round 0 -> round 1 … -> RAM goes -> (round k | look at RAM)* -> converged
//!                                      (small disks: RAM's stream begins beside it)
//! ```
//!
//! Ground rules: the guest runs throughout and nothing remote sits in its write path; a round begins only when the target
//! has confirmed the one before; the policy in `core::convergence` decides what comes next, this file only does it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use whimbrel_core::{
    convergence::bitmap_granularity,
    disk::CopyMode,
    failure::{Failure, FailureCode},
};
use whimbrel_transfer::{
    NbdPool,
    extent::{CONTEXT_ALLOCATION, CONTEXT_DEPTH, bitmap_context},
    nbd::NbdError,
    send::{DiskRound, Due, Origin, Sender, Zeros},
};

use super::{
    arm::{self, Armed, DIRTY_BITMAP, Shown, epoch_bitmap},
    images, ram,
    road::{Copy, DiskFacts, Facts, Reused, Road, of_qmp, unexpected},
    stream,
};
use crate::{
    fault::chain,
    hold::Place,
    migrate::link::{AcceptedDisk, FromSource, FromTarget, Offer, OfferedDisk},
    vm::spec::disk_node,
};

/// Connections to each disk's export.
pub const DISK_CONNECTIONS: usize = 4;
const ACCEPT_TIME_MAX: Duration = Duration::from_secs(60);
/// The target confirms a round when its last chunk is written; chunks on their way are bounded, so is this.
const ROUND_DONE_TIME_MAX: Duration = Duration::from_secs(120);
const QEMU_READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Up to this much to copy, the target's QEMU starts beside round 0; above it after, so that a long copy holds no RAM there.
const START_QEMU_EARLY_BYTES_MAX: u64 = 8 << 30;
/// Up to this much, some seconds, the RAM stream begins beside round 0: meanwhile writes to RAM are slower here, and a guest whose
/// RAM fits into a socket's buffer is stopped.
const BEGIN_RAM_EARLY_BYTES_MAX: u64 = 256 << 20;

/// Returns when what is left fits the downtime budget.
pub async fn run(road: &Arc<Road>) -> Result<(), Failure> {
    road.meter.begin("prepare");
    road.step("asking the target for room");
    let offer = offer(road).await?;
    let since: Vec<_> = offer.disks.iter().map(|disk| disk.changed_since).collect();
    let sent_at = Instant::now();
    road.tell(FromSource::Offer(offer.clone())).await?;
    road.written_at_start.store(road.guest_written_bytes().await?, Ordering::SeqCst);
    let accepted = accepted(road, &offer).await?;
    check_accepted(&offer, &accepted)?;
    tracing::debug!(took_ms = sent_at.elapsed().as_millis() as u64, ?accepted, "accepted");

    road.with_facts(|facts| learn_modes(facts, &offer, &accepted));
    road.meter.begin("arm");
    let copy = arm_disks(road, &offer, accepted).await?;
    *road.copy.lock().await = Some(copy);
    if road.with_facts(|facts| facts.images.is_none()) {
        road.written_at_start.store(road.guest_written_bytes().await?, Ordering::SeqCst);
    }

    let due_bytes: u64 = offer.disks.iter().map(|disk| disk.allocated_bytes).sum();
    let early = due_bytes <= START_QEMU_EARLY_BYTES_MAX;
    if early {
        road.tell(FromSource::StartQemu).await?;
    }
    road.meter.begin("round_0");
    let opened = if due_bytes <= BEGIN_RAM_EARLY_BYTES_MAX {
        Some(tokio::try_join!(first_round(road, &since), stream::open(road))?.1)
    } else {
        first_round(road, &since).await?;
        None
    };
    if !early {
        road.tell(FromSource::StartQemu).await?;
    }
    road.meter.begin("rounds");
    ram::converge(road, opened).await
}

/// The target's answer to the offer; base images that it lacks travel before it.
pub async fn accepted(road: &Arc<Road>, offer: &Offer) -> Result<Vec<AcceptedDisk>, Failure> {
    let mut images = None;
    loop {
        match road.reply(ACCEPT_TIME_MAX, "accept").await? {
            FromTarget::Accept { disks } => return Ok(disks),
            FromTarget::WantImages { images: wanted } if images.is_none() => {
                images = Some(images::ship(road, offer, &wanted).await?);
            }
            FromTarget::Waiting => road.step("the target waits for an image that comes from elsewhere"),
            other @ (FromTarget::WantImages { .. }
            | FromTarget::Word(_)
            | FromTarget::RoundDone { .. }
            | FromTarget::QemuReady
            | FromTarget::ImagesDurable
            | FromTarget::Receipt(_)
            | FromTarget::Failed { .. }) => return Err(unexpected(&other, "accept")),
        }
    }
}

/// Waits until the target's QEMU can take the stream.
pub async fn qemu_ready(road: &Road) -> Result<(), Failure> {
    let mut ready = road.qemu_ready.subscribe();
    match tokio::time::timeout(QEMU_READY_TIME_MAX, ready.wait_for(|ready| *ready)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::new(
            FailureCode::DeadlinePassed,
            format!("QEMU on host {} is not ready after {} s", road.ask.target, QEMU_READY_TIME_MAX.as_secs()),
        )
        .hint("look at the load and at the agent's log of that host, then move again")),
    }
}

pub async fn offer(road: &Road) -> Result<Offer, Failure> {
    let qmp = road.qmp()?;
    let epoch = road.instance.epoch();
    let bitmaps = arm::bitmaps(&qmp).await.map_err(of_qmp)?;
    let spec = road.instance.spec();
    let mut disks = Vec::new();
    for disk in &spec.disks {
        let node = disk_node(&disk.name);
        let trusted = bitmaps.iter().any(|bitmap| {
            bitmap.node == node && bitmap.name == epoch_bitmap(epoch) && bitmap.recording && !bitmap.inconsistent
        });
        let allocated_bytes = road.instance.allocated_bytes(&disk.name).await?;
        road.with_facts(|facts| {
            facts.disks.push(DiskFacts {
                name: disk.name.clone(),
                virtual_bytes: disk.virtual_bytes,
                allocated_bytes,
                due_bytes: allocated_bytes,
                reused: Reused::Counted,
            });
        });
        disks.push(OfferedDisk { spec: disk.clone(), allocated_bytes, changed_since: trusted.then_some(epoch) });
    }
    Ok(Offer {
        migration: road.ask.migration,
        instance: spec.id,
        source_epoch: epoch,
        streams: road.ask.options.streams,
        running: road.running_before,
        disks,
    })
}

/// What the chosen modes mean for the bar and the receipt.
fn learn_modes(facts: &mut Facts, offer: &Offer, accepted: &[AcceptedDisk]) {
    let carried = facts.images.as_ref().map(|images| images.disks.clone()).unwrap_or_default();
    for (at, ((disk, offered), accepted)) in facts.disks.iter_mut().zip(&offer.disks).zip(accepted).enumerate() {
        let base_bytes = offered.spec.base.as_ref().map_or(0, |base| base.file_bytes);
        match (accepted.mode, &accepted.base) {
            // Of its own road: see `shared`.
            (CopyMode::Shared, _) | (CopyMode::Full, None) => disk.reused = Reused::Counted,
            (CopyMode::Full, Some(_)) if carried.contains(&at) => disk.reused = Reused::Base { bytes: 0 },
            (CopyMode::Full, Some(_)) => disk.reused = Reused::Base { bytes: base_bytes },
            (CopyMode::Delta, _) => {
                disk.reused = Reused::AllBut;
                disk.due_bytes = 0;
            }
            (CopyMode::Digest, _) => disk.reused = Reused::Counted,
        }
    }
}

pub fn check_accepted(offer: &Offer, accepted: &[AcceptedDisk]) -> Result<(), Failure> {
    let same = offer.disks.len() == accepted.len()
        && offer.disks.iter().zip(accepted).all(|(offered, accepted)| {
            offered.spec.name == accepted.name
                && (accepted.mode != CopyMode::Delta || offered.changed_since.is_some())
                && (accepted.base.is_none()
                    || accepted.base.as_ref() == offered.spec.base.as_ref().map(|base| &base.digest))
        });
    match same {
        true => Ok(()),
        false => Err(Failure::new(
            FailureCode::Internal,
            format!("the target accepted other disks than offered: {accepted:?}"),
        )),
    }
}

async fn arm_disks(road: &Arc<Road>, offer: &Offer, disks: Vec<AcceptedDisk>) -> Result<Copy, Failure> {
    road.with_facts(|facts| facts.mode = disks.iter().map(|disk| disk.mode).max());
    let qmp = road.qmp()?;
    let stats = road.instance.write_stats();
    let granularity = bitmap_granularity(stats.operations, stats.bytes);
    let wanted =
        offer.disks.iter().map(|disk| (disk.spec.name.clone(), disk.spec.virtual_bytes, granularity)).collect();
    let socket = road.run_file("move.nbd");
    let armed = Armed::arm(&qmp, &socket, wanted).await.map_err(of_qmp)?;
    let mut pools = Vec::new();
    for disk in &armed.disks {
        let contexts = [CONTEXT_ALLOCATION, CONTEXT_DEPTH];
        let pool = NbdPool::connect(&socket, disk.name.as_str(), DISK_CONNECTIONS, &contexts).await.map_err(of_nbd)?;
        pools.push(pool);
    }
    let streams = match road.link.lock().await.as_mut() {
        Some(link) => std::mem::take(&mut link.data),
        None => Vec::new(),
    };
    let names = disks.iter().map(|disk| disk.name.clone()).collect();
    let sender = Sender::start(streams, names);
    sender.set_rate(road.ask.options.bandwidth_bps_max);
    road.with_facts(|facts| facts.counters = Some(sender.counters()));
    Ok(Copy { armed, sender, pools, disks, round: 0 })
}

async fn first_round(road: &Arc<Road>, since: &[Option<whimbrel_core::id::Epoch>]) -> Result<(), Failure> {
    let mut copy = road.copy.lock().await;
    let copy = copy.as_mut().ok_or_else(ended)?;
    let mut parts = Vec::new();
    let mut shown = Vec::new();
    for (at, (disk, since)) in copy.disks.clone().into_iter().zip(since).enumerate() {
        let (due, zeros) = match (disk.mode, since) {
            (CopyMode::Delta, Some(epoch)) => {
                let one = copy.armed.show(at, &epoch_bitmap(*epoch)).await.map_err(of_qmp)?;
                let due = dirty(copy, at).await?;
                road.with_facts(|facts| facts.disks[at].due_bytes = one.dirty_bytes);
                shown.push(one);
                (due, Zeros::Send)
            }
            (CopyMode::Shared, _) | (CopyMode::Delta, None) | (CopyMode::Digest, _) => (Due::Digest, Zeros::Send),
            (CopyMode::Full, _) if disk.base.is_some() => (Due::TopLayer, Zeros::Send),
            (CopyMode::Full, _) => (Due::Allocated, Zeros::Skip),
        };
        parts.push(DiskRound { disk: at as u16, origin: Origin::Export(copy.pools[at].clone()), due, zeros });
    }
    road.step("round 0 of the disks");
    ship(road, copy, parts, false).await?;
    copy.armed.hide(&shown).await.map_err(of_qmp)
}

async fn dirty(copy: &Copy, disk: usize) -> Result<Due, Failure> {
    let export = arm::dirty_export(&copy.armed.disks[disk].name);
    let context = bitmap_context(DIRTY_BITMAP);
    let pool = NbdPool::connect(&copy.armed.socket, &export, 1, &[&context]).await.map_err(of_nbd)?;
    Ok(Due::Bitmap { pool, bitmap: DIRTY_BITMAP.to_owned() })
}

/// One more round of what the guest dirtied since the last. Returns its bytes.
pub async fn round(road: &Road, copy: &mut Copy, seal: bool) -> Result<u64, Failure> {
    let shown: Vec<Shown> = copy.armed.turn().await?;
    let bytes = shown.iter().map(|each| each.dirty_bytes).sum();
    if shown.is_empty() && !seal {
        return Ok(0);
    }
    copy.round += 1;
    road.with_facts(|facts| facts.progress.round = copy.round);
    let mut parts = Vec::new();
    for each in &shown {
        let due = dirty(copy, each.disk).await?;
        let origin = Origin::Export(copy.pools[each.disk].clone());
        parts.push(DiskRound { disk: each.disk as u16, origin, due, zeros: Zeros::Send });
    }
    ship(road, copy, parts, seal).await?;
    if !seal {
        copy.armed.hide(&shown).await.map_err(of_qmp)?;
    }
    Ok(bytes)
}

/// Ships a round and has the target confirm it; of the last, the confirmation is the target's word `Sealed`.
async fn ship(road: &Road, copy: &mut Copy, parts: Vec<DiskRound>, seal: bool) -> Result<(), Failure> {
    let round = copy.round;
    let bitmaps: Vec<NbdPool> = parts
        .iter()
        .filter_map(|part| match &part.due {
            Due::Bitmap { pool, .. } => Some(pool.clone()),
            Due::Allocated | Due::TopLayer | Due::Digest | Due::Ranges(_) => None,
        })
        .collect();
    let totals = copy.sender.round(round, parts).await.map_err(|error| error.failure())?;
    if round == 0 {
        road.context.holds.at(Place::RoundZero).await;
    } else if seal {
        road.context.holds.at(Place::LastRound).await;
    }
    road.tell(FromSource::RoundEnd { round, totals, seal }).await?;
    for pool in bitmaps {
        pool.disconnect().await;
    }
    if seal {
        return Ok(());
    }
    match road.reply(ROUND_DONE_TIME_MAX, "round done").await? {
        FromTarget::RoundDone { round: done } if done == round => Ok(()),
        other => Err(unexpected(&other, "round done")),
    }
}

pub fn of_nbd(error: NbdError) -> Failure {
    Failure::new(FailureCode::QemuFailed, chain(&error))
}

pub fn ended() -> Failure {
    Failure::new(FailureCode::Internal, "the copy has ended already")
}
