//! What of the work is this controller's: leases taken, renewed, and given up at once when they cannot be renewed.
//!
//! ```text
//! start -> enlist -> look -> serve
//! every RENEW_EVERY: look = renew what is held -> core's steps -> take, give back
//! no renewal in time, or taken by another -> every task under the lease is dropped
//! end -> all is given back, so that nobody has to wait for its end
//! ```
//!
//! Ground rules: one controller on SQLite goes the same way; what is done under a lease bears its fence, in the store and to the
//! agents, so that a task that was dropped too late changes nothing; a controller whose name was taken by another one stops.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use whimbrel_core::{
    id::{HostName, InstanceId},
    lease::{self, Fence, Holder, LeaseStep, Work},
};
use whimbrel_store::{LeaseLook, Store, StoreError};

use crate::app::Shared;

const RENEW_EVERY: Duration = Duration::from_secs(2);

pub struct Leases {
    me: Holder,
    address: String,
    held: Mutex<Held>,
    /// How often work came: what it is about is to be looked through then.
    taken: AtomicU64,
}

#[derive(Default)]
struct Held {
    turns: BTreeMap<Work, Turn>,
    /// By this controller's own clock; `None` before the first renewal.
    until: Option<Instant>,
}

/// Some work that is this controller's until `lost`.
#[derive(Clone, Debug)]
pub struct Turn {
    pub work: Work,
    pub fence: Fence,
    pub lost: CancellationToken,
}

impl Leases {
    pub fn new(name: &HostName, address: String) -> Self {
        let me = Holder { name: name.to_string(), run: Uuid::now_v7().to_string() };
        Leases { me, address, held: Mutex::default(), taken: AtomicU64::new(0) }
    }

    /// All that is asked of agents for a server, if it is for this controller to do.
    pub fn of(&self, server: InstanceId) -> Option<Turn> {
        self.turn(Work::of(server))
    }

    pub fn turn(&self, work: Work) -> Option<Turn> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.turns.get(&work).filter(|_| held.until.is_some_and(|until| Instant::now() < until)).cloned()
    }

    /// When all that is held is lost unless it is renewed.
    fn until(&self) -> Option<Instant> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.until.filter(|_| !held.turns.is_empty())
    }

    /// `asked`: before the database was asked, so that this clock ends first.
    fn renewed(&self, look: &LeaseLook, asked: Instant) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = |lease: &&lease::Lease| lease.holder.as_ref() == Some(&self.me) && lease.ends_us > look.now_us;
        let now: BTreeMap<Work, Fence> =
            look.leases.iter().filter(mine).map(|lease| (lease.work, lease.fence)).collect();
        held.turns.retain(|work, turn| {
            let kept = now.get(work) == Some(&turn.fence);
            if !kept {
                tracing::warn!(%work, fence = turn.fence.0, "a lease is another controller's by now");
                turn.lost.cancel();
            }
            kept
        });
        for (work, fence) in now {
            held.turns.entry(work).or_insert_with(|| Turn { work, fence, lost: CancellationToken::new() });
        }
        held.until = Some(asked + lease::WORK_TIME);
    }

    pub fn times_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn took(&self, taken: &[(Work, Fence)]) {
        self.taken.fetch_add(u64::from(!taken.is_empty()), Ordering::Relaxed);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (work, fence) in taken {
            let turn = Turn { work: *work, fence: *fence, lost: CancellationToken::new() };
            if let Some(before) = held.turns.insert(*work, turn) {
                before.lost.cancel();
            }
        }
    }

    fn lose(&self, work: Work) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = held.turns.remove(&work) {
            turn.lost.cancel();
        }
    }

    fn lose_all(&self) {
        let turns = std::mem::take(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner).turns);
        for turn in turns.values() {
            turn.lost.cancel();
        }
    }
}

/// Before anything is served: one controller alone has all the work from its first call on.
pub async fn begin(store: &Store, leases: &Leases) -> Result<(), StoreError> {
    store.enlist(&leases.me, &leases.address).await?;
    look(store, leases).await
}

async fn look(store: &Store, leases: &Leases) -> Result<(), StoreError> {
    let asked = Instant::now();
    let look = store.renew_leases(&leases.me).await?;
    leases.renewed(&look, asked);
    let mut wanted = Vec::new();
    for step in lease::steps(look.now_us, &leases.me, look.alive, &look.leases) {
        match step {
            LeaseStep::Take { work, seen } => wanted.push((work, seen)),
            LeaseStep::GiveBack { work, fence } => {
                leases.lose(work);
                store.give_back_lease(&leases.me, work, fence).await?;
            }
        }
    }
    let taken = store.take_leases(&leases.me, &wanted).await?;
    leases.took(&taken);
    if !taken.is_empty() {
        let works: Vec<String> = taken.iter().map(|(work, _)| work.to_string()).collect();
        tracing::info!(controllers = look.alive, work = works.join(" "), "took work");
    }
    Ok(())
}

/// Until shutdown.
pub async fn keep(app: Shared) {
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = too_late(&app.leases) => stop_all(&app.leases),
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        let looked = tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = too_late(&app.leases) => {
                stop_all(&app.leases);
                continue;
            }
            looked = look(&app.store, &app.leases) => looked,
        };
        match looked {
            Ok(()) => {}
            Err(error @ StoreError::Conflict { .. }) => {
                tracing::error!(%error, "this controller stops");
                app.leases.lose_all();
                app.shutdown.cancel();
                return;
            }
            Err(error) => tracing::warn!(%error, "leases could not be renewed"),
        }
    }
}

/// Returns when what is held is not held any more for want of a renewal.
async fn too_late(leases: &Leases) {
    match leases.until() {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn stop_all(leases: &Leases) {
    tracing::warn!("leases were not renewed in time: all work stops until they are");
    leases.lose_all();
}

/// At the end, when nothing is done any more.
pub async fn give_back(store: &Store, leases: &Leases) {
    leases.lose_all();
    if let Err(error) = store.leave(&leases.me).await {
        tracing::warn!(%error, "leases could not be given back; they end by themselves");
    }
}
