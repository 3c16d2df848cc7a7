//! What lasts too long before COMMIT: the whole move, by the operator's deadline, and the guest's pause, by a bound of its own.
//!
//! Ground rules: an overrun is a failure like any other, so the guest goes on at the source. The operator's deadline counts
//! while the guest runs; a switchover that has begun is over sooner than an undo. The pause is bounded far above what the
//! policy forecast for it, so that it ends what is stuck and not what is slow. From COMMIT on nothing here applies.

use super::source::Phase;
use crate::failure::{Failure, FailureCode};

/// A pause this many times as long as the operator allows will not end by itself.
pub const PAUSE_FACTOR: u64 = 10;
/// A short allowance is no reason to give up at the first hiccup of a link or a disk.
pub const PAUSE_MS_MIN: u64 = 10_000;

/// Where a move stands in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    pub elapsed_ms: u64,
    /// Since the guest was told to stop.
    pub paused_ms: Option<u64>,
    /// The operator's, from the migration's start.
    pub deadline_ms: Option<u64>,
    pub downtime_ms_max: u64,
}

impl Clock {
    /// The longest pause before COMMIT.
    pub fn pause_ms_max(&self) -> u64 {
        self.downtime_ms_max.saturating_mul(PAUSE_FACTOR).max(PAUSE_MS_MIN)
    }

    /// What the machine is to be told has failed, if anything has.
    pub fn overrun(&self, phase: &Phase) -> Option<Failure> {
        match phase {
            Phase::Preparing | Phase::Copying => self.late(),
            Phase::Switching(_) => self.stuck(),
            Phase::Idle
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => None,
        }
    }

    fn late(&self) -> Option<Failure> {
        let deadline_ms = self.deadline_ms.filter(|deadline_ms| self.elapsed_ms >= *deadline_ms)?;
        let detail = format!("not switched over after {} ms; the deadline is {deadline_ms} ms", self.elapsed_ms);
        Some(
            Failure::new(FailureCode::DeadlinePassed, detail)
                .hint("set a later deadline, or give the move more bandwidth"),
        )
    }

    fn stuck(&self) -> Option<Failure> {
        let paused_ms = self.paused_ms.filter(|paused_ms| *paused_ms >= self.pause_ms_max())?;
        let detail = format!(
            "the guest stood still for {paused_ms} ms in the switchover; a pause of {} ms was allowed and up to {} ms is borne",
            self.downtime_ms_max,
            self.pause_ms_max()
        );
        let hint = "look at the link and at the target's disks, then move it again; the guest goes on at the source";
        Some(Failure::new(FailureCode::DeadlinePassed, detail).hint(hint))
    }
}
