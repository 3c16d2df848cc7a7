//! The coordinator's machine: it observes and asks; who owns the guest is not its decision.
//!
//! Ground rules beside those of [`super`]: `Tick` asks again, so a lost ask or report only costs time. The target is told
//! to discard only after the source has durably said that it keeps the guest (or was never asked: the journal says so,
//! since `Running` is persisted before the first Send). `Close` ends the migration in one transaction with the phase: the
//! claim on the host without the guest is released and the instance's host written.

use serde::{Deserialize, Serialize};

use super::{
    Note,
    message::{AskSource, AskTarget, ToSource, ToTarget},
    source, target,
};
use crate::failure::{Failure, FailureCode};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted and claimed; waits for a slot.
    Queued,
    /// Asks the target to make room. The source has never been asked.
    Preparing,
    /// Asks the source to move the guest.
    Running,
    /// Asks the source to give up. It may still answer that it is too late.
    Cancelling { failure: Failure },
    /// The source keeps the guest; asks the target to leave nothing behind.
    Clearing { failure: Failure },
    /// The target has the guest; the source retires its copy.
    Settling,
    /// An end.
    Done(Outcome),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guest is the target's.
    Completed,
    /// The guest stayed at the source because somebody asked.
    Cancelled,
    Failed {
        failure: Failure,
        guest_at: Side,
    },
}

/// What the outside is told, in Nova's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Queued,
    Preparing,
    Running,
    PostMigrating,
    Cancelling,
    Completed,
    Cancelled,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Source,
    Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A slot is free.
    Begin,
    /// The operator's cancel.
    Cancel,
    /// The shell gives up on it: a deadline passed, a host is gone.
    GiveUp {
        failure: Failure,
    },
    SourceIs(source::Phase),
    TargetIs(target::Phase),
    /// Ask again for what may have been lost. Also after a restart of the controller.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    TellSource(AskSource),
    TellTarget(AskTarget),
    /// In the transaction that stores `next`: release the claim that is not needed any more, write the instance's host.
    Close(Outcome),
}

pub type Step = super::Step<Phase, Effect>;

impl Phase {
    pub fn is_end(&self) -> bool {
        match self {
            Phase::Done(_) => true,
            Phase::Queued
            | Phase::Preparing
            | Phase::Running
            | Phase::Cancelling { .. }
            | Phase::Clearing { .. }
            | Phase::Settling => false,
        }
    }

    /// Where the guest is, as far as it is settled: then it may be asked to do something else.
    pub fn guest_at(&self) -> Option<Side> {
        match self {
            Phase::Queued | Phase::Preparing | Phase::Running | Phase::Cancelling { .. } => None,
            Phase::Clearing { .. } => Some(Side::Source),
            Phase::Settling => Some(Side::Target),
            Phase::Done(Outcome::Completed) => Some(Side::Target),
            Phase::Done(Outcome::Cancelled) => Some(Side::Source),
            Phase::Done(Outcome::Failed { guest_at, .. }) => Some(*guest_at),
        }
    }

    pub fn status(&self) -> Status {
        match self {
            Phase::Queued => Status::Queued,
            Phase::Preparing => Status::Preparing,
            Phase::Running => Status::Running,
            Phase::Cancelling { .. } | Phase::Clearing { .. } => Status::Cancelling,
            Phase::Settling => Status::PostMigrating,
            Phase::Done(Outcome::Completed) => Status::Completed,
            Phase::Done(Outcome::Cancelled) => Status::Cancelled,
            Phase::Done(Outcome::Failed { .. }) => Status::Failed,
        }
    }

    pub fn step(&self, event: &Event) -> Step {
        match event {
            Event::Begin => self.begin(),
            Event::Cancel => self.give_up(&cancelled()),
            Event::GiveUp { failure } => self.give_up(failure),
            Event::SourceIs(source) => self.source_is(source),
            Event::TargetIs(target) => self.target_is(target),
            Event::Tick => self.tick(),
        }
    }

    fn begin(&self) -> Step {
        match self {
            Phase::Queued => self.go(Phase::Preparing, vec![Effect::TellTarget(AskTarget::Receive)]),
            Phase::Preparing
            | Phase::Running
            | Phase::Cancelling { .. }
            | Phase::Clearing { .. }
            | Phase::Settling
            | Phase::Done(_) => self.stay(Note::AlreadySo, vec![]),
        }
    }

