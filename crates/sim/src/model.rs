//! One state of the whole system, and every state that may follow it.
//!
//! The world is what the agents' acts really did: QEMU processes, files, exports, claims. It outlives the agents; the
//! machines know of it only by events.

use whimbrel_core::{
    disk::Storage,
    migration::{coordinator, source, target},
};

use crate::{
    fault::{Fault, failure},
    roles::{Cell, Close, Roles, net, work},
};

pub const DEATHS_MAX: u8 = 2;

/// What is really so, one bit each.
pub mod world {
    pub const SOURCE_QEMU: u32 = 1 << 0;
    pub const SOURCE_RUNS: u32 = 1 << 1;
    /// Exports, bitmaps and RAM's stream on the source.
    pub const ARMED: u32 = 1 << 2;
    /// The last round, read after the guest's stop, is on the target.
    pub const SHIPPED: u32 = 1 << 3;
    pub const SEALED: u32 = 1 << 4;
    pub const LOADED: u32 = 1 << 5;
    pub const TARGET_FILES: u32 = 1 << 6;
    pub const TARGET_QEMU: u32 = 1 << 7;
    pub const TARGET_RUNS: u32 = 1 << 8;
    /// The guest has run on the target at some time: its disks are the only truth.
    pub const TARGET_RAN: u32 = 1 << 9;
    pub const SOURCE_CLAIM: u32 = 1 << 10;
    pub const TARGET_CLAIM: u32 = 1 << 11;
    /// A guest was let run on what was not the whole guest.
    pub const RAN_INCOMPLETE: u32 = 1 << 12;
    /// Not retired: bootable where QEMU is gone.
    pub const SOURCE_DISKS: u32 = 1 << 13;
    /// The rest is of storage that both hosts see; `SOURCE_DISKS` are the only ones then. Its QEMU has them open for writing.
    pub const SOURCE_WRITES: u32 = 1 << 14;
    pub const TARGET_WRITES: u32 = 1 << 15;
    /// `owner.json`, which names the source at first.
    pub const TARGET_NAMED: u32 = 1 << 16;
}
use world::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub net: u64,
    pub world: u32,
    pub coordinator: u8,
    pub source: u8,
    pub target: u8,
    pub source_journal: u8,
    pub target_journal: u8,
    pub source_work: u8,
    pub target_work: u8,
    pub deaths: u8,
}

impl State {
    pub fn first(storage: Storage) -> Self {
        let shared = if storage.is_shared() { SOURCE_WRITES } else { 0 };
        State {
            net: 0,
            world: shared | SOURCE_DISKS | SOURCE_QEMU | SOURCE_RUNS | SOURCE_CLAIM | TARGET_CLAIM,
            coordinator: 0,
            source: 0,
            target: 0,
            source_journal: 0,
            target_journal: 0,
            source_work: 0,
            target_work: 0,
            deaths: 0,
        }
    }

    pub fn is(&self, bits: u32) -> bool {
        self.world & bits == bits
    }
}

/// What happens next. The text of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Begin,
    Cancel,
    /// The shell has waited for the target long enough.
    TargetOverdue,
    CoordinatorTick,
    SourceTick,
    TargetTick,
    SourceLinkLost,
    SourceLinkUp,
    TargetLinkLost,
    TargetLinkUp,
    AllMessagesLost,
    Deliver(Message),
    SourceReport(u8),
    TargetReport(u8),
    SourceDoes(Work, End),
    TargetDoes(Work, End),
    TargetSealsDisks,
    TargetSeesLoaded,
    SourceAgentDies,
    TargetAgentDies,
    SourceQemuDies,
    TargetQemuDies,
    OperatorCancels,
    OperatorDiscards,
    TargetRunsOutOfSpace,
}

