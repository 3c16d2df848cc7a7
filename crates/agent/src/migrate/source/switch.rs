//! The switchover on the source: from the guest's stop to the moment when QEMU has given everything away.
//!
//! ```text
//! stop_guest        QMP stop                                   <- downtime begins
//! finish_rounds     last turn of the bitmaps, its chunks, RoundEnd{seal}   || QEMU sends the rest of RAM
//! (target: Sealed)
//! hand_state        exports gone · migrate-continue · completed · postmigrate
//! ```
//!
//! Ground rules: exports and extra nodes are gone before `migrate-continue`, or inactivation fails; `completed` is not
//! enough, the run state must be `postmigrate` (a `cont` in between is refused, and an abort needs it).

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use whimbrel_core::failure::{Failure, FailureCode};

use super::{
    arm,
    copy::{self, ended},
    road::{Road, of_qmp},
    stream,
};
use crate::hold::Place;

const PRE_SWITCHOVER_TIME_MAX: Duration = Duration::from_secs(60);
const COMPLETED_TIME_MAX: Duration = Duration::from_secs(30);
const POSTMIGRATE_TIME_MAX: Duration = Duration::from_secs(5);

pub async fn stop_guest(road: &Arc<Road>) -> Result<(), Failure> {
    let qmp = road.qmp()?;
    road.written_at_stop.store(road.guest_written_bytes().await?, Ordering::SeqCst);
    road.step("switching over");
    road.meter.begin("last_round");
    road.meter.guest_stops(Instant::now());
    qmp.execute("stop", json!({})).await.map_err(of_qmp)?;
    Ok(())
}

pub async fn finish_rounds(road: &Arc<Road>) -> Result<(), Failure> {
    let mut copy = road.copy.lock().await;
    let copy = copy.as_mut().ok_or_else(ended)?;
    copy::round(road, copy, true).await?;
    for pool in std::mem::take(&mut copy.pools) {
        pool.disconnect().await;
    }
    arm::disarm(&road.qmp()?).await.map_err(of_qmp)
}

pub async fn hand_state(road: &Arc<Road>) -> Result<(), Failure> {
    // The last round is over when the target sealed; its clean-up on this side may not be.
    drop(road.copy.lock().await);
    let qmp = road.qmp()?;
    road.meter.begin("state");
    stream::wait(road, stream::PRE_SWITCHOVER, PRE_SWITCHOVER_TIME_MAX).await?;
    qmp.execute("migrate-continue", json!({"state": stream::PRE_SWITCHOVER})).await.map_err(of_qmp)?;
    let ram = stream::wait(road, "completed", COMPLETED_TIME_MAX).await?;
    road.with_facts(|facts| {
        facts.ram_sent_bytes = ram.transferred_bytes;
        facts.ram_rounds = ram.passes;
    });
    wait_postmigrate(road).await?;
    road.context.holds.at(Place::StateSent).await;
    Ok(())
}

async fn wait_postmigrate(road: &Road) -> Result<(), Failure> {
    let qmp = road.qmp()?;
    let begun = Instant::now();
    loop {
        let status = qmp.execute("query-status", json!({})).await.map_err(of_qmp)?;
        match status["status"].as_str() {
            Some("postmigrate") => return Ok(()),
            other if begun.elapsed() > POSTMIGRATE_TIME_MAX => {
                let late = format!("QEMU completed the migration but is {other:?} and not postmigrate");
                return Err(Failure::new(FailureCode::QemuFailed, late));
            }
            _ => tokio::task::yield_now().await,
        }
    }
}
