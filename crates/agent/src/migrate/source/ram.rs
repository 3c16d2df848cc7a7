//! The loop between round 0 and the switchover: what the policy decides, done.
//!
//! Ground rules: `core::convergence` decides and `core::estimate` forecasts, this file samples and acts; a look at RAM
//! costs one query, so the loop looks again after `pace_ms` of the policy, and ships a round whenever something is dirty.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use whimbrel_core::{
    convergence::{Decision, Limits, Policy, Sample, Throttle},
    failure::Failure,
};

use super::{
    copy::{self, ended, qemu_ready},
    road::{Copy, Road, of_qmp},
    stream::{self, Opened, PRE_SWITCHOVER, RamLook},
    throttle,
};
use crate::hold::Place;

/// At least between two looks at RAM when the disks are clean.
const LOOK: Duration = Duration::from_millis(20);
/// The pause that is aimed at first; the operator's limit is the last rung.
const DOWNTIME_MS_WANTED: u64 = 100;

/// Lets QEMU's stream go; returns when the target takes it. What QEMU sends before that waits in the sockets between them.
async fn start(road: &Arc<Road>, opened: Option<Opened>) -> Result<Instant, Failure> {
    road.step("RAM, and the rounds of the disks beside it");
    let opened = match opened {
        Some(opened) => opened,
        None => stream::open(road).await?,
    };
    stream::carry(road, opened);
    qemu_ready(road).await?;
    let began = Instant::now();
    road.context.holds.at(Place::Ram).await;
    Ok(began)
}

/// Rounds and RAM until the policy says `Switch`. `opened`: the RAM stream, where it was begun beside round 0.
pub async fn converge(road: &Arc<Road>, mut opened: Option<Opened>) -> Result<(), Failure> {
    let options = &road.ask.options;
    let mut policy = Policy::new(Limits {
        downtime_ms_max: options.downtime_ms_max.min(DOWNTIME_MS_WANTED),
        pause_ms_max: options.downtime_ms_max,
        allow_throttle: options.allow_throttle,
        deadline_ms: options.deadline_ms,
    });
    let mut ram = Ram { began: None, passes: 0, pass_began: None };
    let mut shipped = Shipped::round_0(road);
    loop {
        let sample = sample(road, &mut ram, &shipped).await?;
        if road.forced.load(Ordering::Relaxed) {
            policy.force();
        }
        match policy.decide(&sample) {
            Decision::Switch { forecast_ms } => {
                tracing::info!(migration = %road.ask.migration, forecast_ms, ?sample, "converged");
                return Ok(());
            }
            // A stream that has nothing left stops the guest by itself: nothing may be left to wait for then.
            Decision::StartRam if !*road.images_durable.borrow() => {}
            Decision::StartRam => {
                ram.began = Some(start(road, opened.take()).await?);
                road.meter.begin("ram");
            }
            Decision::Throttle(throttle) => slow_down(road, throttle).await?,
            Decision::GiveUp(failure) => return Err(failure),
            Decision::NextRound => {}
        }
        let floor = if sample.dirty_bytes == 0 { LOOK } else { Duration::ZERO };
        tokio::time::sleep(Duration::from_millis(policy.pace_ms(&sample)).max(floor)).await;
        shipped = next_round(road).await?;
    }
}

/// The round that has just ended.
struct Shipped {
    bytes: u64,
    took: Duration,
    /// How long the guest's writes were noted while it went on.
    armed: Duration,
    ended: Instant,
}

impl Shipped {
    fn round_0(road: &Road) -> Self {
        let bytes = road.with_facts(|facts| {
            facts.counted().map_or(0, |counted| counted.disks.iter().map(|disk| disk.sent_bytes).sum())
        });
        let phases_ms = road.meter.phases_ms();
        let took = |phase: &str| Duration::from_secs_f64(phases_ms.get(phase).copied().unwrap_or_default() / 1e3);
        let armed = took("round_0");
        Shipped { bytes, took: took("image") + armed, armed, ended: Instant::now() }
    }
}

async fn next_round(road: &Arc<Road>) -> Result<Shipped, Failure> {
    let begun = Instant::now();
    let mut copy = road.copy.lock().await;
    let bytes = copy::round(road, copy.as_mut().ok_or_else(ended)?, false).await?;
    let took = begun.elapsed();
    Ok(Shipped { bytes, took, armed: took, ended: Instant::now() })
}

