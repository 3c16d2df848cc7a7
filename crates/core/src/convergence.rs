//! When to go on copying, when to start RAM, when to stop the guest, and when to slow it down.
//!
//! ```text
//!  NextRound ... -> StartRam -> NextRound ... -> Switch
//!        \__ no progress: Throttle(disk writes) -> Throttle(vCPUs) -> Throttle(longer pause) -> GiveUp
//! ```
//!
//! Ground rules:
//! - What counts is what is *left* (dirty disk bytes and RAM together) against the downtime budget, never how long it took.
//! - A move is given up only for lack of progress on the last rung, or at the operator's own deadline.
//! - The guest is slowed down only when nothing got better for a while, one rung at a time, only as far as allowed, and
//!   only where it helps: disk writes when the disks hold the move up, vCPUs when RAM does.
//! - Rates are bytes per second.

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureCode};

pub const DOWNTIME_MS_MAX: u64 = 300;
/// Of a switchover that has nothing left to ship: stop, flush, device state, two fsyncs, cont.
pub const SWITCH_FIXED_MS: u64 = 50;
/// RAM starts when the disks need this little: what they get dirty again beside it is then small.
pub const RAM_START_LEFT_MS: u64 = 1_500;
/// Without a new best for this long, for `STALL_ROUNDS`, and for `STALL_PERCENT` of the time that what is left would take on
/// the link, the next rung is climbed.
pub const STALL_MS: u64 = 4_000;
/// Three times what the link needs for a new best: a third of it must at least get through.
const STALL_PERCENT: u64 = 3 * BETTER_PERCENT;
pub const STALL_ROUNDS: u32 = 3;
/// Longest wait between two rounds: RAM's passes take long, and a round costs the guest's QEMU a transaction.
pub const PACE_MS_MAX: u64 = 100;
/// On the last rung, this long without a new best is no progress (and so many times a stall).
pub const NO_PROGRESS_MS: u64 = 60_000;
const NO_PROGRESS_STALLS: u64 = 3;
/// A new best is at least this much better than the old.
const BETTER_PERCENT: u64 = 10;
/// A round that ships less says more of latency than of the link's rate.
const RATE_BYTES_MIN: u64 = 4 << 20;
/// Disk writes are never throttled below this.
pub const DISK_WRITE_BPS_MIN: u64 = 1 << 20;
/// The part of what is left that makes disks, or RAM, worth a throttle.
const SHARE_PERCENT: u64 = 25;

pub const GRANULARITY_BYTES_MIN: u32 = 4 << 10;
pub const GRANULARITY_BYTES_MAX: u32 = 64 << 10;
/// Fewer writes than this say nothing of the guest's habits.
const WRITE_OPS_MIN: u64 = 32;

/// How far the operator lets a move go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub downtime_ms_max: u64,
    /// A longer pause that is allowed when nothing else helps; none if not above `downtime_ms_max`.
    pub pause_ms_max: u64,
    /// May disk writes and vCPUs be slowed down?
    pub allow_throttle: bool,
    /// From the migration's start.
    pub deadline_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            downtime_ms_max: DOWNTIME_MS_MAX,
            pause_ms_max: DOWNTIME_MS_MAX,
            allow_throttle: true,
            deadline_ms: None,
        }
    }
}

