//! Every phase with every event, rendered: a review sees each cell that a change touches.
//!
//! Cell: note, `-> next` if the phase changes (`*` if it must be journaled first), `: effects`.

use std::fmt::Debug;

use whimbrel_core::{
    failure::{Failure, FailureCode},
    migration::{Step, coordinator, source, target},
};

fn failure() -> Failure {
    Failure::new(FailureCode::QemuFailed, "f")
}

/// Debug text without the failures, which are the same everywhere or made by the machine.
fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("failure: Failure {") {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let end = tail.find('}').map_or(tail.len(), |end| end + 1);
        out.push('_');
        rest = &tail[end..];
    }
    out.push_str(rest);
    out.replace(" { _ }", "").replace("{ _, ", "{ ")
}

fn table<P: Debug + PartialEq, E: Debug, F: Debug>(
    phases: &[P],
    events: &[E],
    step: impl Fn(&P, &E) -> Step<P, F>,
) -> String {
    let mut out = String::new();
    for phase in phases {
        out.push_str(&format!("{}\n", short(phase)));
        for event in events {
            let Step { next, persist, effects, note } = step(phase, event);
            let mut cell = format!("{note:?}");
            if next != *phase {
                cell.push_str(&format!(" -> {}{}", short(&next), if persist { "*" } else { "" }));
            } else {
                assert!(!persist, "{phase:?} x {event:?}: the same phase needs no journal");
            }
            if !effects.is_empty() {
                let effects: Vec<String> = effects.iter().map(short).collect();
                cell.push_str(&format!(": {}", effects.join(", ")));
            }
            out.push_str(&format!("  {:<34} {cell}\n", short(event)));
        }
    }
    out
}

fn source_phases() -> Vec<source::Phase> {
    use source::{Phase, Switch};
    vec![
        Phase::Idle,
        Phase::Preparing,
        Phase::Copying,
        Phase::Switching(Switch::Stopping),
        Phase::Switching(Switch::Finishing),
        Phase::Switching(Switch::Loading),
        Phase::Committed,
        Phase::HandedOver { retired: false },
        Phase::HandedOver { retired: true },
        Phase::Aborting { failure: failure() },
        Phase::Aborted { failure: failure() },
        Phase::Reowned { failure: failure(), undone: false },
        Phase::Reowned { failure: failure(), undone: true },
    ]
}

fn source_events() -> Vec<source::Event> {
    use source::Event;
    vec![
        Event::Start,
        Event::Cancel { failure: failure() },
        Event::Query,
        Event::TargetPrepared,
        Event::TargetRefused { failure: failure() },
        Event::Sealed,
        Event::TargetOwned,
        Event::TargetRunning,
        Event::WhatIsSo,
        Event::CopyConverged,
        Event::GuestStopped,
        Event::RamCompleted,
        Event::UndoFinished,
        Event::RetireFinished,
        Event::Failed { failure: failure() },
        Event::LinkLost,
        Event::LinkUp,
        Event::Restarted,
        Event::Tick,
    ]
}

fn target_phases() -> Vec<target::Phase> {
    use target::Phase;
    vec![
        Phase::Unknown,
        Phase::Preparing,
        Phase::Prepared,
        Phase::Receiving,
        Phase::Sealed,
        Phase::Loaded,
        Phase::Owned,
        Phase::Running,
        Phase::Refusing { failure: failure() },
        Phase::Refused { failure: failure() },
    ]
}

fn target_events() -> Vec<target::Event> {
    use target::Event;
    vec![
        Event::Receive,
        Event::Discard { failure: failure() },
        Event::Query,
        Event::Attach,
        Event::CommitReceived,
        Event::AbortReceived,
        Event::PrepareFinished,
        Event::DisksSealed,
        Event::StateLoaded,
        Event::ContDone,
        Event::ContFailed { failure: failure() },
        Event::GuestLost,
        Event::UndoFinished,
        Event::Failed { failure: failure() },
        Event::LinkLost,
        Event::LinkUp,
        Event::Restarted,
        Event::Tick,
    ]
}

fn coordinator_phases() -> Vec<coordinator::Phase> {
    use coordinator::{Outcome, Phase, Side};
    vec![
        Phase::Queued,
        Phase::Preparing,
        Phase::Running,
        Phase::Cancelling { failure: failure() },
        Phase::Clearing { failure: failure() },
        Phase::Owing { failure: failure() },
        Phase::Settling,
        Phase::Done(Outcome::Completed),
        Phase::Done(Outcome::Cancelled),
        Phase::Done(Outcome::Failed { failure: failure(), guest_at: Side::Source }),
    ]
}

fn coordinator_events() -> Vec<coordinator::Event> {
    use coordinator::Event;
    [Event::Begin, Event::Cancel, Event::GiveUp { failure: failure() }, Event::TargetOverdue, Event::Tick]
        .into_iter()
        .chain(source_phases().into_iter().map(Event::SourceIs))
        .chain(target_phases().into_iter().map(Event::TargetIs))
        .collect()
}

#[test]
fn source_matrix() {
    insta::assert_snapshot!(table(&source_phases(), &source_events(), |phase, event| phase.step(event)));
}

#[test]
fn target_matrix() {
    insta::assert_snapshot!(table(&target_phases(), &target_events(), |phase, event| phase.step(event)));
}

#[test]
fn coordinator_matrix() {
    insta::assert_snapshot!(table(&coordinator_phases(), &coordinator_events(), |phase, event| phase.step(event)));
}

/// An end is where no event of its own world leads away from.
#[test]
fn ends_stay() {
    for phase in source_phases().iter().filter(|phase| phase.is_end()) {
        for event in source_events() {
            assert_eq!(phase.step(&event).next, *phase, "{event:?}");
        }
    }
    for phase in target_phases().iter().filter(|phase| phase.is_end()) {
        for event in target_events() {
            assert_eq!(phase.step(&event).next, *phase, "{event:?}");
        }
    }
    for phase in coordinator_phases().iter().filter(|phase| phase.is_end()) {
        for event in coordinator_events() {
            assert_eq!(phase.step(&event).next, *phase, "{event:?}");
        }
    }
}
