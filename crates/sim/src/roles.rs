//! The three machines as tables: phases and events become small numbers, steps become bit operations.
//!
//! The tables are filled from the machines' own `step`, once per pair of phase and event; nothing is decided here.

use whimbrel_core::migration::{
    coordinator,
    journal::{SourceRecord, TargetRecord},
    message::{AskSource, AskTarget, ToSource, ToTarget},
    source::{self, Switch},
    target,
};

use crate::fault::{self, Fault, failure};

/// Messages in flight, one bit each. Reports take a bit per phase, above the others.
pub mod net {
    pub const SEND: u64 = 1 << 0;
    pub const CANCEL: u64 = 1 << 1;
    pub const QUERY_SOURCE: u64 = 1 << 2;
    pub const RECEIVE: u64 = 1 << 3;
    pub const DISCARD: u64 = 1 << 4;
    pub const QUERY_TARGET: u64 = 1 << 5;
    pub const ATTACH: u64 = 1 << 6;
    pub const COMMIT: u64 = 1 << 7;
    pub const ABORT: u64 = 1 << 8;
    pub const PREPARED: u64 = 1 << 9;
    pub const REFUSED: u64 = 1 << 10;
    pub const SEALED: u64 = 1 << 11;
    pub const OWNED: u64 = 1 << 12;
    pub const RUNNING: u64 = 1 << 13;
    pub const WHAT_IS_SO: u64 = 1 << 14;
    pub const SOURCE_IS: u32 = 16;
    pub const TARGET_IS: u32 = 32;
}

/// Work that an agent has under way, one bit each.
pub mod work {
    pub const COPY: u8 = 1 << 0;
    pub const STOP: u8 = 1 << 1;
    pub const FINISH: u8 = 1 << 2;
    pub const CONTINUE: u8 = 1 << 3;
    pub const RETIRE: u8 = 1 << 4;
    pub const PREPARE: u8 = 1 << 5;
    pub const ACTIVATE: u8 = 1 << 6;
    /// Stops all other work of its side.
    pub const UNDO: u8 = 1 << 7;
}

/// One cell of a machine's table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    pub next: u8,
    /// The phase that the journal holds from now on, if the step is to be persisted.
    pub journal: Option<u8>,
    pub sent: u64,
    pub work: u8,
    pub close: Option<Close>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    Completed,
    Kept,
}

pub struct Roles {
    pub source_phases: Vec<source::Phase>,
    pub source_events: Vec<source::Event>,
    pub target_phases: Vec<target::Phase>,
    pub target_events: Vec<target::Event>,
    pub coordinator_phases: Vec<coordinator::Phase>,
    pub coordinator_events: Vec<coordinator::Event>,
    source: Vec<Vec<Cell>>,
    target: Vec<Vec<Cell>>,
    coordinator: Vec<Vec<Cell>>,
}

impl Roles {
    pub fn new(fault: Option<Fault>) -> Self {
        let mut roles = Roles {
            source_phases: source_phases(),
            source_events: source_events(),
            target_phases: target_phases(),
            target_events: target_events(),
            coordinator_phases: coordinator_phases(),
            coordinator_events: coordinator_events(),
            source: vec![],
            target: vec![],
            coordinator: vec![],
        };
        roles.source = table(&roles.source_phases, &roles.source_events, |phase, event| {
            roles.source_cell(&fault::source_step(fault, phase, event))
        });
        roles.target = table(&roles.target_phases, &roles.target_events, |phase, event| {
            roles.target_cell(&fault::target_step(fault, phase, event))
        });
        roles.coordinator = table(&roles.coordinator_phases, &roles.coordinator_events, |phase, event| {
            roles.coordinator_cell(&fault::coordinator_step(fault, phase, event))
        });
        roles
    }

    pub fn source(&self, phase: u8, event: u8) -> &Cell {
        &self.source[phase as usize][event as usize]
    }

    pub fn target(&self, phase: u8, event: u8) -> &Cell {
        &self.target[phase as usize][event as usize]
    }

    pub fn coordinator(&self, phase: u8, event: u8) -> &Cell {
        &self.coordinator[phase as usize][event as usize]
    }