struct Ram {
    began: Option<Instant>,
    passes: u64,
    pass_began: Option<Instant>,
}

async fn sample(road: &Road, ram: &mut Ram, shipped: &Shipped) -> Result<Sample, Failure> {
    let dirty_bytes: u64 = {
        let copy = road.copy.lock().await;
        let Copy { armed, .. } = copy.as_ref().ok_or_else(ended)?;
        armed.dirty_bytes().await?.into_iter().sum()
    };
    let since_round = shipped.ended.elapsed() + shipped.armed;
    let look = match ram.began {
        Some(_) => Some(stream::look(road).await?),
        None => None,
    };
    if let Some(look) = &look {
        stream::check(look)?;
    }
    let (ram_remaining_bytes, ram_bps) = match (&look, ram.began) {
        (Some(look), Some(began)) => (ram.left(look), rate(road.ram.from_qemu.get(), began.elapsed())),
        _ => (road.ram_bytes(), 0),
    };
    let sample = Sample {
        elapsed_ms: road.meter.total_ms(),
        round_ms: shipped.took.as_millis() as u64,
        round_bytes: shipped.bytes,
        dirty_bytes,
        dirty_bps: rate(dirty_bytes, since_round),
        ram_started: ram.began.is_some(),
        ram_remaining_bytes,
        ram_bps,
    };
    tracing::debug!(migration = %road.ask.migration, ?sample, ?look, "looked");
    road.with_facts(|facts| facts.sampled(&sample, look.as_ref()));
    Ok(sample)
}

impl Ram {
    /// What would be left to send if the guest stopped now. Within a pass, QEMU's `remaining` knows nothing of what was
    /// dirtied since the pass began: that is added from the dirty rate.
    fn left(&mut self, look: &RamLook) -> u64 {
        if look.passes > self.passes {
            self.passes = look.passes;
            self.pass_began = Some(Instant::now());
        }
        // A stream that was at its end before QEMU knew its own speed has had one pass, and waits to be let go.
        if look.status == PRE_SWITCHOVER {
            return look.remaining_bytes;
        }
        if look.passes < 2 {
            // In the first pass no dirty rate is known yet, and everything may be dirty again.
            return look.remaining_bytes.max(1 << 30);
        }
        let since = self.pass_began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        look.remaining_bytes + (look.dirty_bps as f64 * since) as u64
    }
}

fn rate(bytes: u64, over: Duration) -> u64 {
    match over.as_secs_f64() {
        seconds if seconds > 0.001 => (bytes as f64 / seconds) as u64,
        _ => 0,
    }
}

async fn slow_down(road: &Road, throttle: Throttle) -> Result<(), Failure> {
    let qmp = road.qmp()?;
    match throttle {
        Throttle::DiskWrite { bps_max } => {
            road.step(format!("the guest's disk writes are held to {bps_max} B/s together"));
            throttle::limit(&qmp, &road.instance.spec(), bps_max).await.map_err(of_qmp)
        }
        Throttle::Cpu { percent } if road.ask.options.allow_auto_converge => {
            road.step(format!("the guest's CPUs are slowed down by {percent} %"));
            let parameters = json!({"cpu-throttle-initial": percent, "cpu-throttle-increment": percent});
            qmp.execute("migrate-set-parameters", parameters).await.map(drop).map_err(of_qmp)
        }
        Throttle::Cpu { .. } => Ok(()),
        Throttle::Pause { downtime_ms_max } => {
            road.step(format!("a pause of up to {downtime_ms_max} ms is accepted"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 MiB of RAM went in one pass; that pass was taken for the first of many, and the move waited until it was given up.
    #[test]
    fn a_stream_that_waits_to_be_let_go_has_nothing_left() {
        let check = |status: &str, passes, want: u64| {
            let look = RamLook { status: status.to_owned(), passes, ..RamLook::default() };
            let mut ram = Ram { began: None, passes: 0, pass_began: None };
            assert_eq!(ram.left(&look), want, "{status} {passes}");
        };
        check("active", 1, 1 << 30);
        check("pre-switchover", 1, 0);
        check("active", 2, 0);
    }
}
