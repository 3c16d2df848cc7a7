//! One migration's shell: it carries events to the coordinator's machine and its effects to the agents.
//!
//! ```text
//! every POLL_EVERY   ask both agents what is so -> SourceIs, TargetIs
//! every TICK_EVERY   Tick: asks again for what may have been lost
//! event -> step -> (persist: one transaction, compare-and-set on the generation) -> effects -> their answers are events
//! ```
//!
//! Ground rules: nothing is asked of an agent before the phase that asks it is stored. Another controller, or the operator's
//! cancel, may advance the same row: then the row rules and this driver reads it again. How long a side is waited for says
//! [`super::patience`].

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use whimbrel_api::agent::{MigrationReport, MoveOptions, Role};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::MigrationId,
    instance::InstanceSpec,
    migration::{
        Note,
        coordinator::{Effect, Event, Phase, Step},
        message::Report,
        source, target,
    },
};
use whimbrel_store::{MigrationNews, MigrationRow, Store, StoreError};

use super::{Driven, debt, effects::Asks, patience::Patience, watch, word};
use crate::{
    answer::failure_of,
    app::{App, Shared},
    leases::Turn,
};

const POLL_EVERY: Duration = Duration::from_millis(100);
/// Where the next news is some milliseconds away and somebody waits for it.
const POLL_SOON: Duration = Duration::from_millis(15);
const TICK_EVERY: Duration = Duration::from_secs(1);
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Progress is stored no more often than this.
const NEWS_EVERY: Duration = Duration::from_secs(1);
/// Answers beget effects, and these answers: the machine's road is shorter than this.
const EVENTS_MAX: usize = 64;

pub(super) struct Driver<'a> {
    pub(super) app: &'a App,
    pub(super) row: MigrationRow,
    pub(super) driven: Arc<Driven>,
    /// What this writes bears the fence of its turn.
    pub(super) store: Store,
    asks: Asks,
    news_at: Option<Instant>,
    patience: Patience,
}

