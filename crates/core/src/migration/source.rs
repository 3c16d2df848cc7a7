//! The source's machine: it has the guest until it gives it away, and it alone decides when.
//!
//! Ground rules beside those of [`super`]: `Undo` brings back the state before the move as far as anything of it is there
//! (`migrate_cancel`, exports and bitmaps gone, `cont` if this move stopped the guest, announce) and always ends in
//! `UndoFinished`, even when the guest's QEMU is dead. `LinkLost` is told only after the data link's own retries gave up.

use serde::{Deserialize, Serialize};

use super::{Note, journal::SourceRecord};
use crate::failure::{Failure, FailureCode};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Knows nothing of this migration.
    Idle,
    /// Attaches to the target.
    Preparing,
    /// Disk rounds, then RAM beside them; the guest runs.
    Copying,
    /// The guest stops or is stopped.
    Switching(Switch),
    /// COMMIT is fsynced: the guest is the target's, unless it refuses durably.
    Committed,
    /// The target runs the guest. An end when `retired`: QEMU gone, disks renamed to the retained copy.
    HandedOver { retired: bool },
    /// The source keeps the guest; it is being brought back to where it was.
    Aborting { failure: Failure },
    /// Tombstone, an end.
    Aborted { failure: Failure },
    /// The target refused after COMMIT: the guest is the source's again, at the epoch after the refused one. An end when
    /// `undone`.
    Reowned { failure: Failure, undone: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// `stop` is under way.
    Stopping,
    /// Last disk round and the rest of RAM, in parallel.
    Finishing,
    /// All disks sealed on the target; device state travels.
    Loading,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The coordinator asks for the move.
    Start,
    /// The coordinator, or the operator, asks to end it.
    Cancel {
        failure: Failure,
    },
    /// The coordinator wants a report.
    Query,
    TargetPrepared,
    /// The target durably refused; after COMMIT this is the NACK.
    TargetRefused {
        failure: Failure,
    },
    /// Target: all disks are durable and their digests agree.
    Sealed,
    TargetOwned,
    TargetRunning,
    /// The target waits and asks.
    WhatIsSo,
    /// Policy: what is left of disks and RAM fits the downtime budget.
    CopyConverged,
    /// QEMU says that the guest is paused.
    GuestStopped,
    /// QEMU says `completed`, with return-path, and `query-status` says `postmigrate`.
    RamCompleted,
    UndoFinished,
    RetireFinished,
    /// An effect of this phase failed for good.
    Failed {
        failure: Failure,
    },
    LinkLost,
    LinkUp,
    /// The agent restarted; the phase was loaded from the journal.
    Restarted,
    /// Ask again for what may have been lost.
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Connect to the target if needed, and say `Attach`.
    PrepareTarget,
    /// Disk rounds and RAM, until the policy says `CopyConverged`.
    StartCopy,
    /// QMP `stop`.
    StopGuest,
    /// Last disk round and the rest of RAM, in parallel.
    FinishRounds,
    /// Remove every export and extra node, then `migrate-continue`.
    ContinueMigration,
    /// Connect to the target if needed, and say `Commit`.
    SendCommit,
    /// Say `Abort`, if there is a link.
    SendAbort,
    /// Stop copying; `migrate_cancel`, drop exports and bitmaps, `cont`, announce.
    Undo,
    /// Quit QEMU, rename the disks to the retained copy.
    Retire,
    /// Tell the coordinator `next`.
    Report,
}

pub type Step = super::Step<Phase, Effect>;

const LINK_LOST: &str = "the link to the target's agent was lost before COMMIT: the guest stays where it was";
const LINK_LOST_HINT: &str = "check the migration network between the hosts and the target's agent, then move again";

impl Effect {
    /// Work on the guest or towards the target that `Undo` must not meet: it is left off before anything is taken back.
    pub fn ends_before_undo(self) -> bool {
        match self {
            Effect::PrepareTarget
            | Effect::StartCopy
            | Effect::StopGuest
            | Effect::FinishRounds
            | Effect::ContinueMigration => true,
            Effect::SendCommit | Effect::SendAbort | Effect::Undo | Effect::Retire | Effect::Report => false,
        }
    }
}

impl Phase {
    /// Nothing more will happen by itself, and nothing is left behind.
    pub fn is_end(&self) -> bool {
        match self {
            Phase::Aborted { .. } | Phase::HandedOver { retired: true } | Phase::Reowned { undone: true, .. } => true,
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::HandedOver { retired: false }
            | Phase::Aborting { .. }
            | Phase::Reowned { undone: false, .. } => false,
        }
    }

    /// Between the guest's stop and the moment when it runs on the target: milliseconds.
    pub fn is_switching(&self) -> bool {
        match self {
            Phase::Switching(_) | Phase::Committed | Phase::HandedOver { retired: false } => true,
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::HandedOver { retired: true }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => false,
        }
    }

