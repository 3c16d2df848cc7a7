//! The bar and the time left of a running migration.
//!
//! Ground rules: the bar never goes backwards and says 1000 only when told that all is done; the time left is a range, or
//! nothing when nothing honest can be said. What the guest makes dirty again is expected to come on top, so the bar does
//! not run ahead and then stand still. Rates are bytes per second.

use serde::{Deserialize, Serialize};

use crate::convergence::ratio;

/// Until the end is told, the bar stays below 1000.
const PERMILLE_RUNNING_MAX: u16 = 995;
/// Guests dirty in bursts: more than this share of the rate is expected to pass.
const DIRTY_PERCENT_MAX: u64 = 90;
/// Weight of the newest reading, as one part in so many.
const SMOOTHING: u64 = 4;
/// A forecast beyond this is no forecast.
const REMAINING_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// One reading: disks and RAM together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Shipped or found unneeded so far.
    pub done_bytes: u64,
    /// Known to be due: rest of this round, dirty bytes, RAM remaining.
    pub left_bytes: u64,
    pub rate_bps: u64,
    pub dirty_bps: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimator {
    permille: u16,
    rate_bps: u64,
    dirty_bps: u64,
    left_bytes: u64,
    finished: bool,
}

impl Estimator {
    pub fn feed(&mut self, reading: &Reading) {
        self.rate_bps = smooth(self.rate_bps, reading.rate_bps);
        self.dirty_bps = smooth(self.dirty_bps, reading.dirty_bps);
        self.left_bytes = reading.left_bytes;
        let expected = self.expected_left_bytes();
        let total = reading.done_bytes.saturating_add(expected);
        if total > 0 {
            let now = ratio(reading.done_bytes, 1_000, total).min(u64::from(PERMILLE_RUNNING_MAX)) as u16;
            self.permille = self.permille.max(now);
        }
    }

    /// The guest runs on the target.
    pub fn finish(&mut self) {
        self.finished = true;
        self.permille = 1_000;
    }

    pub fn permille(&self) -> u16 {
        self.permille
    }

    /// At best: the guest writes nothing more. At worst: it goes on as now. `None` when it writes as fast as the link, or
    /// nothing has travelled yet.
    pub fn remaining_ms(&self) -> Option<(u64, u64)> {
        if self.finished {
            return Some((0, 0));
        }
        if self.rate_bps == 0 || self.dirty_bps >= self.rate_bps {
            return None;
        }
        let best = ratio(self.left_bytes, 1_000, self.rate_bps);
        let worst = ratio(self.left_bytes, 1_000, self.rate_bps - self.dirty_bps);
        (worst <= REMAINING_MS_MAX).then_some((best, worst))
    }

    /// What is left and what the guest will add while it travels.
    fn expected_left_bytes(&self) -> u64 {
        let dirty_percent = match self.rate_bps {
            0 => 0,
            rate_bps => ratio(self.dirty_bps, 100, rate_bps).min(DIRTY_PERCENT_MAX),
        };
        ratio(self.left_bytes, 100, 100 - dirty_percent)
    }
}

fn smooth(old: u64, new: u64) -> u64 {
    match old {
        0 => new,
        old => old - old / SMOOTHING + new / SMOOTHING,
    }
}
