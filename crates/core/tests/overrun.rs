//! A move that takes too long and a guest that stands still too long: when each is a failure, and when it never is.

use whimbrel_core::{
    failure::{Failure, FailureCode},
    migration::{
        overrun::{Clock, PAUSE_FACTOR, PAUSE_MS_MIN},
        source::{Phase, Switch},
    },
};

fn failure() -> Failure {
    Failure::new(FailureCode::Cancelled, "by the operator")
}

const SWITCHES: [Phase; 3] =
    [Phase::Switching(Switch::Stopping), Phase::Switching(Switch::Finishing), Phase::Switching(Switch::Loading)];

/// Late in every way.
fn late() -> Clock {
    Clock { elapsed_ms: u64::MAX, paused_ms: Some(u64::MAX), deadline_ms: Some(1), downtime_ms_max: 1 }
}

#[test]
fn a_deadline_ends_a_copy_at_any_moment_and_no_switchover() {
    let clock = Clock { elapsed_ms: 4_999, deadline_ms: Some(5_000), ..Clock::default() };
    for phase in [Phase::Preparing, Phase::Copying] {
        assert_eq!(clock.overrun(&phase), None);
        let failure = Clock { elapsed_ms: 5_000, ..clock }.overrun(&phase).expect("late");
        assert!(failure.code == FailureCode::DeadlinePassed && failure.detail.contains("5000 ms"), "{failure}");
        assert_eq!(Clock { deadline_ms: None, ..late() }.overrun(&phase), None, "nobody set a deadline");
    }
    for phase in SWITCHES {
        assert_eq!(Clock { paused_ms: Some(0), ..late() }.overrun(&phase), None, "{phase:?}");
    }
}

#[test]
fn a_guest_that_stands_still_too_long_before_commit_goes_on_at_the_source() {
    for (downtime_ms_max, bound_ms) in [(300, PAUSE_MS_MIN), (5_000, 5_000 * PAUSE_FACTOR), (u64::MAX, u64::MAX)] {
        let clock = |paused_ms| Clock { paused_ms, downtime_ms_max, ..Clock::default() };
        for phase in SWITCHES {
            assert_eq!(clock(None).overrun(&phase), None, "it runs");
            assert_eq!(clock(Some(bound_ms - 1)).overrun(&phase), None, "{phase:?} {downtime_ms_max}");
            let failure = clock(Some(bound_ms)).overrun(&phase).expect("stuck");
            assert!(failure.code == FailureCode::DeadlinePassed && failure.hint.is_some(), "{failure}");
        }
    }
}

#[test]
fn from_commit_on_time_decides_nothing() {
    let ends = [
        Phase::Idle,
        Phase::Committed,
        Phase::HandedOver { retired: false },
        Phase::HandedOver { retired: true },
        Phase::Aborting { failure: failure() },
        Phase::Aborted { failure: failure() },
        Phase::Reowned { failure: failure(), undone: false },
        Phase::Reowned { failure: failure(), undone: true },
    ];
    for phase in ends {
        assert_eq!(late().overrun(&phase), None, "{phase:?}");
    }
}
