//! The target's machine: it makes room, receives, and runs the guest only on COMMIT.
//!
//! The coordinator's `Receive` carries spec, credential and epoch and makes the files; the source's link attaches later. So
//! nobody can send data to a host that was not told to expect it.
//!
//! Ground rules beside those of [`super`]: `Undo` leaves nothing behind (target QEMU and storage daemon killed, incoming
//! files dropped or kept only as a leased dedupe source, reservation released), and `UndoFinished` is told only when the
//! target QEMU is surely gone: the refusal that follows it lets the source resume. `ContFailed` is told only if the guest
//! surely never ran here; if QEMU died after `cont` was given, it is `GuestLost`, and the guest's disks stay the target's.

use serde::{Deserialize, Serialize};

use super::{Note, journal::TargetRecord};
use crate::failure::{Failure, FailureCode};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Knows nothing of this migration.
    Unknown,
    /// Makes images under `incoming/<migration>` and starts the storage daemon.
    Preparing,
    /// Ready; the source has not come yet.
    Prepared,
    /// The source is attached; rounds and RAM arrive.
    Receiving,
    /// Every disk is durable, digests agree, the storage daemon is gone.
    Sealed,
    /// QEMU has loaded RAM and devices too; it waits for COMMIT.
    Loaded,
    /// OWN is fsynced: the guest is this host's; `cont` is under way.
    Owned,
    /// An end: the guest runs here, or is this host's to start.
    Running,
    /// Cleans up, will never run this guest.
    Refusing { failure: Failure },
    /// Tombstone, an end.
    Refused { failure: Failure },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The coordinator asks to make room.
    Receive,
    /// The coordinator says that the source keeps the guest.
    Discard {
        failure: Failure,
    },
    /// The coordinator wants a report.
    Query,
    /// The source is on the link.
    Attach,
    CommitReceived,
    AbortReceived,
    PrepareFinished,
    /// After the last round: flushed, digests agree, storage daemon gone.
    DisksSealed,
    /// QEMU has loaded the whole stream.
    StateLoaded,
    ContDone,
    /// `cont` was refused, or QEMU was gone before it: the guest surely never ran here.
    ContFailed {
        failure: Failure,
    },
    /// QEMU died after `cont` was given: the guest may have run here.
    GuestLost,
    UndoFinished,
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
    /// Reserve, make the files, start the storage daemon.
    Prepare,
    /// Say `Prepared` to the source.
    SendPrepared,
    /// Say `Sealed` to the source.
    SendSealed,
    /// Once QEMU has loaded all: arm the bitmap, check that no export is left, `cont`, tap up, announce.
    Activate,
    /// Say `Owned` to the source.
    SendOwned,
    /// Say `Running` to the source.
    SendRunning,
    /// Kill QEMU and storage daemon, drop files and reservation.
    Undo,
    /// Say `Refused` with the phase's failure to the source.
    SendRefused,
    /// Ask the source `WhatIsSo`, on any path.
    AskSource,
    /// Tell the coordinator `next`.
    Report,
}

pub type Step = super::Step<Phase, Effect>;

impl Phase {
    /// Nothing more will happen by itself, and nothing is left behind.
    pub fn is_end(&self) -> bool {
        match self {
            Phase::Running | Phase::Refused { .. } => true,
            Phase::Unknown
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Receiving
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Owned
            | Phase::Refusing { .. } => false,
        }
    }

    pub fn step(&self, event: &Event) -> Step {
        match event {
            Event::Receive => self.receive(),
            Event::Discard { failure } => self.discard(failure),
            Event::Query => self.stay(Note::Told, vec![Effect::Report]),
            Event::Attach => self.attach(),
            Event::CommitReceived => self.commit_received(),
            Event::AbortReceived => self.abort_received(),
            Event::PrepareFinished => self.prepare_finished(),
            Event::DisksSealed => self.disks_sealed(),
            Event::StateLoaded => self.state_loaded(),
            Event::ContDone => self.cont_done(),
            Event::ContFailed { failure } => self.cont_failed(failure),
            Event::GuestLost => self.guest_lost(),
            Event::UndoFinished => self.undo_finished(),
            Event::Failed { failure } => self.failed(failure),
            Event::LinkLost => self.link_lost(),
            Event::LinkUp => self.link_up(),
            Event::Restarted => self.restarted(),
            Event::Tick => self.tick(),
        }
    }

    fn receive(&self) -> Step {
        match self {
            Phase::Unknown => self.go(Phase::Preparing, vec![Effect::Prepare, Effect::Report]),
            Phase::Preparing
            | Phase::Prepared
            | Phase::Receiving
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Owned
            | Phase::Running => self.stay(Note::AlreadySo, vec![Effect::Report]),
            Phase::Refusing { .. } | Phase::Refused { .. } => self.stay(Note::Refused, vec![Effect::Report]),
        }
    }