    fn source_cell(&self, step: &source::Step) -> Cell {
        let mut cell = Cell { next: self.source_id(&step.next), ..Cell::default() };
        if step.persist {
            let held = SourceRecord::of(&step.next).map_or(source::Phase::Idle, |record| record.phase());
            cell.journal = Some(self.source_id(&held));
        }
        for effect in &step.effects {
            match effect {
                source::Effect::PrepareTarget => cell.sent |= net::ATTACH,
                source::Effect::SendCommit => cell.sent |= net::COMMIT,
                source::Effect::SendAbort => cell.sent |= net::ABORT,
                source::Effect::Report => cell.sent |= 1 << (net::SOURCE_IS + u32::from(cell.next)),
                source::Effect::StartCopy => cell.work |= work::COPY,
                source::Effect::StopGuest => cell.work |= work::STOP,
                source::Effect::FinishRounds => cell.work |= work::FINISH,
                source::Effect::ContinueMigration => cell.work |= work::CONTINUE,
                source::Effect::Undo => cell.work |= work::UNDO,
                source::Effect::Retire => cell.work |= work::RETIRE,
            }
        }
        cell
    }

    fn target_cell(&self, step: &target::Step) -> Cell {
        let mut cell = Cell { next: self.target_id(&step.next), ..Cell::default() };
        if step.persist {
            let held = TargetRecord::of(&step.next).map_or(target::Phase::Unknown, |record| record.phase());
            cell.journal = Some(self.target_id(&held));
        }
        for effect in &step.effects {
            match effect {
                target::Effect::SendPrepared => cell.sent |= net::PREPARED,
                target::Effect::SendSealed => cell.sent |= net::SEALED,
                target::Effect::SendOwned => cell.sent |= net::OWNED,
                target::Effect::SendRunning => cell.sent |= net::RUNNING,
                target::Effect::SendRefused => cell.sent |= net::REFUSED,
                target::Effect::AskSource => cell.sent |= net::WHAT_IS_SO,
                target::Effect::Report => cell.sent |= 1 << (net::TARGET_IS + u32::from(cell.next)),
                target::Effect::Prepare => cell.work |= work::PREPARE,
                target::Effect::Activate => cell.work |= work::ACTIVATE,
                target::Effect::Undo => cell.work |= work::UNDO,
            }
        }
        cell
    }

    fn coordinator_cell(&self, step: &coordinator::Step) -> Cell {
        let mut cell = Cell { next: id(&self.coordinator_phases, &plain_coordinator(&step.next)), ..Cell::default() };
        for effect in &step.effects {
            match effect {
                coordinator::Effect::TellSource(ask) => cell.sent |= ask_source(ask),
                coordinator::Effect::TellTarget(ask) => cell.sent |= ask_target(ask),
                // What it lets go is seen by the phase; claims stay as they are.
                coordinator::Effect::Free(_) => {}
                coordinator::Effect::Close(outcome) => {
                    cell.close = Some(match outcome {
                        coordinator::Outcome::Completed => Close::Completed,
                        coordinator::Outcome::Cancelled | coordinator::Outcome::Failed { .. } => Close::Kept,
                    });
                }
            }
        }
        cell
    }

    pub fn source_id(&self, phase: &source::Phase) -> u8 {
        id(&self.source_phases, &plain_source(phase))
    }

    pub fn target_id(&self, phase: &target::Phase) -> u8 {
        id(&self.target_phases, &plain_target(phase))
    }

    pub fn source_event(&self, event: &source::Event) -> u8 {
        id(&self.source_events, event)
    }

    pub fn target_event(&self, event: &target::Event) -> u8 {
        id(&self.target_events, event)
    }

    pub fn coordinator_event(&self, event: &coordinator::Event) -> u8 {
        id(&self.coordinator_events, event)
    }
}

fn ask_source(ask: &AskSource) -> u64 {
    match ask {
        AskSource::Send => net::SEND,
        AskSource::Cancel { .. } => net::CANCEL,
        AskSource::Query => net::QUERY_SOURCE,
        AskSource::Relay(message) => to_source(message),
    }
}

