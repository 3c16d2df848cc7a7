//! How long a side is waited for.
//!
//! | phase | waited for | no longer than | then |
//! |---|---|---|---|
//! | preparing | the target, which alone is asked | `SILENCE_MAX` of silence | give up: the source was never asked |
//! | running | a source that never answered | `SILENCE_MAX` | give up: ask it to stay as it is |
//! | clearing | the target | `CLEARING_SILENCE_MAX` of silence, `CLEARING_MAX` in all | let the server go, the target owes |
//!
//! Everywhere else a side is waited for as long as it takes, since only it knows what became of the guest.

use std::time::Duration;

use tokio::time::Instant;
use whimbrel_api::agent::Role;
use whimbrel_core::{
    failure::Failure,
    migration::coordinator::{Event, Phase},
};

const SILENCE_MAX: Duration = Duration::from_secs(20);
/// The guest is safe and nothing is lost by going on without the target: a restart of its agent is waited for, no more.
const CLEARING_SILENCE_MAX: Duration = Duration::from_secs(5);
/// A target that answers and yet does not come to an end: its disks may be large, or its QEMU may not die.
const CLEARING_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Patience {
    /// Since when the migration is in its phase, as far as this controller saw it.
    since: Instant,
    source_heard: Option<Instant>,
    target_heard: Option<Instant>,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Patience { since: now, source_heard: None, target_heard: None }
    }

    pub(super) fn moved(&mut self, now: Instant) {
        self.since = now;
    }

    /// Whatever the answer was.
    pub(super) fn heard(&mut self, role: Role, now: Instant) {
        match role {
            Role::Source => self.source_heard = Some(now),
            Role::Target => self.target_heard = Some(now),
        }
    }

    /// A side gave no answer, for the reason given.
    pub(super) fn silent(&self, phase: &Phase, role: Role, failure: Failure, now: Instant) -> Option<Event> {
        let hopeless = match (phase, role) {
            (Phase::Preparing, Role::Target) => self.target_silent_for(now) > SILENCE_MAX,
            (Phase::Running, Role::Source) => self.source_heard.is_none() && now - self.since > SILENCE_MAX,
            (Phase::Preparing, Role::Source)
            | (Phase::Running, Role::Target)
            | (
                Phase::Queued
                | Phase::Cancelling { .. }
                | Phase::Clearing { .. }
                | Phase::Owing { .. }
                | Phase::Settling
                | Phase::Done(_),
                Role::Source | Role::Target,
            ) => false,
        };
        hopeless.then_some(Event::GiveUp { failure })
    }

    pub(super) fn overdue(&self, phase: &Phase, now: Instant) -> Option<Event> {
        match phase {
            Phase::Clearing { .. } => {
                let overdue = self.target_silent_for(now) > CLEARING_SILENCE_MAX || now - self.since > CLEARING_MAX;
                overdue.then_some(Event::TargetOverdue)
            }
            Phase::Queued
            | Phase::Preparing
            | Phase::Running
            | Phase::Cancelling { .. }
            | Phase::Owing { .. }
            | Phase::Settling
            | Phase::Done(_) => None,
        }
    }

    /// In this phase: nobody counts how long it was silent while nobody asked.
    fn target_silent_for(&self, now: Instant) -> Duration {
        now - self.target_heard.map_or(self.since, |heard| heard.max(self.since))
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_core::failure::FailureCode;

    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn failure() -> Failure {
        Failure::new(FailureCode::HostDown, "no answer")
    }

    fn clearing() -> Phase {
        Phase::Clearing { failure: failure() }
    }

    #[test]
    fn a_target_that_is_lost_while_it_prepares_is_given_up_though_it_had_answered() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        patience.heard(Role::Target, begun + SHORT);
        let after = |time: Duration| patience.silent(&Phase::Preparing, Role::Target, failure(), begun + time);
        assert_eq!(after(SILENCE_MAX), None);
        assert_eq!(after(SILENCE_MAX + SHORT * 2), Some(Event::GiveUp { failure: failure() }));
    }

    #[test]
    fn a_source_that_answered_once_is_waited_for() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        let late = begun + SILENCE_MAX * 100;
        let given_up = Some(Event::GiveUp { failure: failure() });
        assert_eq!(patience.silent(&Phase::Running, Role::Source, failure(), late), given_up);
        patience.moved(late);
        assert_eq!(patience.silent(&Phase::Running, Role::Source, failure(), late + SHORT), None, "asked just now");
        patience.heard(Role::Source, late);
        let later = late + SILENCE_MAX * 2;
        for phase in [Phase::Running, Phase::Cancelling { failure: failure() }, Phase::Settling] {
            for role in [Role::Source, Role::Target] {
                assert_eq!(patience.silent(&phase, role, failure(), later), None, "{phase:?} {role:?}");
                assert_eq!(patience.overdue(&phase, later), None, "{phase:?}");
            }
        }
    }

    #[test]
    fn a_target_that_does_not_clear_is_overdue_be_it_silent_or_slow() {
        let mut patience = Patience::new(Instant::now());
        let begun = Instant::now() + CLEARING_MAX;
        patience.moved(begun);
        assert_eq!(patience.overdue(&clearing(), begun + CLEARING_SILENCE_MAX), None);
        assert_eq!(patience.overdue(&clearing(), begun + CLEARING_SILENCE_MAX + SHORT), Some(Event::TargetOverdue));
        let answering = begun + CLEARING_MAX;
        patience.heard(Role::Target, answering);
        assert_eq!(patience.overdue(&clearing(), answering), None);
        patience.heard(Role::Target, answering + SHORT);
        assert_eq!(patience.overdue(&clearing(), answering + SHORT), Some(Event::TargetOverdue));
    }
}
