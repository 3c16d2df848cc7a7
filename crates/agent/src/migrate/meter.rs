//! Measures a move on the source: phases, downtime, progress, and what the receipt is made of.
//!
//! Ground rules: monotonic clock only; the downtime is the source's share (stop to COMMIT sent) plus the target's (COMMIT
//! received to running) plus half a round trip between them, so that no two clocks are compared. The round trip is the
//! shortest hello that the target answered, over all streams of the move: it holds the target's few steps to its answer, but
//! nothing of what queues on a busy link when COMMIT travels. Where the target's share is not known, since its agent
//! restarted, the downtime lasts until the source hears that the guest runs: too long rather than too short.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::link::TargetReceipt;

/// The phases of the road in the order in which they come; keys of a receipt's `phases_ms`.
pub const PHASES: [&str; 10] =
    ["prepare", "image", "arm", "round_0", "rounds", "ram", "last_round", "state", "commit", "hand_over"];

#[derive(Debug)]
pub struct Meter {
    pub started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Begin of each phase that was reached.
    marks: Vec<(&'static str, Instant)>,
    stopped: Option<Instant>,
    committed: Option<Instant>,
    running: Option<Instant>,
    target: Option<TargetReceipt>,
    round_trip: Option<Duration>,
}

impl Meter {
    pub fn start() -> Self {
        Meter { started: Instant::now(), inner: Mutex::default() }
    }

    /// The phase begins now; the one before ends.
    pub fn begin(&self, phase: &'static str) {
        debug_assert!(PHASES.contains(&phase), "{phase} is no phase of the road");
        let mut inner = self.lock();
        if inner.marks.iter().all(|(name, _)| *name != phase) {
            inner.marks.push((phase, Instant::now()));
        }
    }

    /// The first stop counts: QEMU may stop a guest that dirties nothing before it is told to.
    pub fn guest_stops(&self, at: Instant) {
        let mut known = self.lock();
        known.stopped = Some(known.stopped.map_or(at, |stopped| stopped.min(at)));
    }

    pub fn commit_sent(&self) {
        self.lock().committed.get_or_insert(Instant::now());
    }

    /// The link was lost with the first, or before it: the target may have heard only this one.
    pub fn commit_repeated(&self) {
        self.lock().committed = Some(Instant::now());
    }

    pub fn guest_runs_on_target(&self) {
        self.lock().running.get_or_insert(Instant::now());
    }

    /// A question to the target was answered in this time.
    pub fn round_trip(&self, took: Duration) {
        let mut inner = self.lock();
        inner.round_trip = Some(inner.round_trip.map_or(took, |shortest| shortest.min(took)));
    }

    pub fn target_says(&self, receipt: TargetReceipt) {
        self.lock().target = Some(receipt);
    }

    pub fn target(&self) -> Option<TargetReceipt> {
        self.lock().target.clone()
    }

    pub fn total_ms(&self) -> u64 {
        let end = self.lock().running.unwrap_or_else(Instant::now);
        (end - self.started).as_millis() as u64
    }

    pub fn downtime_ms(&self) -> f64 {
        let inner = self.lock();
        let Some(stopped) = inner.stopped else { return 0.0 };
        let Some(target) = &inner.target else {
            return ms(inner.running.unwrap_or_else(Instant::now) - stopped);
        };
        let until_commit = inner.committed.unwrap_or_else(Instant::now) - stopped;
        ms(until_commit) + ms(inner.round_trip.unwrap_or_default()) / 2.0 + target.commit_to_running_ms
    }

    /// The move was measured from its beginning: this agent did not restart in the middle.
    pub fn is_whole(&self) -> bool {
        self.lock().marks.first().is_some_and(|(phase, _)| *phase == PHASES[0])
    }

    /// How long the guest is stopped so far, if it is.
    pub fn stopped_for(&self) -> Option<Duration> {
        self.lock().stopped.map(|stopped| stopped.elapsed())
    }

    /// From the first byte that travels to the guest's stop.
    pub fn copied_for(&self) -> Duration {
        let inner = self.lock();
        let begun = inner.marks.iter().find(|(name, _)| ["image", "round_0"].contains(name)).map(|(_, at)| *at);
        match (begun, inner.stopped) {
            (Some(begun), Some(stopped)) => stopped.saturating_duration_since(begun),
            (Some(_), None) | (None, _) => Duration::ZERO,
        }
    }

    pub fn phases_ms(&self) -> BTreeMap<String, f64> {
        let inner = self.lock();
        let end = inner.running.unwrap_or_else(Instant::now);
        let ends = inner.marks.iter().skip(1).map(|(_, at)| *at).chain([end]);
        let mut phases: BTreeMap<String, f64> = inner
            .marks
            .iter()
            .zip(ends)
            .map(|((name, begin), end)| ((*name).to_owned(), ms(end.saturating_duration_since(*begin))))
            .collect();
        for (name, took) in inner.target.iter().flat_map(|target| &target.phases_ms) {
            phases.insert(format!("target_{name}"), *took);
        }
        phases
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_downtime_holds_half_of_the_shortest_round_trip() {
        let meter = Meter::start();
        assert_eq!(meter.downtime_ms(), 0.0, "it did not stop");
        meter.guest_stops(Instant::now());
        meter.commit_sent();
        meter.target_says(TargetReceipt::default());
        let before = meter.downtime_ms();
        for took_ms in [90, 40, 70] {
            meter.round_trip(Duration::from_millis(took_ms));
        }
        meter.target_says(TargetReceipt { commit_to_running_ms: 5.0, ..TargetReceipt::default() });
        assert!((meter.downtime_ms() - before - 25.0).abs() < 0.01, "{} after {before}", meter.downtime_ms());
    }

    /// The agent of the target restarted with the guest in its hands: 73 ms were told where a second had passed.
    #[test]
    fn the_downtime_of_a_silent_target_lasts_until_its_guest_is_heard_of() {
        let meter = Meter::start();
        let stopped = Instant::now();
        meter.guest_stops(stopped);
        meter.lock().committed = Some(stopped + Duration::from_millis(73));
        meter.lock().running = Some(stopped + Duration::from_secs(1));
        assert_eq!(meter.downtime_ms(), 1000.0);
    }

    /// COMMIT was lost with the link: the seconds until it was said again were in nobody's share.
    #[test]
    fn the_downtime_holds_the_wait_for_a_commit_that_is_said_again() {
        let meter = Meter::start();
        meter.guest_stops(Instant::now() - Duration::from_secs(2));
        meter.lock().committed = Some(Instant::now() - Duration::from_secs(2));
        meter.commit_repeated();
        meter.target_says(TargetReceipt { commit_to_running_ms: 5.0, ..TargetReceipt::default() });
        assert!(meter.downtime_ms() >= 2005.0, "{}", meter.downtime_ms());
    }

    #[test]
    fn only_what_was_measured_from_its_beginning_is_whole() {
        let meter = Meter::start();
        assert!(!meter.is_whole());
        meter.begin("prepare");
        meter.begin("hand_over");
        assert!(meter.is_whole());
        let after_restart = Meter::start();
        after_restart.begin("hand_over");
        assert!(!after_restart.is_whole());
    }
}