fn ask_target(ask: &AskTarget) -> u64 {
    match ask {
        AskTarget::Receive => net::RECEIVE,
        AskTarget::Discard { .. } => net::DISCARD,
        AskTarget::Query => net::QUERY_TARGET,
        AskTarget::Relay(message) => to_target(*message),
    }
}

fn to_source(message: &ToSource) -> u64 {
    match message {
        ToSource::Prepared => net::PREPARED,
        ToSource::Refused { .. } => net::REFUSED,
        ToSource::Sealed => net::SEALED,
        ToSource::Owned => net::OWNED,
        ToSource::Running => net::RUNNING,
        ToSource::WhatIsSo => net::WHAT_IS_SO,
    }
}

fn to_target(message: ToTarget) -> u64 {
    match message {
        ToTarget::Attach => net::ATTACH,
        ToTarget::Commit => net::COMMIT,
        ToTarget::Abort => net::ABORT,
    }
}

fn table<P, E>(phases: &[P], events: &[E], cell: impl Fn(&P, &E) -> Cell) -> Vec<Vec<Cell>> {
    phases.iter().map(|phase| events.iter().map(|event| cell(phase, event)).collect()).collect()
}

fn id<T: PartialEq + std::fmt::Debug>(known: &[T], wanted: &T) -> u8 {
    let found = known.iter().position(|item| item == wanted);
    found.unwrap_or_else(|| panic!("{wanted:?} is missing from the explorer's list")) as u8
}

fn plain_source(phase: &source::Phase) -> source::Phase {
    match phase {
        source::Phase::Aborting { .. } => source::Phase::Aborting { failure: failure() },
        source::Phase::Aborted { .. } => source::Phase::Aborted { failure: failure() },
        source::Phase::Reowned { undone, .. } => source::Phase::Reowned { failure: failure(), undone: *undone },
        source::Phase::Idle
        | source::Phase::Preparing
        | source::Phase::Copying
        | source::Phase::Switching(_)
        | source::Phase::Committed
        | source::Phase::HandedOver { .. } => phase.clone(),
    }
}

fn plain_target(phase: &target::Phase) -> target::Phase {
    match phase {
        target::Phase::Refusing { .. } => target::Phase::Refusing { failure: failure() },
        target::Phase::Refused { .. } => target::Phase::Refused { failure: failure() },
        target::Phase::Unknown
        | target::Phase::Preparing
        | target::Phase::Prepared
        | target::Phase::Receiving
        | target::Phase::Sealed
        | target::Phase::Loaded
        | target::Phase::Owned
        | target::Phase::Running => phase.clone(),
    }
}

fn plain_coordinator(phase: &coordinator::Phase) -> coordinator::Phase {
    use coordinator::{Outcome, Phase, Side};
    match phase {
        Phase::Cancelling { .. } => Phase::Cancelling { failure: failure() },
        Phase::Clearing { .. } => Phase::Clearing { failure: failure() },
        Phase::Owing { .. } => Phase::Owing { failure: failure() },
        Phase::Done(Outcome::Cancelled | Outcome::Failed { .. }) => {
            Phase::Done(Outcome::Failed { failure: failure(), guest_at: Side::Source })
        }
        Phase::Queued | Phase::Preparing | Phase::Running | Phase::Settling | Phase::Done(Outcome::Completed) => {
            phase.clone()
        }
    }
}

fn source_phases() -> Vec<source::Phase> {
    use source::Phase;
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
        Phase::Done(Outcome::Failed { failure: failure(), guest_at: Side::Source }),
    ]
}

/// First what the shell says, then every report of the source, then of the target: `SOURCE_IS` and `TARGET_IS` count on it.
fn coordinator_events() -> Vec<coordinator::Event> {
    use coordinator::Event;
    [Event::Begin, Event::Cancel, Event::GiveUp { failure: failure() }, Event::TargetOverdue, Event::Tick]
        .into_iter()
        .chain(source_phases().into_iter().map(Event::SourceIs))
        .chain(target_phases().into_iter().map(Event::TargetIs))
        .collect()
}