    pub fn step(&self, event: &Event) -> Step {
        match event {
            Event::Start => self.start(),
            Event::Cancel { failure } => self.cancel(failure),
            Event::Query => self.stay(Note::Told, vec![Effect::Report]),
            Event::TargetPrepared => self.target_prepared(),
            Event::TargetRefused { failure } => self.target_refused(failure),
            Event::Sealed => self.sealed(),
            Event::TargetOwned => self.target_owned(),
            Event::TargetRunning => self.target_running(),
            Event::WhatIsSo => self.answer(),
            Event::LinkUp => self.link_up(),
            Event::CopyConverged => self.copy_converged(),
            Event::GuestStopped => self.guest_stopped(),
            Event::RamCompleted => self.ram_completed(),
            Event::UndoFinished => self.undo_finished(),
            Event::RetireFinished => self.retire_finished(),
            Event::Failed { failure } => self.failed(failure),
            Event::LinkLost => self.link_lost(),
            Event::Restarted => self.restarted(),
            Event::Tick => self.tick(),
        }
    }

    fn start(&self) -> Step {
        match self {
            Phase::Idle => self.go(Phase::Preparing, vec![Effect::PrepareTarget, Effect::Report]),
            Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Reowned { .. } => self.stay(Note::AlreadySo, vec![Effect::Report]),
            Phase::Aborting { .. } | Phase::Aborted { .. } => self.stay(Note::Refused, vec![Effect::Report]),
        }
    }

    fn cancel(&self, failure: &Failure) -> Step {
        match self {
            Phase::Idle => self.go(Phase::Aborted { failure: failure.clone() }, vec![Effect::Report]),
            Phase::Preparing | Phase::Copying | Phase::Switching(_) => self.abort(failure.clone()),
            Phase::Committed | Phase::HandedOver { .. } => self.stay(Note::TooLate, vec![Effect::Report]),
            Phase::Aborting { .. } | Phase::Aborted { .. } | Phase::Reowned { .. } => {
                self.stay(Note::AlreadySo, vec![Effect::Report])
            }
        }
    }