impl Action {
    /// Part of a system that only works on: no death, no cancel, no failure, no loss. Ends must be reachable by these.
    pub fn is_helpful(self) -> bool {
        match self {
            Action::Begin
            | Action::CoordinatorTick
            | Action::SourceTick
            | Action::TargetTick
            | Action::SourceLinkUp
            | Action::TargetLinkUp
            | Action::Deliver(_)
            | Action::SourceReport(_)
            | Action::TargetReport(_)
            | Action::TargetSealsDisks
            | Action::TargetSeesLoaded => true,
            // What a lost message means on a link: TCP tells both sides.
            Action::SourceLinkLost | Action::TargetLinkLost => true,
            Action::SourceDoes(_, end) | Action::TargetDoes(_, end) => end == End::Done || end == End::FoundDead,
            Action::Cancel
            | Action::TargetOverdue
            | Action::AllMessagesLost
            | Action::SourceAgentDies
            | Action::TargetAgentDies
            | Action::SourceQemuDies
            | Action::TargetQemuDies
            | Action::OperatorCancels
            | Action::OperatorDiscards
            | Action::TargetRunsOutOfSpace => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Send,
    Cancel,
    QuerySource,
    Receive,
    Discard,
    QueryTarget,
    Attach,
    Commit,
    Abort,
    Prepared,
    Refused,
    Sealed,
    Owned,
    Running,
    WhatIsSo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Copy,
    Stop,
    Finish,
    Continue,
    Retire,
    Prepare,
    Activate,
    Undo,
}

/// How a piece of work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// Nothing was done.
    FailedBefore,
    /// All was done, and yet a failure is told.
    FailedAfter,
    /// All was done, and the agent died before it knew.
    DiedAfter,
    /// The storage says so, nothing else was done, and the agent died.
    DiedBetween,
    /// The guest's QEMU was gone.
    FoundDead,
}

/// Numbers of the events that the world itself raises.
struct SourceEvents {
    tick: u8,
    link_lost: u8,
    link_up: u8,
    restarted: u8,
    failed: u8,
    cancel: u8,
    converged: u8,
    stopped: u8,
    completed: u8,
    undone: u8,
    retired: u8,
}

struct TargetEvents {
    tick: u8,
    link_lost: u8,
    link_up: u8,
    restarted: u8,
    failed: u8,
    discard: u8,
    prepared: u8,
    sealed: u8,
    loaded: u8,
    cont_done: u8,
    cont_failed: u8,
    guest_lost: u8,
    undone: u8,
}

pub struct Model {
    pub roles: Roles,
    pub storage: Storage,
    fault: Option<Fault>,
    to_source: Vec<(u64, Message, u8)>,
    to_target: Vec<(u64, Message, u8)>,
    source_events: SourceEvents,
    target_events: TargetEvents,
    begin: u8,
    cancel: u8,
    target_overdue: u8,
    coordinator_tick: u8,
    /// Of the coordinator's event `SourceIs(phase 0)`, and `TargetIs(phase 0)`.
    source_is: u8,
    target_is: u8,
}

impl Model {
    pub fn new(roles: Roles, storage: Storage, fault: Option<Fault>) -> Self {
        use coordinator::Event::{Begin, Cancel, SourceIs, TargetIs, TargetOverdue, Tick};
        let coordinator = |event| roles.coordinator_event(&event);
        Model {
            to_source: to_source(&roles),
            to_target: to_target(&roles),
            source_events: source_events(&roles),
            target_events: target_events(&roles),
            begin: coordinator(Begin),
            cancel: coordinator(Cancel),
            target_overdue: coordinator(TargetOverdue),
            coordinator_tick: coordinator(Tick),
            source_is: coordinator(SourceIs(source::Phase::Idle)),
            target_is: coordinator(TargetIs(target::Phase::Unknown)),
            roles,
            storage,
            fault,
        }
    }

    /// Every state that may follow; a step that changes nothing is left out.
    pub fn next_states(&self, state: State, found: &mut Vec<(Action, State)>) {
        found.clear();
        self.coordinator_acts(state, found);
        self.messages_arrive(state, found);
        self.source_acts(state, found);
        self.target_acts(state, found);
        self.world_acts(state, found);
        found.retain(|(_, next)| *next != state);
    }

    fn coordinator_acts(&self, state: State, found: &mut Vec<(Action, State)>) {
        found.push((Action::Begin, self.coordinator(state, self.begin)));
        found.push((Action::Cancel, self.coordinator(state, self.cancel)));
        found.push((Action::TargetOverdue, self.coordinator(state, self.target_overdue)));
        found.push((Action::CoordinatorTick, self.coordinator(state, self.coordinator_tick)));
        for phase in 0..self.roles.source_phases.len() as u8 {
            if state.net & (1 << (net::SOURCE_IS + u32::from(phase))) != 0 {
                found.push((Action::SourceReport(phase), self.coordinator(state, self.source_is + phase)));
            }
        }
        for phase in 0..self.roles.target_phases.len() as u8 {
            if state.net & (1 << (net::TARGET_IS + u32::from(phase))) != 0 {
                found.push((Action::TargetReport(phase), self.coordinator(state, self.target_is + phase)));
            }
        }
    }