/// What is known at the end of a disk round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub elapsed_ms: u64,
    /// The round that has just ended.
    pub round_ms: u64,
    pub round_bytes: u64,
    /// Of all disks, dirty now: the next round.
    pub dirty_bytes: u64,
    /// Rate at which the guest makes disk bytes dirty.
    pub dirty_bps: u64,
    pub ram_started: bool,
    /// As QEMU says; the guest's whole RAM before RAM starts.
    pub ram_remaining_bytes: u64,
    /// Rate of RAM on the wire; 0 before RAM starts.
    pub ram_bps: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    NextRound,
    /// Let QEMU's stream go; disk rounds go on beside it.
    StartRam,
    /// What is left fits the budget: stop the guest.
    Switch {
        forecast_ms: u64,
    },
    /// Slow the guest down (or allow a longer pause), announce it, go on with the next round.
    Throttle(Throttle),
    GiveUp(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Throttle {
    /// Limit of the guest's disk writes, all disks together.
    DiskWrite { bps_max: u64 },
    /// Auto-converge: share of time that is taken from the vCPUs.
    Cpu { percent: u8 },
    /// The budget is now this long.
    Pause { downtime_ms_max: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    /// Percent of the link's rate.
    Disk(u64),
    Cpu(u8),
    Pause,
}

/// A pause that would last longer is no end of a move but an outage.
pub const FORCED_PAUSE_MS_MAX: u64 = 60_000;

const LADDER: [Rung; 7] =
    [Rung::Disk(50), Rung::Disk(25), Rung::Disk(10), Rung::Cpu(20), Rung::Cpu(50), Rung::Cpu(80), Rung::Pause];

/// Remembers of the move what a decision needs; one per migration, a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    limits: Limits,
    budget_ms: u64,
    /// Rungs that were climbed or skipped.
    climbed: usize,
    /// Smoothed, disks and RAM together; 0 before the first round.
    link_bps: u64,
    best_left_bytes: u64,
    best_at_ms: u64,
    rounds_since_best: u32,
    ram_started: bool,
}

impl Policy {
    pub fn new(limits: Limits) -> Self {
        Policy {
            limits,
            budget_ms: limits.downtime_ms_max,
            climbed: 0,
            link_bps: 0,
            best_left_bytes: u64::MAX,
            best_at_ms: 0,
            rounds_since_best: 0,
            ram_started: false,
        }
    }

    /// The operator wants the end now: from here on a pause of up to [`FORCED_PAUSE_MS_MAX`] is as good as none.
    pub fn force(&mut self) {
        self.limits.pause_ms_max = self.limits.pause_ms_max.max(FORCED_PAUSE_MS_MAX);
        self.budget_ms = self.budget_ms.max(FORCED_PAUSE_MS_MAX);
    }

    /// The budget now: the operator's, or the longer pause that was announced.
    pub fn downtime_ms_max(&self) -> u64 {
        self.budget_ms
    }

    /// Call after each disk round; a round without dirty bytes is one too.
    pub fn decide(&mut self, sample: &Sample) -> Decision {
        self.learn(sample);
        let disk_ms = self.ship_ms(sample.dirty_bytes);
        let forecast_ms = self.forecast_ms(sample);
        if sample.ram_started && forecast_ms <= self.budget_ms {
            return Decision::Switch { forecast_ms };
        }
        if let Some(deadline_ms) = self.limits.deadline_ms.filter(|deadline_ms| sample.elapsed_ms >= *deadline_ms) {
            return Decision::GiveUp(self.late(sample, deadline_ms, forecast_ms));
        }
        if !sample.ram_started && disk_ms <= RAM_START_LEFT_MS.max(self.budget_ms) {
            return Decision::StartRam;
        }
        let stalled_ms = sample.elapsed_ms.saturating_sub(self.best_at_ms);
        let stall_ms = STALL_MS.max(ratio(self.ship_ms(self.best_left_bytes), STALL_PERCENT, 100));
        if stalled_ms < stall_ms || self.rounds_since_best < STALL_ROUNDS {
            return Decision::NextRound;
        }
        match self.climb(sample) {
            Some(throttle) => {
                // Each rung has its own time to show what it is good for.
                self.forget_best(sample.elapsed_ms);
                Decision::Throttle(throttle)
            }
            None if stalled_ms >= NO_PROGRESS_MS.max(stall_ms.saturating_mul(NO_PROGRESS_STALLS)) => {
                Decision::GiveUp(self.no_progress(sample, forecast_ms))
            }
            None => Decision::NextRound,
        }
    }

    /// How long to wait before the next round: not at all while the disks have work or the end is near.
    pub fn pace_ms(&self, sample: &Sample) -> u64 {
        let far_ms = self.forecast_ms(sample).saturating_sub(self.budget_ms);
        match self.ship_ms(sample.dirty_bytes) >= PACE_MS_MAX {
            true => 0,
            false => (far_ms / 4).min(PACE_MS_MAX),
        }
    }

    /// Pause of the guest if it were stopped now.
    pub fn forecast_ms(&self, sample: &Sample) -> u64 {
        SWITCH_FIXED_MS.saturating_add(self.ship_ms(sample.dirty_bytes.saturating_add(sample.ram_remaining_bytes)))
    }

    fn learn(&mut self, sample: &Sample) {
        let round_bps = bps(sample.round_bytes, sample.round_ms);
        let measured_bps = round_bps.saturating_add(sample.ram_bps);
        let telling = sample.round_bytes >= RATE_BYTES_MIN || sample.ram_bps > 0;
        if self.link_bps == 0 || (telling && measured_bps > self.link_bps) {
            self.link_bps = measured_bps;
        } else if telling && sample.round_bytes >= RATE_BYTES_MIN {
            self.link_bps = (self.link_bps / 4) * 3 + measured_bps / 4;
        }
        if sample.ram_started != self.ram_started {
            self.ram_started = sample.ram_started;
            self.forget_best(sample.elapsed_ms);
        }
        let left = left_bytes(sample);
        self.rounds_since_best = self.rounds_since_best.saturating_add(1);
        if left < self.best_left_bytes - self.best_left_bytes / 100 * BETTER_PERCENT {
            self.best_left_bytes = left;
            self.best_at_ms = sample.elapsed_ms;
            self.rounds_since_best = 0;
        }
    }

    fn forget_best(&mut self, elapsed_ms: u64) {
        self.best_left_bytes = u64::MAX;
        self.best_at_ms = elapsed_ms;
        self.rounds_since_best = 0;
    }

    fn climb(&mut self, sample: &Sample) -> Option<Throttle> {
        while let Some(rung) = LADDER.get(self.climbed) {
            let step = self.take(*rung, sample);
            let again = *rung == Rung::Pause && step.is_some();
            if !again {
                self.climbed += 1;
            }
            if step.is_some() {
                return step;
            }
        }
        None
    }

    /// `None` if the rung is not allowed, or would not help.
    fn take(&mut self, rung: Rung, sample: &Sample) -> Option<Throttle> {
        let left = left_bytes(sample);
        let weighs = |bytes: u64| bytes > 0 && bytes >= left / 100 * SHARE_PERCENT;
        match rung {
            Rung::Disk(percent) => (self.limits.allow_throttle && weighs(sample.dirty_bytes)).then(|| {
                let bps_max = (self.link_bps / 100 * percent).max(DISK_WRITE_BPS_MIN);
                Throttle::DiskWrite { bps_max }
            }),
            Rung::Cpu(percent) => {
                let helps = sample.ram_started && weighs(sample.ram_remaining_bytes);
                (self.limits.allow_throttle && helps).then_some(Throttle::Cpu { percent })
            }
            Rung::Pause => (self.budget_ms < self.limits.pause_ms_max).then(|| {
                self.budget_ms = self.budget_ms.max(1).saturating_mul(2).min(self.limits.pause_ms_max);
                Throttle::Pause { downtime_ms_max: self.budget_ms }
            }),
        }
    }

    fn ship_ms(&self, bytes: u64) -> u64 {
        match (bytes, self.link_bps) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (bytes, link_bps) => ratio(bytes, 1_000, link_bps),
        }
    }

    fn late(&self, sample: &Sample, deadline_ms: u64, forecast_ms: u64) -> Failure {
        let detail =
            format!("not finished at the deadline of {deadline_ms} ms: {}", self.state_in_words(sample, forecast_ms));
        Failure::new(FailureCode::DeadlinePassed, detail).hint("set a later deadline, or allow a longer pause")
    }

    fn no_progress(&self, sample: &Sample, forecast_ms: u64) -> Failure {
        let detail = format!(
            "no progress for {} ms: {}",
            sample.elapsed_ms.saturating_sub(self.best_at_ms),
            self.state_in_words(sample, forecast_ms)
        );
        let hint = match self.limits.allow_throttle {
            true => "allow a longer pause, or move it when the guest writes less",
            false => "allow the guest to be throttled, allow a longer pause, or move it when the guest writes less",
        };
        Failure::new(FailureCode::NoProgress, detail).hint(hint)
    }

    fn state_in_words(&self, sample: &Sample, forecast_ms: u64) -> String {
        format!(
            "{} disk and {} RAM bytes are left, the guest dirties {} B/s of disk, the link carries {} B/s; the pause would be \
             {forecast_ms} ms, allowed are {} ms",
            sample.dirty_bytes, sample.ram_remaining_bytes, sample.dirty_bps, self.link_bps, self.budget_ms
        )
    }
}