    fn discard(&self, failure: &Failure) -> Step {
        match self {
            // The tombstone is for a Receive that is still on its way.
            Phase::Unknown => self.go(Phase::Refused { failure: failure.clone() }, vec![Effect::Report]),
            Phase::Preparing | Phase::Prepared | Phase::Receiving | Phase::Sealed | Phase::Loaded => {
                self.refuse(failure.clone())
            }
            Phase::Owned | Phase::Running => self.stay(Note::TooLate, vec![Effect::Report]),
            Phase::Refusing { .. } | Phase::Refused { .. } => self.stay(Note::AlreadySo, vec![Effect::Report]),
        }
    }

    fn attach(&self) -> Step {
        match self {
            Phase::Unknown => self.refuse_unknown(),
            Phase::Preparing | Phase::Refusing { .. } => self.stay(Note::Waiting, vec![]),
            Phase::Prepared => self.go(Phase::Receiving, vec![Effect::SendPrepared, Effect::Report]),
            Phase::Receiving => self.stay(Note::AlreadySo, vec![Effect::SendPrepared]),
            Phase::Sealed | Phase::Loaded => self.stay(Note::Stale, vec![]),
            Phase::Owned => self.stay(Note::Told, vec![Effect::SendOwned]),
            Phase::Running => self.stay(Note::Told, vec![Effect::SendRunning]),
            Phase::Refused { .. } => self.stay(Note::Refused, vec![Effect::SendRefused]),
        }
    }

    fn commit_received(&self) -> Step {
        match self {
            // From Sealed too: the source has QEMU's `completed` with return-path, so the state is loaded here, whether or
            // not this agent has seen it yet.
            Phase::Sealed | Phase::Loaded => {
                self.go(Phase::Owned, vec![Effect::Activate, Effect::SendOwned, Effect::Report])
            }
            Phase::Unknown => self.refuse_unknown(),
            Phase::Preparing | Phase::Prepared | Phase::Receiving => {
                self.refuse(Failure::new(FailureCode::Internal, "COMMIT came before the disks were sealed"))
            }
            Phase::Owned => self.stay(Note::AlreadySo, vec![Effect::SendOwned]),
            Phase::Running => self.stay(Note::AlreadySo, vec![Effect::SendRunning]),
            Phase::Refusing { .. } => self.stay(Note::Waiting, vec![]),
            Phase::Refused { .. } => self.stay(Note::Refused, vec![Effect::SendRefused]),
        }
    }

    fn abort_received(&self) -> Step {
        let failure = || Failure::new(FailureCode::Cancelled, "the source aborted the migration");
        match self {
            Phase::Unknown => self.go(Phase::Refused { failure: failure() }, vec![Effect::Report]),
            Phase::Preparing | Phase::Prepared | Phase::Receiving | Phase::Sealed | Phase::Loaded => {
                self.refuse(failure())
            }
            Phase::Owned => self.stay(Note::TooLate, vec![Effect::SendOwned]),
            Phase::Running => self.stay(Note::TooLate, vec![Effect::SendRunning]),
            Phase::Refusing { .. } | Phase::Refused { .. } => self.stay(Note::AlreadySo, vec![]),
        }
    }