    fn messages_arrive(&self, state: State, found: &mut Vec<(Action, State)>) {
        for (bit, message, event) in &self.to_source {
            if state.net & bit != 0 {
                found.push((Action::Deliver(*message), self.source(state, *event)));
            }
        }
        for (bit, message, event) in &self.to_target {
            if state.net & bit != 0 {
                found.push((Action::Deliver(*message), self.target(state, *event)));
            }
        }
        found.push((Action::AllMessagesLost, State { net: 0, ..state }));
    }

    fn source_acts(&self, state: State, found: &mut Vec<(Action, State)>) {
        let events = &self.source_events;
        found.push((Action::SourceTick, self.source(state, events.tick)));
        found.push((Action::SourceLinkLost, self.source(state, events.link_lost)));
        found.push((Action::SourceLinkUp, self.source(state, events.link_up)));
        for (bit, work) in SOURCE_WORK {
            if state.source_work & bit != 0 {
                let waiting = State { source_work: state.source_work & !bit, ..state };
                self.source_works(waiting, work, found);
            }
        }
        if state.deaths < DEATHS_MAX {
            found.push((Action::SourceAgentDies, self.source_dies(state)));
        }
    }

    fn source_works(&self, state: State, work: Work, found: &mut Vec<(Action, State)>) {
        let events = &self.source_events;
        let needs_qemu = match work {
            Work::Copy | Work::Stop | Work::Finish | Work::Continue => true,
            Work::Undo | Work::Retire | Work::Prepare | Work::Activate => false,
        };
        if (needs_qemu && !state.is(SOURCE_QEMU)) || (work == Work::Continue && !state.is(TARGET_QEMU)) {
            found.push((Action::SourceDoes(work, End::FoundDead), self.source(state, events.failed)));
            return;
        }
        let mut done = state;
        let (event, may_fail) = match work {
            Work::Copy => {
                done.world |= ARMED;
                (Some(events.converged), true)
            }
            Work::Stop => {
                done.world &= !SOURCE_RUNS;
                (Some(events.stopped), true)
            }
            Work::Finish => {
                done.world |= if state.is(TARGET_FILES) { SHIPPED } else { 0 };
                (None, true)
            }
            Work::Continue => {
                done.world |= LOADED;
                done.world &= !SOURCE_WRITES;
                done.world |= if self.fault == Some(Fault::OpenedAtLoad) { TARGET_WRITES } else { 0 };
                (Some(events.completed), true)
            }
            Work::Undo => {
                // What the target has is old from the moment that the guest goes on here.
                done.world &= !(ARMED | SHIPPED | SEALED | LOADED);
                done.world |= if state.is(SOURCE_QEMU) { SOURCE_RUNS | self.if_shared(SOURCE_WRITES) } else { 0 };
                (Some(events.undone), false)
            }
            Work::Retire => {
                done.world &= !(ARMED | SOURCE_QEMU | SOURCE_RUNS | SOURCE_WRITES);
                if !self.storage.is_shared() || self.fault == Some(Fault::SharedDisksRetired) {
                    done.world &= !SOURCE_DISKS;
                }
                (Some(events.retired), false)
            }
            Work::Prepare | Work::Activate => return,
        };
        let told = event.map_or(done, |event| self.source(done, event));
        found.push((Action::SourceDoes(work, End::Done), told));
        if may_fail {
            found.push((Action::SourceDoes(work, End::FailedBefore), self.source(state, events.failed)));
            found.push((Action::SourceDoes(work, End::FailedAfter), self.source(done, events.failed)));
        }
        if state.deaths < DEATHS_MAX {
            found.push((Action::SourceDoes(work, End::DiedAfter), self.source_dies(done)));
        }
    }

    fn target_acts(&self, state: State, found: &mut Vec<(Action, State)>) {
        let events = &self.target_events;
        found.push((Action::TargetTick, self.target(state, events.tick)));
        found.push((Action::TargetLinkLost, self.target(state, events.link_lost)));
        found.push((Action::TargetLinkUp, self.target(state, events.link_up)));
        for (bit, work) in TARGET_WORK {
            if state.target_work & bit != 0 {
                let waiting = State { target_work: state.target_work & !bit, ..state };
                self.target_works(waiting, work, found);
            }
        }
        if state.deaths < DEATHS_MAX {
            found.push((Action::TargetAgentDies, self.target_dies(state)));
        }
    }

