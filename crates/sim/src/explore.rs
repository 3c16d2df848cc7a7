//! Breadth first over every reachable state: the first trace that is found is a shortest one.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use whimbrel_core::{disk::Storage, migration::target};

use crate::{
    fault::Fault,
    model::{Action, Model, State, world::*},
    roles::Roles,
};

/// A model that grows past this is not explored but a mistake.
pub const STATES_MAX: usize = 20_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Never two running guests.
    I1,
    /// Some side can always run it, whole and as it last was.
    I2,
    /// Every state reaches an end.
    I3,
    /// An end leaves nothing behind.
    I4,
}

/// How an invariant is broken, by a shortest road.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub what: &'static str,
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} is broken: {}", self.invariant, self.what)?;
        for (number, line) in self.trace.iter().enumerate() {
            writeln!(f, "{:4}  {line}", number + 1)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    pub states: usize,
    pub transitions: usize,
    /// States in which all three roles are at an end: the guest at the target, at the source.
    pub ends_at_target: usize,
    pub ends_at_source: usize,
}

/// Explores all; the shortest violation, if there is one.
pub fn explore(storage: Storage, fault: Option<Fault>) -> Result<Explored, Box<Violation>> {
    let model = Model::new(Roles::new(fault), storage, fault);
    let mut search = Search::new(&model);
    search.run()
}

struct Search<'a> {
    model: &'a Model,
    ids: HashMap<State, u32, BuildHasherDefault<StateHasher>>,
    states: Vec<State>,
    /// By state: from where, and by what, it was first reached.
    came_from: Vec<(u32, Option<Action>)>,
    /// Successors by helpful actions: of state `n`, from `helpful_from[n]` on.
    helpful: Vec<u32>,
    helpful_from: Vec<usize>,
    explored: Explored,
}

impl<'a> Search<'a> {
    fn new(model: &'a Model) -> Self {
        Search {
            model,
            ids: HashMap::default(),
            states: vec![],
            came_from: vec![],
            helpful: vec![],
            helpful_from: vec![],
            explored: Explored::default(),
        }
    }

    fn run(&mut self) -> Result<Explored, Box<Violation>> {
        self.reach(self.first(), 0, None);
        let mut found = Vec::with_capacity(64);
        let mut at = 0;
        while at < self.states.len() {
            let state = self.states[at];
            if let Some((invariant, what)) = self.broken(&state) {
                return Err(self.violation(invariant, what, at as u32));
            }
            self.helpful_from.push(self.helpful.len());
            self.model.next_states(state, &mut found);
            self.explored.transitions += found.len();
            for (action, next) in &found {
                let id = self.reach(*next, at as u32, Some(*action));
                if action.is_helpful() {
                    self.helpful.push(id);
                }
            }
            at += 1;
        }
        self.helpful_from.push(self.helpful.len());
        self.explored.states = self.states.len();
        self.check_ends()?;
        Ok(self.explored)
    }

