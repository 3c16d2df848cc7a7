//! The machines as shipped keep every invariant; each planted fault breaks one and is found.

use whimbrel_core::disk::Storage;
use whimbrel_sim::{
    explore::{Invariant, explore},
    fault::Fault,
};

#[test]
fn shipped_machines_keep_every_invariant() {
    for storage in [Storage::Local, Storage::Shared] {
        let explored = explore(storage, None).unwrap_or_else(|violation| panic!("{storage:?}: {violation}"));
        println!("{storage:?}: {explored:?}");
        assert!(explored.states > 100_000, "the explorer saw only {explored:?}");
        assert!(explored.ends_at_target > 0 && explored.ends_at_source > 0, "no end of one kind: {explored:?}");
    }
}

/// What each fault must break first.
fn broken_by(fault: Fault) -> Invariant {
    match fault {
        Fault::TargetRunsAlone => Invariant::I1,
        Fault::SourceResumesAfterCommit => Invariant::I1,
        Fault::SourceForgetsAbort => Invariant::I4,
        Fault::TargetForgetsRefusal => Invariant::I4,
        Fault::OwnerObeysDiscard => Invariant::I2,
        Fault::CommitNotPersisted => Invariant::I1,
        Fault::OwnNotPersisted => Invariant::I2,
        Fault::SwitchUnsealed => Invariant::I2,
        Fault::DiscardUnasked => Invariant::I4,
        Fault::SourceIgnoresNack => Invariant::I3,
        Fault::RefusalLeavesQemu => Invariant::I4,
        Fault::CommitSentOnce => Invariant::I3,
        Fault::ServerFreedUnasked => Invariant::I4,
        Fault::DebtForgiven => Invariant::I4,
        Fault::DebtNotAsked => Invariant::I3,
        Fault::OpenedAtLoad => Invariant::I1,
        Fault::SharedDisksRetired => Invariant::I2,
        Fault::SharedDisksUndone => Invariant::I2,
        Fault::RefusalKeepsName => Invariant::I2,
    }
}

/// The snapshot holds the shortest trace of each: how the rule that it breaks came to be.
#[test]
fn every_planted_fault_is_found() {
    let mut traces = String::new();
    for fault in Fault::ALL {
        let Err(violation) = explore(fault.storage(), Some(fault)) else { panic!("{fault:?} was not found") };
        assert_eq!(violation.invariant, broken_by(fault), "{fault:?}: {violation}");
        traces.push_str(&format!("{fault:?}: {violation}\n"));
    }
    insta::assert_snapshot!(traces);
}