    fn give_up(&self, failure: &Failure) -> Step {
        match self {
            Phase::Queued => self.close(kept(failure)),
            Phase::Preparing => self.clear(failure),
            Phase::Running => self.cancel(failure, vec![]),
            Phase::Cancelling { .. } | Phase::Clearing { .. } => self.stay(Note::AlreadySo, vec![]),
            Phase::Settling | Phase::Done(_) => self.stay(Note::TooLate, vec![]),
        }
    }

    fn source_is(&self, source: &source::Phase) -> Step {
        match self {
            Phase::Queued | Phase::Preparing => match source {
                source::Phase::Idle => self.stay(Note::Stale, vec![]),
                source::Phase::Preparing
                | source::Phase::Copying
                | source::Phase::Switching(_)
                | source::Phase::Committed
                | source::Phase::HandedOver { .. }
                | source::Phase::Aborting { .. }
                | source::Phase::Aborted { .. }
                | source::Phase::Reowned { .. } => self.stay(Note::Contradiction, vec![]),
            },
            Phase::Running | Phase::Cancelling { .. } => self.asked_source_is(source),
            Phase::Settling => match source {
                source::Phase::HandedOver { retired: true } => self.close(Outcome::Completed),
                source::Phase::Idle
                | source::Phase::Preparing
                | source::Phase::Copying
                | source::Phase::Switching(_)
                | source::Phase::Committed
                | source::Phase::HandedOver { retired: false } => self.stay(Note::Waiting, vec![]),
                source::Phase::Aborting { .. } | source::Phase::Aborted { .. } | source::Phase::Reowned { .. } => {
                    self.stay(Note::Contradiction, vec![])
                }
            },
            Phase::Clearing { .. } | Phase::Done(_) => self.stay(Note::Stale, vec![]),
        }
    }

    /// In Running and Cancelling.
    fn asked_source_is(&self, source: &source::Phase) -> Step {
        match source {
            source::Phase::Idle
            | source::Phase::Preparing
            | source::Phase::Copying
            | source::Phase::Switching(_)
            | source::Phase::Aborting { .. }
            | source::Phase::Reowned { undone: false, .. } => self.stay(Note::Waiting, vec![]),
            // From Cancelling too: it is too late, and forward is the only way.
            source::Phase::Committed => {
                self.go(Phase::Running, vec![Effect::TellTarget(AskTarget::Relay(ToTarget::Commit))])
            }
            source::Phase::HandedOver { retired: false } => self.go(Phase::Settling, vec![]),
            source::Phase::HandedOver { retired: true } => self.close(Outcome::Completed),
            source::Phase::Aborted { failure } | source::Phase::Reowned { failure, undone: true } => {
                self.clear(failure)
            }
        }
    }

    fn target_is(&self, target: &target::Phase) -> Step {
        match self {
            Phase::Queued => self.stay(Note::Stale, vec![]),
            Phase::Preparing => self.preparing_target_is(target),
            Phase::Running | Phase::Cancelling { .. } => match target {
                target::Phase::Refused { failure } => {
                    let refused = AskSource::Relay(ToSource::Refused { failure: failure.clone() });
                    self.cancel(failure, vec![Effect::TellSource(refused)])
                }
                target::Phase::Running => self.go(Phase::Settling, vec![relay_running()]),
                target::Phase::Unknown
                | target::Phase::Preparing
                | target::Phase::Prepared
                | target::Phase::Receiving
                | target::Phase::Sealed
                | target::Phase::Loaded
                | target::Phase::Owned
                | target::Phase::Refusing { .. } => self.stay(Note::Waiting, vec![]),
            },
            Phase::Clearing { failure } => match target {
                target::Phase::Refused { .. } => self.close(kept(failure)),
                target::Phase::Owned | target::Phase::Running => self.stay(Note::Contradiction, vec![]),
                target::Phase::Unknown
                | target::Phase::Preparing
                | target::Phase::Prepared
                | target::Phase::Receiving
                | target::Phase::Sealed
                | target::Phase::Loaded
                | target::Phase::Refusing { .. } => self.stay(Note::Waiting, vec![]),
            },
            Phase::Settling => match target {
                target::Phase::Running => self.stay(Note::Told, vec![relay_running()]),
                target::Phase::Refusing { .. } | target::Phase::Refused { .. } => {
                    self.stay(Note::Contradiction, vec![])
                }
                target::Phase::Unknown
                | target::Phase::Preparing
                | target::Phase::Prepared
                | target::Phase::Receiving
                | target::Phase::Sealed
                | target::Phase::Loaded
                | target::Phase::Owned => self.stay(Note::Stale, vec![]),
            },
            Phase::Done(_) => self.stay(Note::Stale, vec![]),
        }
    }

