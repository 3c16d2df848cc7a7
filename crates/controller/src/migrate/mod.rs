//! Moves: planned, begun, driven to their end, and watched until they are verified.
//!
//! ```text
//! POST plan         facts of both sides -> core's prechecks and forecast
//! POST migrations   the same -> row and claim in one transaction -> a driver
//! driver            event -> core's coordinator machine -> one transaction (compare-and-set) -> asks of the agents
//! debt              the server is free, its target is asked to clean up until it has
//! watch             after the move: the receipt, and the verification that goes on
//! ```
//!
//! Ground rules: the machine in `core` decides, the driver only carries; the store has what a restart needs, so that any
//! controller can drive any migration on, and the holder of the lease of the server's shard does; progress is shown from memory and stored now and then. The move itself goes on
//! without any of this.
mod create;
mod debt;
mod driver;
mod effects;
mod observed;
mod patience;
mod plan;
mod view;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use whimbrel_core::{id::MigrationId, migration::coordinator::Phase};
use whimbrel_store::{MigrationRow, StoreError, every};

pub use create::{Wish, cancel, create};
pub use observed::Observed;
pub use plan::plan;
pub use view::view;

use crate::app::{App, Shared};

/// One that another controller began waits for so long.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A verification that is not over this long after its move is nobody's concern any more: one day.
const UNVERIFIED_US: i64 = 86_400_000_000;

/// The migrations that this controller drives or watches, and what their agents said last.
#[derive(Debug, Default)]
pub struct Drivers {
    running: Mutex<HashMap<MigrationId, Arc<Driven>>>,
}

#[derive(Debug, Default)]
pub struct Driven {
    pub observed: Mutex<Observed>,
    pub nudge: Notify,
}

impl Driven {
    pub fn observed(&self) -> Observed {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drivers {
    pub fn of(&self, id: MigrationId) -> Option<Arc<Driven>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// `None` if somebody has it already.
    fn take(&self, id: MigrationId) -> Option<Arc<Driven>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains_key(&id) {
            return None;
        }
        let driven = Arc::new(Driven::default());
        running.insert(id, driven.clone());
        Some(driven)
    }

    fn forget(&self, id: MigrationId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// Drives the migration on, from wherever it is, unless that is being done, or is another controller's to do.
pub fn drive(app: &Shared, row: MigrationRow) {
    let Some(turn) = app.leases.of(row.instance) else { return };
    let Some(driven) = app.drivers.take(row.id) else { return };
    let (app, id) = (app.clone(), row.id);
    app.tasks.clone().spawn(async move {
        tokio::select! {
            () = app.shutdown.cancelled() => {}
            () = turn.lost.cancelled() => tracing::info!(migration = %id, "another controller drives it on"),
            () = driver::run(&app, row, driven, &turn) => {}
        }
        app.drivers.forget(id);
    });
}

/// Drives on what is this controller's to drive, whoever began it: every migration that has not ended or whose target owes its
/// clean-up and, when work came, every one whose verification was not seen to end.
pub async fn keep_driving(app: Shared) {
    let mut taken = 0;
    loop {
        let times = app.leases.times_taken();
        match look(&app, times != taken).await {
            Ok(()) => taken = times,
            Err(error) => tracing::warn!(%error, "cannot look for migrations to drive"),
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(app: &Shared, ended_too: bool) -> Result<(), StoreError> {
    let mut due = every(|ask| async move { app.store.list_unfinished_migrations(&ask).await }).await?;
    if ended_too {
        let since_us = App::now_us() - UNVERIFIED_US;
        let ended = every(|ask| async move { app.store.list_unverified_migrations(since_us, &ask).await }).await?;
        due.extend(ended.into_iter().filter(watch::is_due));
    }
    for row in due {
        drive(app, row);
    }
    Ok(())
}

/// The phase as a word for the log and for people.
fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Preparing => "preparing the target",
        Phase::Running => "moving",
        Phase::Cancelling { .. } => "being undone on the source",
        Phase::Clearing { .. } => "being undone on the target",
        Phase::Owing { .. } => "over; the target has yet to clean up",
        Phase::Settling => "the guest runs on the target; the source retires its copy",
        Phase::Done(_) => "done",
    }
}