/// Granularity of the dirty bitmaps: near the guest's mean write, so that a small write does not ship a large block.
/// `write_ops` and `write_bytes` are QEMU's counters (or a difference of two readings).
pub fn bitmap_granularity(write_ops: u64, write_bytes: u64) -> u32 {
    if write_ops < WRITE_OPS_MIN {
        return GRANULARITY_BYTES_MAX;
    }
    let mean = write_bytes / write_ops;
    let clamped = mean.clamp(u64::from(GRANULARITY_BYTES_MIN), u64::from(GRANULARITY_BYTES_MAX)) as u32;
    1 << clamped.ilog2()
}

fn left_bytes(sample: &Sample) -> u64 {
    match sample.ram_started {
        true => sample.dirty_bytes.saturating_add(sample.ram_remaining_bytes),
        false => sample.dirty_bytes,
    }
}

/// 0 for a round too short to tell.
fn bps(bytes: u64, ms: u64) -> u64 {
    match ms {
        0 => 0,
        ms => ratio(bytes, 1_000, ms),
    }
}

/// `value * numerator / denominator` without overflow; the denominator is not 0.
pub(crate) fn ratio(value: u64, numerator: u64, denominator: u64) -> u64 {
    let wide = u128::from(value) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(wide).unwrap_or(u64::MAX)
}
