//! Planted faults: each breaks one rule of the machines from outside, so that a test can prove that the explorer finds it.

use whimbrel_core::{
    disk::Storage,
    failure::{Failure, FailureCode},
    migration::{Note, coordinator, message::AskTarget, source, target},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A loaded target that waited long enough goes on without COMMIT.
    TargetRunsAlone,
    /// The source takes the guest back when the link is lost after COMMIT.
    SourceResumesAfterCommit,
    /// An aborted source obeys a late Send.
    SourceForgetsAbort,
    /// A target that refused obeys a late Receive.
    TargetForgetsRefusal,
    /// A target that has the guest gives it up when told to discard.
    OwnerObeysDiscard,
    /// COMMIT is sent but not journaled.
    CommitNotPersisted,
    /// OWN is acted on but not journaled.
    OwnNotPersisted,
    /// Neither side waits for the seal on the disks.
    SwitchUnsealed,
    /// The coordinator tells the target to discard without the source's word.
    DiscardUnasked,
    /// A source that committed does not listen to the target's refusal.
    SourceIgnoresNack,
    /// A target whose `cont` failed refuses before its QEMU is gone, and keeps QEMU and files.
    RefusalLeavesQemu,
    /// A committed source says COMMIT once and never again.
    CommitSentOnce,
    /// The coordinator lets the server go before the source has said that it keeps the guest.
    ServerFreedUnasked,
    /// The coordinator takes a target that does not answer for one that is clean.
    DebtForgiven,
    /// The coordinator does not ask for what the target owes.
    DebtNotAsked,
    /// Shared storage: the target's QEMU opens the disks for writing when it has loaded the state, and not when it may run.
    OpenedAtLoad,
    /// Shared storage: a source puts the disks away, as if they were a copy.
    SharedDisksRetired,
    /// Shared storage: a target that refuses removes the disks, as if it had made them.
    SharedDisksUndone,
    /// Shared storage: a target that refuses stays named as the owner.
    RefusalKeepsName,
}

impl Fault {
    pub const ALL: [Fault; 19] = [
        Fault::TargetRunsAlone,
        Fault::SourceResumesAfterCommit,
        Fault::SourceForgetsAbort,
        Fault::TargetForgetsRefusal,
        Fault::OwnerObeysDiscard,
        Fault::CommitNotPersisted,
        Fault::OwnNotPersisted,
        Fault::SwitchUnsealed,
        Fault::DiscardUnasked,
        Fault::SourceIgnoresNack,
        Fault::RefusalLeavesQemu,
        Fault::CommitSentOnce,
        Fault::ServerFreedUnasked,
        Fault::DebtForgiven,
        Fault::DebtNotAsked,
        Fault::OpenedAtLoad,
        Fault::SharedDisksRetired,
        Fault::SharedDisksUndone,
        Fault::RefusalKeepsName,
    ];

    /// Where it can be planted.
    pub fn storage(self) -> Storage {
        match self {
            Fault::OpenedAtLoad | Fault::SharedDisksRetired | Fault::SharedDisksUndone | Fault::RefusalKeepsName => {
                Storage::Shared
            }
            Fault::TargetRunsAlone
            | Fault::SourceResumesAfterCommit
            | Fault::SourceForgetsAbort
            | Fault::TargetForgetsRefusal
            | Fault::OwnerObeysDiscard
            | Fault::CommitNotPersisted
            | Fault::OwnNotPersisted
            | Fault::SwitchUnsealed
            | Fault::DiscardUnasked
            | Fault::SourceIgnoresNack
            | Fault::RefusalLeavesQemu
            | Fault::CommitSentOnce
            | Fault::ServerFreedUnasked
            | Fault::DebtForgiven
            | Fault::DebtNotAsked => Storage::Local,
        }
    }
}

