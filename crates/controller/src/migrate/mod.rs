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
//! controller can drive any migration on; progress is shown from memory and stored now and then. The move itself goes on
//! without any of this.
mod create;
mod debt;
mod driver;
mod effects;
mod observed;
mod patience;
mod plan;
mod verdict;
mod view;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;
use whimbrel_core::{id::MigrationId, migration::coordinator::Phase};
use whimbrel_store::{MigrationRow, PageAsk, StoreError};

pub use create::{ResizeWish, Wish, cancel, create};
pub use observed::Observed;
pub use plan::plan;
pub(crate) use plan::wishes;
pub use verdict::told;
pub use view::view;

use crate::app::Shared;

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

/// Drives the migration on, from wherever it is, unless that is being done.
pub fn drive(app: &Shared, row: MigrationRow) {
    let Some(driven) = app.drivers.take(row.id) else { return };
    let (app, id) = (app.clone(), row.id);
    app.tasks.clone().spawn(async move {
        tokio::select! {
            () = app.shutdown.cancelled() => {}
            () = driver::run(&app, row, driven) => {}
        }
        app.drivers.forget(id);
    });
}

/// After a restart: every migration that has not ended or whose target owes its clean-up, and every one whose verification was not seen to end.
pub async fn drive_on(app: &Shared) -> Result<(), StoreError> {
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_unfinished_migrations(&ask).await?;
        for row in page.items {
            tracing::info!(migration = %row.id, phase = ?row.phase, "driving a migration on");
            drive(app, row);
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            break;
        }
    }
    loop {
        let page = app.store.list_migrations(None, &ask).await?;
        for row in page.items.into_iter().filter(|row| row.phase.is_end() && watch::is_due(row)) {
            drive(app, row);
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(());
        }
    }
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