    fn prepare_finished(&self) -> Step {
        match self {
            Phase::Preparing => self.go(Phase::Prepared, vec![Effect::Report]),
            Phase::Unknown
            | Phase::Prepared
            | Phase::Receiving
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Owned
            | Phase::Running
            | Phase::Refusing { .. }
            | Phase::Refused { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn disks_sealed(&self) -> Step {
        match self {
            Phase::Receiving => self.go(Phase::Sealed, vec![Effect::SendSealed, Effect::Report]),
            Phase::Unknown
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Owned
            | Phase::Running
            | Phase::Refusing { .. }
            | Phase::Refused { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn state_loaded(&self) -> Step {
        match self {
            Phase::Sealed => self.go(Phase::Loaded, vec![Effect::Report]),
            // The disks are not sealed: QEMU must not have been told to continue.
            Phase::Receiving => self.refuse(Failure::new(
                FailureCode::QemuFailed,
                "QEMU loaded the whole state before the disks were sealed",
            )),
            Phase::Loaded | Phase::Owned | Phase::Running => self.stay(Note::AlreadySo, vec![]),
            Phase::Unknown | Phase::Preparing | Phase::Prepared | Phase::Refusing { .. } | Phase::Refused { .. } => {
                self.stay(Note::Stale, vec![])
            }
        }
    }

    fn cont_done(&self) -> Step {
        match self {
            Phase::Owned => self.go(Phase::Running, vec![Effect::SendRunning, Effect::Report]),
            Phase::Running => self.stay(Note::AlreadySo, vec![]),
            Phase::Unknown
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Receiving
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Refusing { .. }
            | Phase::Refused { .. } => self.stay(Note::Contradiction, vec![]),
        }
    }

    fn cont_failed(&self, failure: &Failure) -> Step {
        match self {
            Phase::Owned => self.refuse(failure.clone()),
            Phase::Unknown
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Receiving
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Running
            | Phase::Refusing { .. }
            | Phase::Refused { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn guest_lost(&self) -> Step {
        match self {
            // It may have run and acknowledged writes: they are on the disks here, so the guest is started here again.
            Phase::Owned => self.go(Phase::Running, vec![Effect::SendRunning, Effect::Report]),
            Phase::Preparing | Phase::Prepared | Phase::Receiving | Phase::Sealed | Phase::Loaded => {
                self.refuse(Failure::new(FailureCode::QemuFailed, "the target's QEMU ended before COMMIT"))
            }
            Phase::Unknown | Phase::Running | Phase::Refusing { .. } | Phase::Refused { .. } => {
                self.stay(Note::Stale, vec![])
            }
        }
    }

    fn undo_finished(&self) -> Step {
        match self {
            Phase::Refusing { failure } => {
                self.go(Phase::Refused { failure: failure.clone() }, vec![Effect::SendRefused, Effect::Report])
            }
            Phase::Refused { .. } => self.stay(Note::AlreadySo, vec![]),
            Phase::Unknown
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Receiving
            | Phase::Sealed
            | Phase::Loaded
            | Phase::Owned
            | Phase::Running => self.stay(Note::Stale, vec![]),
        }
    }

    fn failed(&self, failure: &Failure) -> Step {
        match self {
            Phase::Preparing | Phase::Prepared | Phase::Receiving | Phase::Sealed | Phase::Loaded => {
                self.refuse(failure.clone())
            }
            // Only ContFailed and GuestLost may say what became of an owned guest.
            Phase::Owned | Phase::Running => self.stay(Note::TooLate, vec![]),
            Phase::Unknown | Phase::Refusing { .. } | Phase::Refused { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn link_lost(&self) -> Step {
        match self {
            Phase::Receiving | Phase::Sealed | Phase::Loaded => self.stay(Note::Waiting, vec![Effect::AskSource]),
            Phase::Unknown
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Owned
            | Phase::Running
            | Phase::Refusing { .. }
            | Phase::Refused { .. } => self.stay(Note::Stale, vec![]),
        }
    }

    fn link_up(&self) -> Step {
        match self {
            Phase::Receiving | Phase::Sealed | Phase::Loaded => self.stay(Note::Waiting, vec![Effect::AskSource]),
            Phase::Owned => self.stay(Note::Told, vec![Effect::SendOwned]),
            Phase::Running => self.stay(Note::Told, vec![Effect::SendRunning]),
            Phase::Refused { .. } => self.stay(Note::Told, vec![Effect::SendRefused]),
            Phase::Unknown | Phase::Preparing | Phase::Prepared | Phase::Refusing { .. } => {
                self.stay(Note::Stale, vec![])
            }
        }
    }

    fn restarted(&self) -> Step {
        match self {
            Phase::Preparing | Phase::Prepared | Phase::Receiving | Phase::Sealed | Phase::Loaded => {
                self.refuse(Failure::new(FailureCode::PeerLost, "the target's agent restarted during the migration"))
            }
            Phase::Owned => self.stay(Note::Told, vec![Effect::Activate, Effect::SendOwned, Effect::Report]),
            Phase::Refusing { .. } => self.stay(Note::Told, vec![Effect::Undo, Effect::Report]),
            Phase::Unknown => self.stay(Note::Stale, vec![]),
            Phase::Running | Phase::Refused { .. } => self.stay(Note::AlreadySo, vec![]),
        }
    }

    fn tick(&self) -> Step {
        match self {
            Phase::Receiving | Phase::Sealed | Phase::Loaded => self.stay(Note::Waiting, vec![Effect::AskSource]),
            Phase::Preparing | Phase::Prepared | Phase::Owned | Phase::Refusing { .. } => {
                self.stay(Note::Waiting, vec![])
            }
            Phase::Unknown => self.stay(Note::Stale, vec![]),
            Phase::Running | Phase::Refused { .. } => self.stay(Note::AlreadySo, vec![]),
        }
    }

    /// Nothing is here to undo; the tombstone is for a Receive that is still on its way.
    fn refuse_unknown(&self) -> Step {
        let failure = Failure::new(FailureCode::NotFound, "the target was never asked to receive this migration");
        self.go(Phase::Refused { failure }, vec![Effect::SendRefused, Effect::Report])
    }

    fn refuse(&self, failure: Failure) -> Step {
        self.go(Phase::Refusing { failure }, vec![Effect::Undo, Effect::Report])
    }

    fn go(&self, next: Phase, effects: Vec<Effect>) -> Step {
        let persist = TargetRecord::of(&next) != TargetRecord::of(self);
        Step { next, persist, effects, note: Note::Moved }
    }

    fn stay(&self, note: Note, effects: Vec<Effect>) -> Step {
        Step { next: self.clone(), persist: false, effects, note }
    }
}