    fn target_works(&self, state: State, work: Work, found: &mut Vec<(Action, State)>) {
        let events = &self.target_events;
        let mut done = state;
        let event = match work {
            Work::Prepare => {
                done.world |= TARGET_FILES | TARGET_QEMU;
                found.push((Action::TargetDoes(work, End::FailedBefore), self.target(state, events.failed)));
                found.push((Action::TargetDoes(work, End::FailedAfter), self.target(done, events.failed)));
                events.prepared
            }
            Work::Activate => {
                if !state.is(TARGET_QEMU) {
                    let event = if state.is(TARGET_RAN) { events.guest_lost } else { events.cont_failed };
                    found.push((Action::TargetDoes(work, End::FoundDead), self.target(state, event)));
                    return;
                }
                if !state.is(TARGET_RAN) {
                    if !state.is(LOADED) {
                        return;
                    }
                    let named = State { world: state.world | self.if_shared(TARGET_NAMED), ..state };
                    found.push((Action::TargetDoes(work, End::FailedBefore), self.target(named, events.cont_failed)));
                    if named != state && state.deaths < DEATHS_MAX {
                        found.push((Action::TargetDoes(work, End::DiedBetween), self.target_dies(named)));
                    }
                    done.world |= self.if_shared(TARGET_NAMED | TARGET_WRITES);
                    done.world |= if state.is(SEALED) { 0 } else { RAN_INCOMPLETE };
                }
                done.world |= TARGET_RUNS | TARGET_RAN;
                events.cont_done
            }
            Work::Undo => {
                done.world &= !(SHIPPED | SEALED | LOADED | TARGET_FILES | TARGET_QEMU | TARGET_RUNS | TARGET_WRITES);
                done.world &= if self.fault == Some(Fault::SharedDisksUndone) { !SOURCE_DISKS } else { !0 };
                done.world &= if self.fault == Some(Fault::RefusalKeepsName) { !0 } else { !TARGET_NAMED };
                events.undone
            }
            Work::Copy | Work::Stop | Work::Finish | Work::Continue | Work::Retire => return,
        };
        found.push((Action::TargetDoes(work, End::Done), self.target(done, event)));
        if state.deaths < DEATHS_MAX {
            found.push((Action::TargetDoes(work, End::DiedAfter), self.target_dies(done)));
        }
    }

    fn world_acts(&self, state: State, found: &mut Vec<(Action, State)>) {
        let events = &self.target_events;
        if state.is(SHIPPED) && !state.is(SEALED) {
            let sealed = State { world: state.world | SEALED, ..state };
            found.push((Action::TargetSealsDisks, self.target(sealed, events.sealed)));
        }
        if state.is(LOADED | SEALED) {
            found.push((Action::TargetSeesLoaded, self.target(state, events.loaded)));
        }
        if state.is(TARGET_QEMU) {
            let dead = State { world: state.world & !(TARGET_QEMU | TARGET_RUNS | TARGET_WRITES | LOADED), ..state };
            found.push((Action::TargetQemuDies, self.target(dead, events.failed)));
        }
        if state.is(SOURCE_QEMU) {
            let dead = State { world: state.world & !(SOURCE_QEMU | SOURCE_RUNS | SOURCE_WRITES | ARMED), ..state };
            found.push((Action::SourceQemuDies, self.source(dead, self.source_events.failed)));
        }
        if state.is(TARGET_FILES) {
            found.push((Action::TargetRunsOutOfSpace, self.target(state, events.failed)));
        }
        found.push((Action::OperatorCancels, self.source(state, self.source_events.cancel)));
        found.push((Action::OperatorDiscards, self.target(state, events.discard)));
    }

    fn if_shared(&self, bits: u32) -> u32 {
        if self.storage.is_shared() { bits } else { 0 }
    }

    fn coordinator(&self, mut state: State, event: u8) -> State {
        let cell = self.roles.coordinator(state.coordinator, event);
        state.coordinator = cell.next;
        state.net |= cell.sent;
        match cell.close {
            Some(Close::Completed) => state.world &= !SOURCE_CLAIM,
            Some(Close::Kept) => state.world &= !TARGET_CLAIM,
            None => {}
        }
        state
    }

    fn source(&self, mut state: State, event: u8) -> State {
        let cell = self.roles.source(state.source, event);
        state.source = cell.next;
        state.source_journal = cell.journal.unwrap_or(state.source_journal);
        state.source_work = taken_up(state.source_work, cell);
        state.net |= cell.sent;
        state
    }

