//! Waiting for a level: a state of QEMU that is asked for, not an event that was heard.
//!
//! ```text
//! query ──holds?──> done
//!   ^        │ no
//!   └────────┴── whichever is first: an event (asks again at once), or a pause of 1 ms that doubles up to 50 ms
//! ```
//!
//! An event only shortens the pause, so one that was lost, stale or doubled changes nothing but time. The pause
//! starts short since these waits sit inside a guest's downtime, and since the last step of a migration
//! (`completed` to `postmigrate`) sends no event at all.

use std::future::Future;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

use crate::client::{DEADLINE_DEFAULT, Qmp};
use crate::command::export::ExportInfo;
use crate::command::migration::MigrateInfo;
use crate::command::status::RunState;
use crate::error::{QmpError, Result};
use crate::event::Event;

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

impl Qmp {
    /// Waits until the run state satisfies `holds`.
    pub async fn wait_run_state(&self, holds: impl Fn(&RunState) -> bool, deadline: Duration) -> Result<RunState> {
        let query = |qmp: Qmp| async move { qmp.query_status().await };
        self.wait_level("the run state", query, holds, |state| state.to_string(), deadline).await
    }

    /// Waits until the migration satisfies `holds`. The predicate must also hold for the ends that the caller does
    /// not hope for (`MigrationStatus::is_over`), or a failure is only seen at the deadline.
    pub async fn wait_migration(
        &self,
        holds: impl Fn(&MigrateInfo) -> bool,
        deadline: Duration,
    ) -> Result<MigrateInfo> {
        let query = |qmp: Qmp| async move { qmp.query_migrate().await };
        let show = |info: &MigrateInfo| match &info.error_desc {
            Some(error) => format!("{} ({error})", info.status),
            None => info.status.to_string(),
        };
        self.wait_level("the migration's state", query, holds, show, deadline).await
    }

    /// Waits until the export `id` is gone: `block_export_del` only begins the removal.
    pub async fn wait_no_export(&self, id: &str, deadline: Duration) -> Result<()> {
        let query = |qmp: Qmp| async move { qmp.query_block_exports().await };
        let gone = |exports: &Vec<ExportInfo>| exports.iter().all(|export| export.id != id);
        let show = |exports: &Vec<ExportInfo>| format!("{} exports", exports.len());
        self.wait_level(&format!("the end of export {id}"), query, gone, show, deadline).await.map(drop)
    }

    /// Asks `query` again and again until `holds` is satisfied.
    pub async fn wait_level<T, F: Future<Output = Result<T>>>(
        &self,
        awaited: &str,
        query: impl Fn(Qmp) -> F,
        holds: impl Fn(&T) -> bool,
        show: impl Fn(&T) -> String,
        deadline: Duration,
    ) -> Result<T> {
        // Subscribed before the first query, so that nothing falls between the two.
        let mut events = self.events();
        let until = Instant::now() + deadline;
        let mut last = "none, QEMU did not answer".to_owned();
        let mut pause = PAUSE_MIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.not_reached(awaited, last, deadline));
            }
            let answer = match query(self.within(left.min(DEADLINE_DEFAULT))).await {
                Ok(answer) => answer,
                // QEMU may be silent for the whole of a drain: that is what the wait's own deadline is for.
                Err(QmpError::Deadline { .. }) => continue,
                Err(error) => return Err(error),
            };
            if holds(&answer) {
                return Ok(answer);
            }
            last = show(&answer);
            let nudged = nudge(&mut events, pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = if nudged { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        }
    }

    fn not_reached(&self, awaited: &str, last: String, deadline: Duration) -> QmpError {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        QmpError::NotReached { socket: self.socket().to_owned(), awaited: awaited.to_owned(), last, deadline_ms }
    }
}

/// Whether an event came within `pause`. All that have come by then count as one.
async fn nudge(events: &mut Receiver<Event>, pause: Duration) -> bool {
    match tokio::time::timeout(pause, events.recv()).await {
        Ok(Ok(_) | Err(RecvError::Lagged(_))) => {
            while !matches!(events.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
            true
        }
        // The session is over: the next query says so.
        Ok(Err(RecvError::Closed)) => true,
        Err(_elapsed) => false,
    }
}
