//! Brings the source back to where it was before the move, from whatever state its QEMU is found in.
//!
//! Ground rules: works from what QEMU says, not from what a lost task remembers, so it also serves after a restart of the
//! agent; nothing that the move began is still at work when it looks; a guest that was paused before the move stays paused,
//! and none stays slowed down; a QEMU that died is not an error here, the report of the instance says it.

use std::time::{Duration, Instant};

use serde_json::json;
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_qmp::Qmp;

use super::{
    arm,
    road::{Road, of_qmp},
    throttle,
};

const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// `resume`: the guest is to run afterwards (this move stopped it, or the journal cannot say otherwise).
pub async fn undo(road: &Road, resume: bool) -> Result<(), Failure> {
    road.cancel.cancel();
    road.jobs.close();
    // A `stop` that is on its way would come after the look at the run state, and nobody would let the guest run again.
    road.jobs.wait().await;
    drop(road.copy.lock().await.take());
    road.link.lock().await.as_mut().map(|link| std::mem::take(&mut link.data));
    if road.ask.storage.is_shared() {
        road.context.instances.withdraw(road.ask.instance).await?;
    }
    let Ok(vm) = road.vm() else { return Ok(()) };
    let qmp = vm.qmp().clone();
    cancel_stream(&qmp).await?;
    arm::disarm(&qmp).await.map_err(of_qmp)?;
    if resume {
        let status = qmp.execute("query-status", json!({})).await.map_err(of_qmp)?;
        if status["running"].as_bool() != Some(true) {
            qmp.execute("cont", json!({})).await.map_err(of_qmp)?;
        }
        announce(&qmp).await;
    }
    throttle::lift(&qmp, &road.instance.spec()).await.map_err(of_qmp)
}

/// When QEMU says that its stream has ended, what it took from the vCPUs to let RAM converge is given back too: its migration
/// thread does that before it tells any end.
async fn cancel_stream(qmp: &Qmp) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let info = qmp.execute("query-migrate", json!({})).await.map_err(of_qmp)?;
        match info["status"].as_str().unwrap_or("none") {
            "none" | "cancelled" | "failed" | "completed" => break,
            "cancelling" => {}
            _ => {
                qmp.execute("migrate_cancel", json!({})).await.map_err(of_qmp)?;
            }
        }
        if begun.elapsed() > CANCEL_TIME_MAX {
            let detail = format!("QEMU does not end its migration within {} s of a cancel", CANCEL_TIME_MAX.as_secs());
            return Err(Failure::new(FailureCode::QemuFailed, detail));
        }
        tokio::time::sleep(POLL).await;
    }
    // `cont` is refused while the migration winds up: wait until the run state has left it.
    while begun.elapsed() < CANCEL_TIME_MAX {
        let status = qmp.execute("query-status", json!({})).await.map_err(of_qmp)?;
        if status["status"].as_str() != Some("finish-migrate") {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::new(FailureCode::QemuFailed, "QEMU stays in finish-migrate after a cancel"))
}

/// Tells the network again where the guest is. Only a help: the guest's own traffic does the same.
pub async fn announce(qmp: &Qmp) {
    let rounds = json!({"initial": 50, "max": 550, "rounds": 5, "step": 100});
    if let Err(error) = qmp.execute("announce-self", rounds).await {
        tracing::info!(%error, "the guest could not be announced");
    }
}
