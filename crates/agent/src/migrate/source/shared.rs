//! The copy of a guest whose disks the target sees where they are: RAM alone.
//!
//! ```text
//! move.json -> offer -> accept -> QEMU there, RAM goes -> converged -> the same switchover, with a last round of nothing
//! ```
//!
//! Ground rules: the same machine, words and journals as of a move with disks; no export, no bitmap, no data stream; QEMU
//! lets go of the files when it gives its state away (`migrate-continue`), and takes them back with `cont` when the move is
//! undone: until COMMIT nobody else may have opened them for writing.

use std::sync::{Arc, atomic::Ordering};

use whimbrel_core::{disk::CopyMode, failure::Failure};
use whimbrel_transfer::send::Sender;

use super::{
    arm::{self, Armed},
    copy, ram,
    road::{Copy, Reused, Road, of_qmp},
    stream,
};
use crate::{
    migrate::link::{FromSource, Offer},
    storage::shared::check_direct,
};

/// Returns when what is left of RAM fits the downtime budget.
pub async fn run(road: &Arc<Road>) -> Result<(), Failure> {
    road.meter.begin("prepare");
    road.step("offering the disks where they are");
    check_direct(&road.context.paths, &road.context.hypervisor)?;
    road.context.instances.offer(road.ask.instance, road.ask.migration).await?;
    let offer = Offer { streams: 0, ..copy::offer(road).await? };
    road.tell(FromSource::Offer(offer.clone())).await?;
    road.written_at_start.store(road.guest_written_bytes().await?, Ordering::SeqCst);
    let disks = copy::accepted(road, &offer).await?;
    copy::check_accepted(&offer, &disks)?;

    let qmp = road.qmp()?;
    arm::disarm(&qmp).await.map_err(of_qmp)?;
    let sender = Sender::start(Vec::new(), disks.iter().map(|disk| disk.name.clone()).collect());
    road.with_facts(|facts| {
        facts.mode = Some(CopyMode::Shared);
        facts.counters = Some(sender.counters());
        for disk in &mut facts.disks {
            (disk.due_bytes, disk.reused) = (0, Reused::AllBut);
        }
    });
    let armed = Armed::nothing(&qmp, &road.run_file("move.nbd"));
    *road.copy.lock().await = Some(Copy { armed, sender, pools: Vec::new(), disks, round: 0 });
    road.tell(FromSource::StartQemu).await?;
    road.meter.begin("rounds");
    let opened = stream::open(road).await?;
    ram::converge(road, Some(opened)).await
}