pub(super) async fn run(app: &Shared, row: MigrationRow, driven: Arc<Driven>, turn: &Turn) {
    let id = row.id;
    let mut driver = loop {
        match Driver::new(app, row.id, driven.clone(), turn).await {
            Ok(driver) => break driver,
            // Overtaken: the lease says so in a moment, too.
            Err(failure) if failure.code == FailureCode::Conflict => return,
            Err(failure) if failure.code == FailureCode::NotFound => {
                tracing::error!(migration = %id, %failure, "a migration cannot be driven");
                return;
            }
            Err(failure) => {
                tracing::warn!(migration = %id, %failure, "a migration waits for the database");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    };
    driver.drive().await;
    debt::run(&mut driver).await;
    watch::run(&mut driver).await;
}

impl<'a> Driver<'a> {
    /// From here on, no earlier holder of the turn can write the row.
    async fn new(app: &'a App, id: MigrationId, driven: Arc<Driven>, turn: &Turn) -> Result<Self, Failure> {
        let store = app.store.fenced(turn.fence);
        let row = store.seal_migration(id).await.map_err(failure_of)?;
        let spec = spec_of(app, &row).await?;
        let options: MoveOptions = serde_json::from_value(row.options.clone()).unwrap_or_default();
        Ok(Driver {
            app,
            store,
            asks: Asks { spec, options, turn: turn.clone() },
            row,
            driven,
            news_at: None,
            patience: Patience::new(Instant::now()),
        })
    }

    pub(super) fn options(&self) -> &MoveOptions {
        &self.asks.options
    }

    pub(super) async fn report_of(&self, role: Role) -> Result<MigrationReport, Failure> {
        self.asks.report(self.app, &self.row, role).await
    }

    async fn drive(&mut self) {
        let mut tick_at = Instant::now();
        while !self.row.phase.is_over() {
            if Instant::now() >= tick_at {
                tick_at = Instant::now() + TICK_EVERY;
                // What another controller was asked to cancel is known here by the row alone.
                self.read_again().await;
                let event = if self.row.phase == Phase::Queued { Event::Begin } else { Event::Tick };
                self.feed(event).await;
            }
            self.look().await;
            if let Some(overdue) = self.patience.overdue(&self.row.phase, Instant::now()) {
                tracing::warn!(migration = %self.row.id, host = %self.row.target,
                    "the target does not clean up; the server is let go and the host is asked again later");
                self.feed(overdue).await;
            }
            let driven = self.driven.clone();
            tokio::select! {
                // The operator's cancel: the row has it.
                () = driven.nudge.notified() => {
                    self.read_again().await;
                    tick_at = Instant::now();
                }
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    /// Until the next look.
    fn pause(&self) -> Duration {
        let switching = || {
            let observed = self.driven.observed.lock().unwrap_or_else(PoisonError::into_inner);
            observed.source.as_ref().is_some_and(source::Phase::is_switching)
        };
        match self.row.phase {
            Phase::Preparing | Phase::Settling => POLL_SOON,
            Phase::Running if switching() => POLL_SOON,
            Phase::Running
            | Phase::Queued
            | Phase::Cancelling { .. }
            | Phase::Clearing { .. }
            | Phase::Owing { .. }
            | Phase::Done(_) => POLL_EVERY,
        }
    }

    /// Asks both sides what is so.
    async fn look(&mut self) {
        let (source, target) = match self.row.phase {
            Phase::Queued | Phase::Owing { .. } | Phase::Done(_) => return,
            Phase::Preparing => (None, Some(self.asks.report(self.app, &self.row, Role::Target).await)),
            Phase::Running | Phase::Cancelling { .. } | Phase::Settling => {
                let (source, target) = tokio::join!(
                    self.asks.report(self.app, &self.row, Role::Source),
                    self.asks.report(self.app, &self.row, Role::Target)
                );
                (Some(source), Some(target))
            }
            Phase::Clearing { .. } => (None, Some(self.asks.report(self.app, &self.row, Role::Target).await)),
        };
        // The source's word first: it is the one that decides.
        for (role, answer) in [(Role::Source, source), (Role::Target, target)] {
            if let Some(answer) = answer
                && let Some(event) = self.heard(role, answer).await
            {
                self.feed(event).await;
            }
        }
    }

    /// What an answer, or the lack of one, means to the machine.
    async fn heard(&mut self, role: Role, answer: Result<MigrationReport, Failure>) -> Option<Event> {
        if answer.as_ref().err().is_none_or(|failure| is_final(failure.code)) {
            self.patience.heard(role, Instant::now());
        }
        match answer {
            Ok(report) if report.migration != self.row.id || report.epoch != self.row.epoch || report.role != role => {
                tracing::error!(migration = %self.row.id, ?report, "an agent reported something else than was asked");
                None
            }
            Ok(report) => {
                self.driven.observed.lock().unwrap_or_else(PoisonError::into_inner).heard(&report);
                self.tell(&report).await;
                Some(event_of(report.state))
            }
            // It never heard of it: what an agent knows for this migration is nothing.
            Err(failure) if failure.code == FailureCode::NotFound => Some(match role {
                Role::Source => Event::SourceIs(source::Phase::Idle),
                Role::Target => Event::TargetIs(target::Phase::Unknown),
            }),
            Err(failure) => self.silent(role, failure),
        }
    }

    fn silent(&mut self, role: Role, failure: Failure) -> Option<Event> {
        {
            let mut observed = self.driven.observed.lock().unwrap_or_else(PoisonError::into_inner);
            match role {
                Role::Source => observed.source_silence = Some(failure.clone()),
                Role::Target => observed.target_silence = Some(failure.clone()),
            }
        }
        tracing::debug!(migration = %self.row.id, ?role, %failure, "no answer");
        self.patience.silent(&self.row.phase, role, failure, Instant::now())
    }

    /// Feeds one event and all that follows from it.
    pub(super) async fn feed(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        for _ in 0..EVENTS_MAX {
            let Some(event) = queue.pop_front() else { return };
            let step = self.row.phase.step(&event);
            self.log(&event, &step);
            if step.persist && !self.persist(&step).await {
                return;
            }
            let answers = self.asks.perform_all(self.app, &self.row, &step.effects).await;
            for (effect, answer) in answers {
                queue.extend(self.answered(&effect, answer).await);
            }
        }
        tracing::error!(migration = %self.row.id, "a migration goes round in circles; it goes on with the next look");
    }

    /// Whether the step may be acted on.
    async fn persist(&mut self, step: &Step) -> bool {
        let (id, generation) = (self.row.id, self.row.generation);
        let stored = match self.row.phase.is_owing() {
            true => self.store.settle_owing_migration(id, generation, &step.next, App::now_us()).await,
            false => self.store.advance_migration(id, generation, &step.next, App::now_us()).await,
        };
        match stored {
            Ok(next) => {
                self.row.generation = next;
                self.row.phase = step.next.clone();
                self.patience.moved(Instant::now());
                if self.row.phase.is_over() {
                    self.app.servers_changed.notify_one();
                }
                true
            }
            Err(StoreError::Conflict { .. }) => {
                self.read_again().await;
                false
            }
            Err(error) => {
                tracing::warn!(migration = %id, %error, "a step could not be stored; it is taken again");
                false
            }
        }
    }

    async fn read_again(&mut self) {
        match self.store.migration(self.row.id).await {
            Ok(row) => {
                if row.phase != self.row.phase {
                    self.patience.moved(Instant::now());
                }
                self.row = row;
            }
            Err(error) => tracing::warn!(migration = %self.row.id, %error, "a migration could not be read again"),
        }
    }

    /// An agent's answer to an ask. One that refuses to begin ends the attempt; other refusals are asked again.
    async fn answered(&mut self, effect: &Effect, answer: Result<MigrationReport, Failure>) -> Option<Event> {
        let (role, begins) = Asks::of(effect)?;
        match answer {
            Err(failure) if begins && is_final(failure.code) && !self.has_begun(role) => {
                Some(Event::GiveUp { failure })
            }
            Err(failure) if is_final(failure.code) && failure.code != FailureCode::NotFound => {
                tracing::warn!(migration = %self.row.id, ?role, %failure, "an agent refuses; it is asked again");
                self.patience.heard(role, Instant::now());
                None
            }
            other => self.heard(role, other).await,
        }
    }

    fn has_begun(&self, role: Role) -> bool {
        let observed = self.driven.observed();
        match role {
            Role::Source => observed.source.is_some_and(|phase| phase != source::Phase::Idle),
            Role::Target => observed.target.is_some_and(|phase| phase != target::Phase::Unknown),
        }
    }

    /// Stores what is new for those who look on.
    async fn tell(&mut self, report: &MigrationReport) {
        let receipt = report.receipt.clone().filter(|receipt| self.row.receipt.as_ref() != Some(receipt));
        let due = self.news_at.is_none_or(|at| at.elapsed() >= NEWS_EVERY);
        if report.role == Role::Target || (receipt.is_none() && !due) {
            return;
        }
        self.news_at = Some(Instant::now());
        let news = MigrationNews {
            step: Some(report.step.clone()),
            progress: report.progress.clone(),
            receipt: receipt.clone(),
            ..Default::default()
        };
        match self.store.record_migration_news(self.row.id, &news, App::now_us()).await {
            Ok(()) => self.row.receipt = receipt.or(self.row.receipt.take()),
            Err(error) => tracing::warn!(migration = %self.row.id, %error, "news of a migration could not be stored"),
        }
    }

    fn log(&self, event: &Event, step: &Step) {
        let (id, from, to) = (self.row.id, word(&self.row.phase), word(&step.next));
        match step.note {
            Note::Moved => tracing::info!(migration = %id, from, to, "migration"),
            Note::Contradiction => {
                tracing::error!(migration = %id, phase = ?self.row.phase, ?event,
                    "an agent says what cannot be; nothing is touched");
            }
            Note::Told | Note::AlreadySo | Note::Stale | Note::TooLate | Note::Refused | Note::Waiting => {
                tracing::trace!(migration = %id, ?event, note = ?step.note, "migration");
            }
        }
    }
}

fn event_of(report: Report) -> Event {
    match report {
        Report::Source(phase) => Event::SourceIs(phase),
        Report::Target(phase) => Event::TargetIs(phase),
    }
}

/// An answer that will be the same the next time, as opposed to none at all.
fn is_final(code: FailureCode) -> bool {
    !matches!(code, FailureCode::HostDown | FailureCode::Unauthorized | FailureCode::Internal)
}

async fn spec_of(app: &App, row: &MigrationRow) -> Result<InstanceSpec, Failure> {
    app.store.instance(&row.instance.to_string()).await.map(|instance| instance.spec).map_err(failure_of)
}
