//! All that the guest does at once, and how it is stopped for a moment to be checked.
//!
//! ```text
//!   journal thread per disk --+
//!   load thread --------------+-- each unit of work under `gate` (shared) -- verify takes `gate` alone
//!   RAM thread ---------------+
//! ```
//!
//! Ground rules: a unit is done and, if it is a record, acknowledged before its worker leaves the gate; so whoever holds the
//! gate alone sees disks, RAM and acknowledgements of one and the same moment. Lock order: gate, then one part.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use crate::{
    journal::Journal,
    link::Link,
    load::{BLOCK_BYTES, Load},
    memory::{Memory, PAGE_BYTES},
    pace::Pace,
    read_only,
    wire::{Findings, FromGuest, Head, Order, Outcome, Rates, Task},
};

/// Enough to see what is wrong; more would only fill the line.
const FAULTS_MAX: usize = 8;
/// Pages per unit of RAM work: one timer per page would cost more than the page.
const PAGES_PER_UNIT: usize = 16;

pub struct Work {
    pub link: Link,
    gate: RwLock<()>,
    rates: Mutex<Rates>,
    journals: Vec<Mutex<Journal>>,
    load: Mutex<Load>,
    memory: Mutex<Memory>,
    faults: Mutex<Vec<String>>,
    load_bytes: AtomicU64,
}

impl Work {
    pub fn new(rates: Rates, journals: Vec<Journal>, load: Load, memory: Memory) -> Work {
        Work {
            link: Link::default(),
            gate: RwLock::default(),
            rates: Mutex::new(rates),
            journals: journals.into_iter().map(Mutex::new).collect(),
            load: Mutex::new(load),
            memory: Mutex::new(memory),
            faults: Mutex::default(),
            load_bytes: AtomicU64::new(0),
        }
    }

    /// Starts every worker; they never end. RAM that cannot be checked yet when this returns is locked until it can.
    pub fn start(self: &Arc<Work>) {
        for index in 0..self.journals.len() {
            let work = self.clone();
            thread::spawn(move || work.keep_journal(index));
        }
        let work = self.clone();
        thread::spawn(move || work.keep_loading());
        if !locked(&self.memory).is_empty() {
            let work = self.clone();
            let (entered, ready) = mpsc::channel();
            thread::spawn(move || work.keep_dirtying(&entered));
            // Fails only with the thread, and then the check will say so.
            let _ = ready.recv();
        }
    }

    /// No unit of work is under way while the guard lives.
    pub fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn heads(&self) -> Vec<Head> {
        self.journals.iter().map(|journal| locked(journal).head()).collect()
    }

    pub fn load_bytes(&self) -> u64 {
        self.load_bytes.load(Ordering::Relaxed)
    }

    /// Carries an order out and reports. What was verified is reported before any work goes on, so that no later
    /// acknowledgement overtakes it.
    pub fn obey(&self, order: Order) -> io::Result<()> {
        let report = |outcome: Result<Outcome, String>| {
            let outcome = outcome.unwrap_or_else(|why| Outcome::Failed { why });
            self.link.say(&FromGuest::Report { id: order.id, outcome })
        };
        match order.task {
            Task::Set(rates) => {
                *locked(&self.rates) = rates;
                report(Ok(Outcome::Done))
            }
            Task::WriteChanges { bytes } => report(self.write_changes(bytes).map(|()| Outcome::Done)),
            Task::Verify { resume } => {
                let _pause = self.pause();
                if !resume {
                    *locked(&self.rates) = Rates { write_bps: 0, fsync_hz: 0, ram_bps: 0 };
                }
                report(self.verify().map(Outcome::Verified))
            }
        }
    }

    fn write_changes(&self, bytes: u64) -> Result<(), String> {
        let blocks = bytes.div_ceil(BLOCK_BYTES as u64);
        let region = locked(&self.load).blocks();
        if blocks > region {
            let region_bytes = region * BLOCK_BYTES as u64;
            return Err(format!("{bytes} bytes of changes do not fit the load's region of {region_bytes} bytes"));
        }
        for index in 0..blocks {
            let _gate = self.enter();
            let mut load = locked(&self.load);
            load.write_nth(index).map_err(|error| format!("the root disk refused a write: {error}"))?;
            self.load_bytes.store(load.written_bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn verify(&self) -> Result<Findings, String> {
        let failed = |what: &str, error: io::Error| format!("cannot read {what} back: {error}");
        let mut findings = Findings::default();
        for journal in &self.journals {
            let journal = locked(journal);
            let found = journal.check().map_err(|error| failed(&journal.head().disk, error))?;
            if found.lost + found.reordered + found.invented + found.unchained > 0 {
                findings.faults.push(format!("journal {found:?}"));
            }
            findings.journals.push(found);
        }
        let load = locked(&self.load).check().map_err(|error| failed("the load", error))?;
        (findings.load_blocks_checked, findings.load_blocks_bad) = (load.checked, load.bad);
        if let Some(block) = load.first_bad {
            findings.faults.push(format!("load: {} of {} blocks, the first is {block}", load.bad, load.checked));
        }
        findings.read_only_disks = read_only::read_all().map_err(|error| failed("the read-only disks", error))?;
        let memory = locked(&self.memory).check();
        (findings.ram_pages_checked, findings.ram_pages_bad) = (memory.checked, memory.bad);
        if memory.bad > 0 {
            findings.faults.push(format!("RAM: {} of {} pages", memory.bad, memory.checked));
        }
        findings.faults.extend(locked(&self.faults).iter().cloned());
        findings.faults.truncate(FAULTS_MAX);
        Ok(findings)
    }

    fn keep_journal(&self, index: usize) -> ! {
        let mut pace = Pace::new();
        loop {
            pace.wait(|| f64::from(self.rates().fsync_hz));
            let _gate = self.enter();
            let mut journal = locked(&self.journals[index]);
            match journal.append() {
                Ok(head) => self.link.acknowledge(head),
                Err(error) => self.fault(format!("{}: a record was refused: {error}", journal.head().disk)),
            }
        }
    }

    fn keep_loading(&self) -> ! {
        let mut pace = Pace::new();
        loop {
            pace.wait(|| self.rates().write_bps as f64 / BLOCK_BYTES as f64);
            let _gate = self.enter();
            let mut load = locked(&self.load);
            match load.write_one() {
                Ok(()) => self.load_bytes.store(load.written_bytes(), Ordering::Relaxed),
                Err(error) => self.fault(format!("root: a write was refused: {error}")),
            }
        }
    }

    fn keep_dirtying(&self, entered: &mpsc::Sender<()>) -> ! {
        {
            let mut memory = locked(&self.memory);
            let _ = entered.send(());
            memory.fill_all();
        }
        let mut pace = Pace::new();
        loop {
            pace.wait(|| self.rates().ram_bps as f64 / (PAGES_PER_UNIT * PAGE_BYTES) as f64);
            let _gate = self.enter();
            let mut memory = locked(&self.memory);
            for _ in 0..PAGES_PER_UNIT {
                memory.dirty_one();
            }
        }
    }

    fn rates(&self) -> Rates {
        *locked(&self.rates)
    }

    fn enter(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A refused write is a fault of the disk that no later reading would show.
    fn fault(&self, what: String) {
        println!("FAULT {what}");
        let mut faults = locked(&self.faults);
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }
}

/// A worker that panicked left its part between two units or in a state that the check will find.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
