//! The coordinator's machine: it observes and asks; who owns the guest is not its decision.
//!
//! Ground rules beside those of [`super`]: `Tick` asks again, so a lost ask or report only costs time. The target is told
//! to discard only after the source has durably said that it keeps the guest (or was never asked: the journal says so,
//! since `Running` is persisted before the first Send). `Close` ends the migration in one transaction with the phase: the
//! claim on the host without the guest is released and the instance's host written.
//!
//! A target that is lost must not hold the server: once the guest is surely the source's, `TargetOverdue` lets the server go
//! (`Free`). What is left is a debt of the target alone. Its claim stays until it has said that it is clean, both because
//! what lies there takes room and because nothing else of this instance may come to that host before.

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
    /// Over for everybody but the target, which has not yet said that it left nothing behind: it is asked until it has.
    Owing { failure: Failure },
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
    /// The target was waited for long enough, be it silent or slow.
    TargetOverdue,
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
    /// In the transaction that stores `next`: the instance, which is at the source, may be asked to do something else. The
    /// claim on the target stays.
    Free(Outcome),
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
            | Phase::Owing { .. }
            | Phase::Settling => false,
        }
    }

    /// How it ended for whoever asked for it; `None` while the server is still its own.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Phase::Done(outcome) => Some(outcome.clone()),
            Phase::Owing { failure } => Some(kept(failure)),
            Phase::Queued
            | Phase::Preparing
            | Phase::Running
            | Phase::Cancelling { .. }
            | Phase::Clearing { .. }
            | Phase::Settling => None,
        }
    }

    /// The server is free.
    pub fn is_over(&self) -> bool {
        self.outcome().is_some()
    }

    /// Over, but for what the target has to clean up.
    pub fn is_owing(&self) -> bool {
        self.is_over() && !self.is_end()
    }

    /// Where the guest is, as far as it is settled: then it may be asked to do something else.
    pub fn guest_at(&self) -> Option<Side> {
        match self {
            Phase::Queued | Phase::Preparing | Phase::Running | Phase::Cancelling { .. } => None,
            Phase::Clearing { .. } | Phase::Owing { .. } => Some(Side::Source),
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
            Phase::Owing { failure } => ended(&kept(failure)),
            Phase::Done(outcome) => ended(outcome),
        }
    }

    pub fn step(&self, event: &Event) -> Step {
        match event {
            Event::Begin => self.begin(),
            Event::Cancel => self.give_up(&cancelled()),
            Event::GiveUp { failure } => self.give_up(failure),
            Event::TargetOverdue => self.target_overdue(),
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
            | Phase::Owing { .. }
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
            Phase::Owing { .. } | Phase::Settling | Phase::Done(_) => self.stay(Note::TooLate, vec![]),
        }
    }

    /// Only what is known to be the source's may be let go without the target's word.
    fn target_overdue(&self) -> Step {
        match self {
            Phase::Clearing { failure } => {
                self.go(Phase::Owing { failure: failure.clone() }, vec![Effect::Free(kept(failure))])
            }
            Phase::Queued | Phase::Preparing | Phase::Running | Phase::Cancelling { .. } | Phase::Settling => {
                self.stay(Note::Waiting, vec![])
            }
            Phase::Owing { .. } | Phase::Done(_) => self.stay(Note::AlreadySo, vec![]),
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
            Phase::Clearing { .. } | Phase::Owing { .. } | Phase::Done(_) => self.stay(Note::Stale, vec![]),
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
            Phase::Clearing { failure } | Phase::Owing { failure } => match target {
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
            Phase::Clearing { failure } | Phase::Owing { failure } => {
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
            | Phase::Owing { .. }
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

fn ended(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::Completed => Status::Completed,
        Outcome::Cancelled => Status::Cancelled,
        Outcome::Failed { .. } => Status::Failed,
    }
}