    fn target(&self, mut state: State, event: u8) -> State {
        let cell = self.roles.target(state.target, event);
        state.target = cell.next;
        state.target_journal = cell.journal.unwrap_or(state.target_journal);
        state.target_work = taken_up(state.target_work, cell);
        state.net |= cell.sent;
        state
    }

    fn source_dies(&self, mut state: State) -> State {
        state.deaths += 1;
        state.source = state.source_journal;
        state.source_work = 0;
        self.source(state, self.source_events.restarted)
    }

    fn target_dies(&self, mut state: State) -> State {
        state.deaths += 1;
        state.target = state.target_journal;
        state.target_work = 0;
        self.target(state, self.target_events.restarted)
    }
}

const SOURCE_WORK: [(u8, Work); 6] = [
    (work::COPY, Work::Copy),
    (work::STOP, Work::Stop),
    (work::FINISH, Work::Finish),
    (work::CONTINUE, Work::Continue),
    (work::RETIRE, Work::Retire),
    (work::UNDO, Work::Undo),
];
const TARGET_WORK: [(u8, Work); 3] =
    [(work::PREPARE, Work::Prepare), (work::ACTIVATE, Work::Activate), (work::UNDO, Work::Undo)];

/// An undo stops all other work of its side first.
fn taken_up(under_way: u8, cell: &Cell) -> u8 {
    if cell.work & work::UNDO != 0 { work::UNDO } else { under_way | cell.work }
}

fn to_source(roles: &Roles) -> Vec<(u64, Message, u8)> {
    use source::Event;
    [
        (net::SEND, Message::Send, Event::Start),
        (net::CANCEL, Message::Cancel, Event::Cancel { failure: failure() }),
        (net::QUERY_SOURCE, Message::QuerySource, Event::Query),
        (net::PREPARED, Message::Prepared, Event::TargetPrepared),
        (net::REFUSED, Message::Refused, Event::TargetRefused { failure: failure() }),
        (net::SEALED, Message::Sealed, Event::Sealed),
        (net::OWNED, Message::Owned, Event::TargetOwned),
        (net::RUNNING, Message::Running, Event::TargetRunning),
        (net::WHAT_IS_SO, Message::WhatIsSo, Event::WhatIsSo),
    ]
    .into_iter()
    .map(|(bit, message, event)| (bit, message, roles.source_event(&event)))
    .collect()
}

fn to_target(roles: &Roles) -> Vec<(u64, Message, u8)> {
    use target::Event;
    [
        (net::RECEIVE, Message::Receive, Event::Receive),
        (net::DISCARD, Message::Discard, Event::Discard { failure: failure() }),
        (net::QUERY_TARGET, Message::QueryTarget, Event::Query),
        (net::ATTACH, Message::Attach, Event::Attach),
        (net::COMMIT, Message::Commit, Event::CommitReceived),
        (net::ABORT, Message::Abort, Event::AbortReceived),
    ]
    .into_iter()
    .map(|(bit, message, event)| (bit, message, roles.target_event(&event)))
    .collect()
}

fn source_events(roles: &Roles) -> SourceEvents {
    use source::Event;
    let id = |event| roles.source_event(&event);
    SourceEvents {
        tick: id(Event::Tick),
        link_lost: id(Event::LinkLost),
        link_up: id(Event::LinkUp),
        restarted: id(Event::Restarted),
        failed: id(Event::Failed { failure: failure() }),
        cancel: id(Event::Cancel { failure: failure() }),
        converged: id(Event::CopyConverged),
        stopped: id(Event::GuestStopped),
        completed: id(Event::RamCompleted),
        undone: id(Event::UndoFinished),
        retired: id(Event::RetireFinished),
    }
}

fn target_events(roles: &Roles) -> TargetEvents {
    use target::Event;
    let id = |event| roles.target_event(&event);
    TargetEvents {
        tick: id(Event::Tick),
        link_lost: id(Event::LinkLost),
        link_up: id(Event::LinkUp),
        restarted: id(Event::Restarted),
        failed: id(Event::Failed { failure: failure() }),
        discard: id(Event::Discard { failure: failure() }),
        prepared: id(Event::PrepareFinished),
        sealed: id(Event::DisksSealed),
        loaded: id(Event::StateLoaded),
        cont_done: id(Event::ContDone),
        cont_failed: id(Event::ContFailed { failure: failure() }),
        guest_lost: id(Event::GuestLost),
        undone: id(Event::UndoFinished),
    }
}
