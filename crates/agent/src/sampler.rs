//! What a guest does by itself, once a second: how fast it writes and how much CPU its QEMU takes.
//!
//! One `query-blockstats` per second and guest; the ring holds the last [`SAMPLES_MAX`] readings. Rates are differences of
//! readings over their own distance in time, so a late reading makes no error.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use whimbrel_qmp::Qmp;

use crate::cpu;

pub const SAMPLES_MAX: usize = 31;
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const USUAL_OVER_MIN: Duration = Duration::from_secs(10);
/// A guest whose rate stays within `STEADY_PERCENT` of its mean for this long is not one that writes in bursts.
const STEADY_OVER: Duration = Duration::from_secs(5);
const STEADY_PERCENT: f64 = 25.0;
const TELLING_STEADY: Duration = Duration::from_secs(2);
const TELLING: Duration = Duration::from_secs(5);
/// Window of the rate in reports.
pub const REPORT_WINDOW: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    wr_bytes: u64,
    wr_operations: u64,
    cpu_seconds: f64,
}

/// What was written over the ring's whole window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    pub operations: u64,
    pub bytes: u64,
}

/// What a guest usually writes to all its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualWrites {
    pub bps: u64,
    /// Of less time than this no rate can be compared with it.
    pub telling: Duration,
}

#[derive(Debug, Default)]
pub struct Sampler {
    ring: Mutex<VecDeque<Sample>>,
}

impl Sampler {
    /// Takes one reading. A QEMU that does not answer leaves none.
    pub async fn sample(&self, qmp: &Qmp, pid: u32) {
        let Ok(stats) = qmp.within(SAMPLE_EVERY).query_blockstats().await else { return };
        let Some(cpu_seconds) = cpu::seconds_of(pid) else { return };
        self.push(Sample {
            at: Instant::now(),
            wr_bytes: stats.iter().map(|disk| disk.stats.wr_bytes).sum(),
            wr_operations: stats.iter().map(|disk| disk.stats.wr_operations).sum(),
            cpu_seconds,
        });
    }

    fn push(&self, sample: Sample) {
        let mut ring = self.ring();
        ring.push_back(sample);
        if ring.len() > SAMPLES_MAX {
            ring.pop_front();
        }
    }

    /// Bytes per second written to all disks over `last`; 0 while too little is known.
    pub fn write_bps_over(&self, last: Duration) -> u64 {
        self.over(last, |from, to, took_s| (to.wr_bytes.saturating_sub(from.wr_bytes) as f64 / took_s) as u64)
    }

    /// A guest's page cache writes in bursts some seconds apart: unless the rate is steady, nothing is said of less than
    /// `USUAL_OVER_MIN`.
    pub fn usual_writes(&self) -> Option<UsualWrites> {
        let steady = self.steady_write_bps().map(|bps| UsualWrites { bps, telling: TELLING_STEADY });
        steady.or_else(|| {
            self.over(Duration::MAX, |from, to, took_s| {
                let bps = (to.wr_bytes.saturating_sub(from.wr_bytes) as f64 / took_s) as u64;
                (took_s >= USUAL_OVER_MIN.as_secs_f64()).then_some(UsualWrites { bps, telling: TELLING })
            })
        })
    }

    fn steady_write_bps(&self) -> Option<u64> {
        let ring = self.ring();
        let newest = ring.back()?;
        let first = ring.iter().rposition(|sample| newest.at - sample.at >= STEADY_OVER)?;
        let rate = |from: &Sample, to: &Sample| {
            to.wr_bytes.saturating_sub(from.wr_bytes) as f64 / (to.at - from.at).as_secs_f64().max(0.001)
        };
        let mean = rate(&ring[first], newest);
        let mut rates = ring.range(first..).zip(ring.range(first + 1..)).map(|(from, to)| rate(from, to));
        rates.all(|rate| (rate - mean).abs() <= mean * STEADY_PERCENT / 100.0).then_some(mean as u64)
    }

    pub fn write_stats(&self) -> WriteStats {
        self.over(Duration::MAX, |from, to, _| WriteStats {
            operations: to.wr_operations.saturating_sub(from.wr_operations),
            bytes: to.wr_bytes.saturating_sub(from.wr_bytes),
        })
    }

    /// CPU seconds of QEMU per second over `last`.
    pub fn cpu_rate_over(&self, last: Duration) -> f64 {
        self.over(last, |from, to, took_s| (to.cpu_seconds - from.cpu_seconds).max(0.0) / took_s)
    }

    /// Of the newest reading and the oldest that is not older than `last`.
    fn over<T: Default>(&self, last: Duration, rate: impl FnOnce(&Sample, &Sample, f64) -> T) -> T {
        let ring = self.ring();
        let Some(newest) = ring.back() else { return T::default() };
        let oldest = ring.iter().find(|sample| newest.at - sample.at <= last);
        match oldest.map(|oldest| (oldest, (newest.at - oldest.at).as_secs_f64())) {
            Some((oldest, took_s)) if took_s > 0.0 => rate(oldest, newest, took_s),
            Some(_) | None => T::default(),
        }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, VecDeque<Sample>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_window_that_was_asked() {
        let sampler = Sampler::default();
        assert_eq!(sampler.write_bps_over(REPORT_WINDOW), 0);
        assert_eq!(sampler.usual_writes(), None);
        let begun = Instant::now();
        for second in 0..100u64 {
            // 10 bytes a second, then from second 95 on 1000.
            let wr_bytes = if second < 95 { second * 10 } else { 940 + (second - 94) * 1000 };
            let at = begun + Duration::from_secs(second);
            sampler.push(Sample { at, wr_bytes, wr_operations: second * 2, cpu_seconds: second as f64 / 4.0 });
            assert_eq!(sampler.usual_writes().is_some(), second >= 5, "after {second} s");
            if (5..95).contains(&second) {
                assert_eq!(sampler.usual_writes(), Some(UsualWrites { bps: 10, telling: TELLING_STEADY }));
            }
        }
        assert_eq!(sampler.write_bps_over(REPORT_WINDOW), 1000);
        assert_eq!(sampler.write_bps_over(Duration::from_secs(1)), 1000);
        assert_eq!(sampler.write_bps_over(Duration::ZERO), 0);
        assert_eq!(sampler.usual_writes(), Some(UsualWrites { bps: 1000, telling: TELLING_STEADY }));
        assert_eq!(sampler.write_stats().operations, 60);
        assert!((sampler.cpu_rate_over(REPORT_WINDOW) - 0.25).abs() < 1e-9);
        assert!(sampler.ring().len() <= SAMPLES_MAX);
    }

    #[test]
    fn of_a_guest_that_writes_in_bursts_little_time_says_nothing() {
        let sampler = Sampler::default();
        let begun = Instant::now();
        for second in 0..31u64 {
            let at = begun + Duration::from_secs(second);
            sampler.push(Sample { at, wr_bytes: second / 5 * 1000, wr_operations: 0, cpu_seconds: 0.0 });
            let usual = sampler.usual_writes();
            assert_eq!(usual.is_some(), second >= 10, "after {second} s: {usual:?}");
            assert!(usual.is_none_or(|usual| usual.telling == TELLING), "{usual:?}");
        }
        assert_eq!(sampler.usual_writes().map(|usual| usual.bps), Some(200));
    }
}