    fn reach(&mut self, state: State, from: u32, by: Option<Action>) -> u32 {
        let fresh = self.states.len() as u32;
        match self.ids.entry(state) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(slot) => {
                assert!(
                    self.states.len() < STATES_MAX,
                    "more than {STATES_MAX} states: the model has grown out of hand"
                );
                slot.insert(fresh);
                self.states.push(state);
                self.came_from.push((from, by));
                fresh
            }
        }
    }

    /// I1, I2 and I4: of one state.
    fn broken(&self, state: &State) -> Option<(Invariant, &'static str)> {
        if state.is(SOURCE_RUNS) && state.is(TARGET_RUNS) {
            return Some((Invariant::I1, "the guest runs on both hosts"));
        }
        if state.is(SOURCE_WRITES) && state.is(TARGET_WRITES) {
            return Some((Invariant::I1, "both hosts have the disks open for writing"));
        }
        if state.is(RAN_INCOMPLETE) {
            return Some((Invariant::I2, "the target ran the guest on disks that were not sealed"));
        }
        if state.is(TARGET_RAN | SOURCE_RUNS) {
            return Some((Invariant::I2, "the source runs the guest from before it ran on the target"));
        }
        if self.is_shared() && !state.is(SOURCE_DISKS) {
            return Some((Invariant::I2, "the only disks are gone"));
        }
        if state.is(TARGET_NAMED) && self.has_refused(state) {
            return Some((Invariant::I2, "the storage names a host that refused"));
        }
        if self.is_shared() && state.is(TARGET_RUNS) && !state.is(TARGET_NAMED) {
            return Some((Invariant::I2, "the storage does not name the host that runs the guest"));
        }
        let source_can = state.is(SOURCE_DISKS) && !state.is(TARGET_RAN);
        let target_can = state.is(TARGET_RAN | TARGET_FILES) || state.is(SEALED | LOADED | TARGET_QEMU);
        if !source_can && !target_can {
            return Some((Invariant::I2, "no side can run the guest any more"));
        }
        self.let_go_too_early(state).or_else(|| self.left_behind(state)).map(|what| (Invariant::I4, what))
    }

    /// Once the server is free, another move of it may begin: nothing of this one may be under way where its guest is.
    fn let_go_too_early(&self, state: &State) -> Option<&'static str> {
        let roles = &self.model.roles;
        if !roles.coordinator_phases[state.coordinator as usize].is_owing() {
            return None;
        }
        let source_rests = roles.source_phases[state.source as usize].is_end() || state.source == self.first().source;
        let at_rest = source_rests && state.source_work == 0 && !state.is(ARMED);
        if !at_rest || !self.source_has_guest(state) {
            return Some("the server was let go before its source was at rest with the guest");
        }
        (!state.is(SOURCE_CLAIM | TARGET_CLAIM)).then_some("room was given away that the target may still fill")
    }

    /// Once the coordinator is done, also after whatever arrives later.
    fn left_behind(&self, state: &State) -> Option<&'static str> {
        let roles = &self.model.roles;
        if !roles.coordinator_phases[state.coordinator as usize].is_end() {
            return None;
        }
        let source = &roles.source_phases[state.source as usize];
        let target = &roles.target_phases[state.target as usize];
        let at_target = !state.is(SOURCE_CLAIM);
        let source_rests = source.is_end() || state.source == self.first().source;
        let target_rests = target.is_end() || state.target == self.first().target;
        if !source_rests || !target_rests {
            return Some("the coordinator is done, an agent is not");
        }
        if state.source_work != 0 || state.target_work != 0 || state.is(ARMED) {
            return Some("an end with work, a job or an export left");
        }
        if state.is(SOURCE_CLAIM | TARGET_CLAIM) || !state.is(SOURCE_CLAIM) && !state.is(TARGET_CLAIM) {
            return Some("an end with a claim on both hosts, or on none");
        }
        let clean = match at_target {
            true => {
                state.is(TARGET_FILES | TARGET_RAN)
                    && !state.is(SOURCE_QEMU)
                    && state.is(SOURCE_DISKS) == self.is_shared()
            }
            false => self.source_has_guest(state) && !state.is(TARGET_FILES) && !state.is(TARGET_QEMU),
        };
        (!clean).then_some("an end with a process or a file at the wrong side, or without the guest")
    }

    fn first(&self) -> State {
        State::first(self.model.storage)
    }

    fn is_shared(&self) -> bool {
        self.model.storage.is_shared()
    }

    fn has_refused(&self, state: &State) -> bool {
        matches!(self.model.roles.target_phases[state.target as usize], target::Phase::Refused { .. })
    }

    /// It runs there, or its QEMU died there and its disks are there to start it again.
    fn source_has_guest(&self, state: &State) -> bool {
        state.is(SOURCE_DISKS) && (state.is(SOURCE_RUNS) || !state.is(SOURCE_QEMU))
    }

    fn is_end(&self, state: &State) -> bool {
        self.model.roles.coordinator_phases[state.coordinator as usize].is_end()
    }

    /// I3: backwards from the ends, over helpful steps only, until nothing more is reached.
    fn check_ends(&mut self) -> Result<(), Box<Violation>> {
        let mut reaches: Vec<bool> = self.states.iter().map(|state| self.is_end(state)).collect();
        for (state, end) in self.states.iter().zip(&reaches) {
            if *end && state.is(SOURCE_CLAIM) {
                self.explored.ends_at_source += 1;
            } else if *end {
                self.explored.ends_at_target += 1;
            }
        }
        let mut changed = true;
        while changed {
            changed = false;
            for at in (0..self.states.len()).rev() {
                let next = &self.helpful[self.helpful_from[at]..self.helpful_from[at + 1]];
                if !reaches[at] && next.iter().any(|id| reaches[*id as usize]) {
                    reaches[at] = true;
                    changed = true;
                }
            }
        }
        match reaches.iter().position(|reached| !reached) {
            None => Ok(()),
            Some(stuck) => Err(self.violation(Invariant::I3, "no end can be reached from here", stuck as u32)),
        }
    }

    fn violation(&self, invariant: Invariant, what: &'static str, at: u32) -> Box<Violation> {
        let mut trace = vec![];
        let mut id = at;
        while let (from, Some(action)) = self.came_from[id as usize] {
            trace.push(format!("{action:?} => {}", self.in_words(&self.states[id as usize])));
            id = from;
        }
        trace.reverse();
        Box::new(Violation { invariant, what, trace })
    }

    fn in_words(&self, state: &State) -> String {
        let roles = &self.model.roles;
        let short = |text: String| text.split(" { failure").next().unwrap_or_default().to_owned();
        format!(
            "coordinator {}, source {}, target {}",
            short(format!("{:?}", roles.coordinator_phases[state.coordinator as usize])),
            short(format!("{:?}", roles.source_phases[state.source as usize])),
            short(format!("{:?}", roles.target_phases[state.target as usize])),
        )
    }
}

/// Mixes whole words: the states are small and trusted, and most of the time goes into hashing them.
#[derive(Clone, Copy, Debug, Default)]
pub struct StateHasher(u64);

const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for StateHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(MIX);
    }
}