pub fn source_step(fault: Option<Fault>, phase: &source::Phase, event: &source::Event) -> source::Step {
    use source::{Effect, Event, Phase, Switch};
    let honest = || phase.step(event);
    match (fault, phase, event) {
        (Some(Fault::SourceResumesAfterCommit), Phase::Committed, Event::LinkLost) => source::Step {
            next: Phase::Aborting { failure: failure() },
            persist: true,
            effects: vec![Effect::Undo, Effect::SendAbort, Effect::Report],
            note: Note::Moved,
        },
        (Some(Fault::SourceForgetsAbort), Phase::Aborted { .. }, Event::Start) => Phase::Idle.step(event),
        (Some(Fault::CommitNotPersisted), _, Event::RamCompleted) => source::Step { persist: false, ..honest() },
        (Some(Fault::SwitchUnsealed), Phase::Switching(Switch::Stopping), Event::GuestStopped) => source::Step {
            next: Phase::Switching(Switch::Loading),
            persist: false,
            effects: vec![Effect::ContinueMigration],
            note: Note::Moved,
        },
        (Some(Fault::SourceIgnoresNack), Phase::Committed, Event::TargetRefused { .. }) => stay(phase),
        (
            Some(Fault::CommitSentOnce),
            Phase::Committed,
            Event::Tick
            | Event::LinkLost
            | Event::LinkUp
            | Event::WhatIsSo
            | Event::Query
            | Event::Start
            | Event::Cancel { .. },
        ) => stay(phase),
        _ => honest(),
    }
}

pub fn target_step(fault: Option<Fault>, phase: &target::Phase, event: &target::Event) -> target::Step {
    use target::{Effect, Event, Phase};
    let honest = || phase.step(event);
    match (fault, phase, event) {
        (Some(Fault::TargetRunsAlone), Phase::Loaded, Event::Tick) => phase.step(&Event::CommitReceived),
        (Some(Fault::TargetForgetsRefusal), Phase::Refused { .. }, Event::Receive) => Phase::Unknown.step(event),
        (Some(Fault::OwnerObeysDiscard), Phase::Owned | Phase::Running, Event::Discard { .. }) => target::Step {
            next: Phase::Refusing { failure: failure() },
            persist: true,
            effects: vec![Effect::Undo],
            note: Note::Moved,
        },
        (Some(Fault::OwnNotPersisted), Phase::Sealed | Phase::Loaded, Event::CommitReceived) => {
            target::Step { persist: false, ..honest() }
        }
        (Some(Fault::OwnNotPersisted), Phase::Owned, Event::ContDone) => target::Step { persist: false, ..honest() },
        (Some(Fault::SwitchUnsealed), Phase::Receiving, Event::CommitReceived) => Phase::Sealed.step(event),
        (Some(Fault::RefusalLeavesQemu), Phase::Owned, Event::ContFailed { failure }) => target::Step {
            next: Phase::Refused { failure: failure.clone() },
            persist: true,
            effects: vec![Effect::SendRefused, Effect::Report],
            note: Note::Moved,
        },
        _ => honest(),
    }
}

pub fn coordinator_step(
    fault: Option<Fault>,
    phase: &coordinator::Phase,
    event: &coordinator::Event,
) -> coordinator::Step {
    use coordinator::{Effect, Event, Outcome, Phase, Side};
    let kept = || Outcome::Failed { failure: failure(), guest_at: Side::Source };
    match (fault, phase, event) {
        (Some(Fault::DiscardUnasked), Phase::Running, Event::Cancel) => coordinator::Step {
            next: Phase::Clearing { failure: failure() },
            persist: true,
            effects: vec![Effect::TellTarget(AskTarget::Discard { failure: failure() })],
            note: Note::Moved,
        },
        (Some(Fault::ServerFreedUnasked), Phase::Cancelling { .. }, Event::TargetOverdue) => coordinator::Step {
            next: Phase::Owing { failure: failure() },
            persist: true,
            effects: vec![Effect::Free(kept())],
            note: Note::Moved,
        },
        (Some(Fault::DebtForgiven), Phase::Clearing { .. }, Event::TargetOverdue) => coordinator::Step {
            next: Phase::Done(kept()),
            persist: true,
            effects: vec![Effect::Close(kept())],
            note: Note::Moved,
        },
        (Some(Fault::DebtNotAsked), Phase::Owing { .. }, Event::Tick) => {
            coordinator::Step { next: phase.clone(), persist: false, effects: vec![], note: Note::Waiting }
        }
        _ => phase.step(event),
    }
}

/// Reasons do not change what a machine does: one for all keeps the states few.
pub fn failure() -> Failure {
    Failure::new(FailureCode::Internal, "explored")
}

fn stay(phase: &source::Phase) -> source::Step {
    source::Step { next: phase.clone(), persist: false, effects: vec![], note: Note::Waiting }
}