    fn preparing_target_is(&self, target: &target::Phase) -> Step {
        match target {
            target::Phase::Unknown | target::Phase::Preparing | target::Phase::Refusing { .. } => {
                self.stay(Note::Waiting, vec![])
            }
            target::Phase::Prepared => self.go(Phase::Running, vec![Effect::TellSource(AskSource::Send)]),
            // The source was never asked: nothing is to be undone there.
            target::Phase::Refused { failure } => self.close(kept(failure)),
            target::Phase::Receiving
            | target::Phase::Sealed
            | target::Phase::Loaded
            | target::Phase::Owned
            | target::Phase::Running => self.stay(Note::Contradiction, vec![]),
        }
    }

    fn tick(&self) -> Step {
        match self {
            Phase::Queued => self.stay(Note::Waiting, vec![]),
            Phase::Preparing => self.stay(Note::Told, vec![Effect::TellTarget(AskTarget::Receive)]),
            Phase::Running => {
                self.stay(Note::Told, vec![Effect::TellSource(AskSource::Send), Effect::TellTarget(AskTarget::Query)])
            }
            Phase::Cancelling { failure } => self.stay(
                Note::Told,
                vec![
                    Effect::TellSource(AskSource::Cancel { failure: failure.clone() }),
                    Effect::TellTarget(AskTarget::Query),
                ],
            ),
            Phase::Clearing { failure } => {
                self.stay(Note::Told, vec![Effect::TellTarget(AskTarget::Discard { failure: failure.clone() })])
            }
            Phase::Settling => {
                self.stay(Note::Told, vec![Effect::TellSource(AskSource::Query), Effect::TellTarget(AskTarget::Query)])
            }
            Phase::Done(_) => self.stay(Note::AlreadySo, vec![]),
        }
    }

    fn cancel(&self, failure: &Failure, mut effects: Vec<Effect>) -> Step {
        effects.push(Effect::TellSource(AskSource::Cancel { failure: failure.clone() }));
        match self {
            // The first reason stays.
            Phase::Cancelling { .. } => self.stay(Note::Told, effects),
            Phase::Queued
            | Phase::Preparing
            | Phase::Running
            | Phase::Clearing { .. }
            | Phase::Settling
            | Phase::Done(_) => self.go(Phase::Cancelling { failure: failure.clone() }, effects),
        }
    }

    fn clear(&self, failure: &Failure) -> Step {
        let discard = AskTarget::Discard { failure: failure.clone() };
        self.go(Phase::Clearing { failure: failure.clone() }, vec![Effect::TellTarget(discard)])
    }

    fn close(&self, outcome: Outcome) -> Step {
        self.go(Phase::Done(outcome.clone()), vec![Effect::Close(outcome)])
    }

    fn go(&self, next: Phase, effects: Vec<Effect>) -> Step {
        let persist = next != *self;
        let note = if persist { Note::Moved } else { Note::Told };
        Step { next, persist, effects, note }
    }

    fn stay(&self, note: Note, effects: Vec<Effect>) -> Step {
        Step { next: self.clone(), persist: false, effects, note }
    }
}

fn relay_running() -> Effect {
    Effect::TellSource(AskSource::Relay(ToSource::Running))
}

fn cancelled() -> Failure {
    Failure::new(FailureCode::Cancelled, "the migration was cancelled")
}

/// The guest stayed at the source.
fn kept(failure: &Failure) -> Outcome {
    match failure.code == FailureCode::Cancelled {
        true => Outcome::Cancelled,
        false => Outcome::Failed { failure: failure.clone(), guest_at: Side::Source },
    }
}