    fn target_prepared(&self) -> Step {
        match self {
            Phase::Preparing => self.go(Phase::Copying, vec![Effect::StartCopy, Effect::Report]),
            Phase::Copying => self.stay(Note::AlreadySo, vec![]),
            Phase::Idle
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn target_refused(&self, failure: &Failure) -> Step {
        match self {
            Phase::Preparing | Phase::Copying | Phase::Switching(_) => self.abort(failure.clone()),
            Phase::Committed => {
                let next = Phase::Reowned { failure: failure.clone(), undone: false };
                self.go(next, vec![Effect::Undo, Effect::Report])
            }
            Phase::Idle => self.stay(Note::Stale, vec![]),
            Phase::Aborting { .. } | Phase::Aborted { .. } | Phase::Reowned { .. } => {
                self.stay(Note::AlreadySo, vec![])
            }
            Phase::HandedOver { .. } => self.stay(Note::Contradiction, vec![]),
        }
    }

    fn sealed(&self) -> Step {
        match self {
            Phase::Switching(Switch::Finishing) => {
                self.go(Phase::Switching(Switch::Loading), vec![Effect::ContinueMigration])
            }
            Phase::Switching(Switch::Loading) => self.stay(Note::AlreadySo, vec![]),
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(Switch::Stopping)
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn target_owned(&self) -> Step {
        match self {
            Phase::Committed => self.stay(Note::Waiting, vec![]),
            Phase::HandedOver { .. } => self.stay(Note::AlreadySo, vec![]),
            // Owned, then refused: told in another order.
            Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Aborting { .. }
            | Phase::Aborted { .. } => self.stay(Note::Contradiction, vec![]),
        }
    }

    fn target_running(&self) -> Step {
        match self {
            Phase::Committed => self.go(Phase::HandedOver { retired: false }, vec![Effect::Retire, Effect::Report]),
            Phase::HandedOver { .. } => self.stay(Note::AlreadySo, vec![]),
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Contradiction, vec![]),
        }
    }

    /// The target waits: say what was decided, if it was.
    fn answer(&self) -> Step {
        match self {
            // Only a journal that was lost explains it: leave a tombstone, so that a late Send finds it.
            Phase::Idle => {
                let failure = Failure::new(FailureCode::NotFound, "the source does not know this migration");
                self.go(Phase::Aborted { failure }, vec![Effect::SendAbort, Effect::Report])
            }
            Phase::Preparing | Phase::Copying | Phase::Switching(_) => self.stay(Note::Waiting, vec![]),
            Phase::Committed => self.stay(Note::Told, vec![Effect::SendCommit]),
            Phase::Aborting { .. } | Phase::Aborted { .. } => self.stay(Note::Told, vec![Effect::SendAbort]),
            Phase::HandedOver { .. } | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn copy_converged(&self) -> Step {
        match self {
            Phase::Copying => self.go(Phase::Switching(Switch::Stopping), vec![Effect::StopGuest, Effect::Report]),
            Phase::Idle
            | Phase::Preparing
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn guest_stopped(&self) -> Step {
        match self {
            Phase::Switching(Switch::Stopping) => {
                self.go(Phase::Switching(Switch::Finishing), vec![Effect::FinishRounds])
            }
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(Switch::Finishing | Switch::Loading)
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn ram_completed(&self) -> Step {
        match self {
            Phase::Switching(Switch::Loading) => self.go(Phase::Committed, vec![Effect::SendCommit, Effect::Report]),
            // The disks are not sealed: whatever QEMU believes, this is no hand-over.
            Phase::Copying | Phase::Switching(Switch::Stopping | Switch::Finishing) => self.abort(Failure::new(
                FailureCode::QemuFailed,
                "QEMU completed the migration before it was told to continue",
            )),
            Phase::Committed => self.stay(Note::AlreadySo, vec![]),
            Phase::Idle
            | Phase::Preparing
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn undo_finished(&self) -> Step {
        match self {
            Phase::Aborting { failure } => self.go(Phase::Aborted { failure: failure.clone() }, vec![Effect::Report]),
            Phase::Reowned { failure, undone: false } => {
                self.go(Phase::Reowned { failure: failure.clone(), undone: true }, vec![Effect::Report])
            }
            Phase::Aborted { .. } | Phase::Reowned { undone: true, .. } => self.stay(Note::AlreadySo, vec![]),
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::HandedOver { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn retire_finished(&self) -> Step {
        match self {
            Phase::HandedOver { retired: false } => self.go(Phase::HandedOver { retired: true }, vec![Effect::Report]),
            Phase::HandedOver { retired: true } => self.stay(Note::AlreadySo, vec![]),
            Phase::Idle
            | Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn failed(&self, failure: &Failure) -> Step {
        match self {
            Phase::Preparing | Phase::Copying | Phase::Switching(_) => self.abort(failure.clone()),
            // The guest is the target's to run or to refuse; nothing that fails here changes that.
            Phase::Committed | Phase::HandedOver { .. } => self.stay(Note::TooLate, vec![]),
            Phase::Idle | Phase::Aborting { .. } | Phase::Aborted { .. } | Phase::Reowned { .. } => {
                self.stay(Note::Stale, vec![])
            }
        }
    }

    fn link_up(&self) -> Step {
        match self {
            // A link alone says nothing of this migration.
            Phase::Idle => self.stay(Note::Stale, vec![]),
            Phase::Preparing
            | Phase::Copying
            | Phase::Switching(_)
            | Phase::Committed
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.answer(),
        }
    }

    fn link_lost(&self) -> Step {
        match self {
            Phase::Preparing => self.stay(Note::Waiting, vec![]),
            Phase::Copying | Phase::Switching(_) => {
                self.abort(Failure::new(FailureCode::PeerLost, LINK_LOST).hint(LINK_LOST_HINT))
            }
            Phase::Committed => self.stay(Note::Waiting, vec![Effect::SendCommit]),
            Phase::Idle
            | Phase::HandedOver { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Reowned { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn restarted(&self) -> Step {
        match self {
            Phase::Preparing | Phase::Copying | Phase::Switching(_) => self.abort(
                Failure::new(FailureCode::Internal, "the source's agent restarted before COMMIT")
                    .hint("the guest was not touched: start the move again"),
            ),
            Phase::Committed => self.stay(Note::Told, vec![Effect::SendCommit, Effect::Report]),
            Phase::HandedOver { retired: false } => self.stay(Note::Told, vec![Effect::Retire, Effect::Report]),
            Phase::Aborting { .. } => self.stay(Note::Told, vec![Effect::Undo, Effect::SendAbort, Effect::Report]),
            Phase::Reowned { undone: false, .. } => self.stay(Note::Told, vec![Effect::Undo, Effect::Report]),
            Phase::Idle => self.stay(Note::Stale, vec![]),
            Phase::HandedOver { retired: true } | Phase::Aborted { .. } | Phase::Reowned { undone: true, .. } => {
                self.stay(Note::AlreadySo, vec![])
            }
        }
    }

    fn tick(&self) -> Step {
        match self {
            Phase::Preparing => self.stay(Note::Told, vec![Effect::PrepareTarget]),
            Phase::Committed => self.stay(Note::Told, vec![Effect::SendCommit]),
            Phase::Copying
            | Phase::Switching(_)
            | Phase::HandedOver { retired: false }
            | Phase::Aborting { .. }
            | Phase::Reowned { undone: false, .. } => self.stay(Note::Waiting, vec![]),
            Phase::Idle => self.stay(Note::Stale, vec![]),
            Phase::HandedOver { retired: true } | Phase::Aborted { .. } | Phase::Reowned { undone: true, .. } => {
                self.stay(Note::AlreadySo, vec![])
            }
        }
    }

    fn abort(&self, failure: Failure) -> Step {
        self.go(Phase::Aborting { failure }, vec![Effect::Undo, Effect::SendAbort, Effect::Report])
    }

    fn go(&self, next: Phase, effects: Vec<Effect>) -> Step {
        let persist = SourceRecord::of(&next) != SourceRecord::of(self);
        Step { next, persist, effects, note: Note::Moved }
    }

    fn stay(&self, note: Note, effects: Vec<Effect>) -> Step {
        Step { next: self.clone(), persist: false, effects, note }
    }
}
