//! Migrations on this host: the source's half, the target's half, and what they share.
//!
//! ```text
//! controller ──asks──▶ Migrations ─┬─▶ source::Source ══ control, data, RAM streams ══▶ listen ─▶ target::Target (other host)
//!                                  └─▶ target::Target
//! ```
//!
//! Ground rules: every ask is idempotent and answered with what *is*; a migration that is not known here answers with a
//! tombstone where the ask ends it, and with 404 where it only asks; after a restart the journals say what goes on.

mod again;
pub mod comparisons;
pub mod journal;
mod kept;
pub mod link;
mod listen;
mod meter;
mod plan;
pub mod source;
pub mod target;
mod tombstone;
#[cfg(test)]
mod trial;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use whimbrel_api::agent::{GiveUp, MigrationReport, MoveFacts, MoveOptions, ReceiveAsk, Relay, STREAMS_MAX, SendAsk};
use whimbrel_core::{
    disk::Storage,
    failure::{Failure, FailureCode},
    id::{Epoch, InstanceId, MigrationId},
    migration::{
        journal::{Role as JournalRole, SourceRecord, TargetRecord},
        source as source_machine, target as target_machine,
    },
};

use self::{
    journal::{Journal, SourceEntry, SourcePayload, TOMBSTONES_MAX, TargetPayload},
    source::Source,
    target::Target,
};
use crate::{context::Context, instances::Instance};

/// So many ended migrations keep their tasks, for a late question of the peer; older ones keep their last report.
const ENDED_MAX: usize = 32;
/// A target answers `receive` when its place is ready, at the latest after this.
const PREPARED_TIME_MAX: Duration = Duration::from_secs(20);

pub struct Migrations {
    pub context: Arc<Context>,
    journal: Journal,
    sources: Mutex<BTreeMap<MigrationId, Arc<Source>>>,
    targets: Mutex<BTreeMap<MigrationId, Arc<Target>>>,
    tombstones: Mutex<BTreeMap<MigrationId, MigrationReport>>,
}

impl Migrations {
    pub fn new(context: Arc<Context>) -> Arc<Self> {
        let journal = Journal::new(&context.paths.journal());
        Arc::new(Migrations {
            context,
            journal,
            sources: Mutex::default(),
            targets: Mutex::default(),
            tombstones: Mutex::default(),
        })
    }

    /// "Be ready to receive this instance."
    pub async fn receive(&self, ask: ReceiveAsk) -> Result<MigrationReport, Failure> {
        let known = self.target(ask.migration);
        let target = match known {
            Some(target) => {
                target.ask(target_machine::Event::Receive).await;
                target
            }
            None => {
                if let Some(tombstone) = self.tombstone(ask.migration) {
                    return Ok(tombstone);
                }
                self.check_storage(ask.storage)?;
                if !ask.storage.is_shared() {
                    self.context.instances.refuse_copies_of_shared(ask.spec.id).await?;
                }
                self.context.instances.claim(ask.spec.id, ask.migration).await?;
                self.context.comparisons.end(ask.spec.id).await;
                let migration = ask.migration;
                let payload = TargetPayload { ask, running: true, took_retained: false, spec: None };
                self.add_target(migration, payload, target_machine::Phase::Unknown, target_machine::Event::Receive)
            }
        };
        Ok(target.prepared(PREPARED_TIME_MAX).await)
    }

    /// "This instance should be at that target."
    pub async fn send(&self, ask: SendAsk) -> Result<MigrationReport, Failure> {
        check_options(&ask.options)?;
        self.check_storage(ask.storage)?;
        if let Some(source) = self.source(ask.migration) {
            return Ok(source.ask(source_machine::Event::Start).await);
        }
        if let Some(tombstone) = self.tombstone(ask.migration) {
            return Ok(tombstone);
        }
        let instance = self.context.instances.get(ask.instance).ok_or_else(|| unknown_instance(ask.instance))?;
        if instance.owned_epoch().map(Epoch::next) != Some(ask.epoch) {
            let owned = instance.owned_epoch().map_or("no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
            let detail = format!(
                "host {} owns {owned} of server {}; epoch {} was to be next",
                self.context.host(),
                ask.instance,
                ask.epoch
            );
            return Err(
                Failure::new(FailureCode::Conflict, detail).hint("look at the server again: it was moved meanwhile")
            );
        }
        let vm = instance.vm().ok_or_else(|| {
            Failure::new(FailureCode::Conflict, format!("server {} is not running", ask.instance))
                .hint("start it first")
        })?;
        let running_before = vm.qmp().query_status().await.map_err(|error| crate::fault::of_qmp(&error))?.is_running();
        self.context.instances.claim(ask.instance, ask.migration).await?;
        self.context.comparisons.end(ask.instance).await;
        let migration = ask.migration;
        let payload = SourcePayload { ask, running_before, receipt: None };
        let source = Source::start(
            self.context.clone(),
            self.journal.clone(),
            instance,
            payload,
            source_machine::Phase::Idle,
            source_machine::Event::Start,
        );
        lock(&self.sources).insert(migration, source.clone());
        self.settle();
        Ok(source.ask(source_machine::Event::Query).await)
    }

    /// The source is asked to give up. One that never heard of the migration keeps a tombstone.
    pub async fn cancel(&self, id: MigrationId, ask: GiveUp) -> Result<MigrationReport, Failure> {
        let event = source_machine::Event::Cancel { failure: ask.failure.clone() };
        if let Some(source) = self.source(id) {
            return Ok(source.ask(event).await);
        }
        let phase = source_machine::Phase::Idle.step(&event).next;
        if let Some(record) = SourceRecord::of(&phase) {
            let entry = SourceEntry::new(id, ask.instance, ask.epoch, JournalRole::Source(record), None);
            self.journal.save_source(&entry).await?;
        }
        Ok(self.bury(tombstone::source(id, &ask, phase)))
    }

    /// The operator wants the end of a move now. `Conflict` where none is being sent from here.
    pub fn force(&self, id: MigrationId) -> Result<MigrationReport, Failure> {
        match self.source(id).filter(|source| !source.is_end()) {
            Some(source) => {
                source.force();
                Ok(source.report())
            }
            None => {
                let detail = format!("host {} does not send migration {id}", self.context.host());
                Err(Failure::new(FailureCode::Conflict, detail).hint("see `whimbrel migration show`"))
            }
        }
    }

    /// The target is asked to leave nothing behind.
    pub async fn discard(&self, id: MigrationId, ask: GiveUp) -> Result<MigrationReport, Failure> {
        let event = target_machine::Event::Discard { failure: ask.failure.clone() };
        if let Some(target) = self.target(id) {
            return Ok(target.ask(event).await);
        }
        let phase = target_machine::Phase::Unknown.step(&event).next;
        if let Some(record) = TargetRecord::of(&phase) {
            let entry = journal::TargetEntry::new(id, ask.instance, ask.epoch, JournalRole::Target(record), None);
            self.journal.save_target(&entry).await?;
        }
        Ok(self.bury(tombstone::target(id, &ask, phase)))
    }

    /// A durable word of the peer that came over the control path.
    pub async fn relay(&self, id: MigrationId, word: Relay) -> Result<MigrationReport, Failure> {
        match word {
            Relay::ToSource(word) => Ok(self.source(id).ok_or_else(|| unknown(id))?.ask(word.event()).await),
            Relay::ToTarget(word) => Ok(self.target(id).ok_or_else(|| unknown(id))?.ask(word.event()).await),
        }
    }

    pub fn report(&self, id: MigrationId) -> Option<MigrationReport> {
        match self.source(id) {
            Some(source) => Some(source.report()),
            None => self.target(id).map(|target| target.report()).or_else(|| self.tombstone(id)),
        }
    }

    pub async fn move_facts(&self, id: InstanceId) -> Result<MoveFacts, Failure> {
        let instance = self.context.instances.get(id).ok_or_else(|| unknown_instance(id))?;
        plan::move_facts(&instance).await
    }

    pub async fn serve_data(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        listen::serve(self, shutdown).await
    }

    /// After a start of the agent: what the journals left open goes on or rolls back. Instances are attached already.
    pub async fn recover(&self) -> Result<(), Failure> {
        for entry in self.journal.targets().await? {
            let JournalRole::Target(record) = entry.role else { continue };
            let Some(payload) = entry.payload else {
                let phase = record.phase();
                self.bury(tombstone::target(
                    entry.migration,
                    &tombstone::ask_of(&entry.instance, entry.epoch, target::failure_of(&phase)),
                    phase,
                ));
                continue;
            };
            // Of an owned one, QEMU says first whether the guest ran: its machine goes on with `Activate`.
            if matches!(record, TargetRecord::Running) {
                let spec = payload.spec.clone().unwrap_or_else(|| payload.ask.spec.clone());
                self.context.instances.adopt_after_restart(spec, entry.epoch, entry.migration).await?;
            }
            if !record.phase().is_end() {
                self.context.instances.claim(entry.instance, entry.migration).await?;
            }
            self.add_target(entry.migration, payload, record.phase(), target_machine::Event::Restarted);
        }
        for entry in self.journal.sources().await? {
            let JournalRole::Source(record) = entry.role else { continue };
            let Some(payload) = entry.payload else {
                let phase = record.phase();
                self.bury(tombstone::source(
                    entry.migration,
                    &tombstone::ask_of(&entry.instance, entry.epoch, source::failure_of(&phase)),
                    phase,
                ));
                continue;
            };
            let Some(instance) = self.instance_of(&record, &payload.ask).await else { continue };
            if matches!(record, SourceRecord::Reowned { .. }) && instance.owned_epoch() < Some(entry.epoch.next()) {
                source::reown(&self.context, &instance, &payload.ask).await?;
            }
            if !record.phase().is_end() {
                self.context.instances.claim(entry.instance, entry.migration).await?;
            }
            let (context, journal) = (self.context.clone(), self.journal.clone());
            let source =
                Source::start(context, journal, instance, payload, record.phase(), source_machine::Event::Restarted);
            lock(&self.sources).insert(entry.migration, source);
        }
        Ok(())
    }

    /// On shared storage the other host has signed for it already, or does so any moment.
    async fn instance_of(&self, record: &SourceRecord, ask: &SendAsk) -> Option<Arc<Instance>> {
        let instances = &self.context.instances;
        if !ask.storage.is_shared() {
            return instances.get(ask.instance);
        }
        let found = async {
            // What was read a moment after the other host wrote may be old.
            if *record == (SourceRecord::HandedOver { retired: true }) {
                instances.leave_shared(ask.instance, ask.epoch).await?;
            }
            match instances.get(ask.instance) {
                None => instances.find_of_another(ask.instance).await,
                known => Ok(known),
            }
        };
        // One that cannot be read must not keep the others from being looked after.
        found.await.unwrap_or_else(|failure| {
            tracing::error!(instance = %ask.instance, %failure, "its last move cannot be looked after");
            None
        })
    }

    fn check_storage(&self, storage: Storage) -> Result<(), Failure> {
        if !storage.is_shared() || self.context.paths.shared().is_some() {
            return Ok(());
        }
        let detail = format!("the instances of host {} lie on no storage that another host sees", self.context.host());
        Err(Failure::new(FailureCode::Conflict, detail).hint("move the server with its disks, or set shared_dir there"))
    }

    fn tombstone(&self, id: MigrationId) -> Option<MigrationReport> {
        lock(&self.tombstones).get(&id).cloned()
    }

    fn bury(&self, report: MigrationReport) -> MigrationReport {
        let mut tombstones = lock(&self.tombstones);
        tombstones.insert(report.migration, report.clone());
        while tombstones.len() > TOMBSTONES_MAX {
            let Some((oldest, _)) = tombstones.pop_first() else { break };
            let journal = self.journal.clone();
            tokio::spawn(async move {
                if let Err(failure) = journal.forget(oldest).await {
                    tracing::warn!(migration = %oldest, %failure, "an old journal stays");
                }
            });
        }
        report
    }

    /// Ends the tasks of migrations that ended long ago; their last report stays.
    fn settle(&self) {
        while let Some(source) = oldest_ended(&self.sources, Source::is_settled) {
            self.bury(source.report());
        }
        while let Some(target) = oldest_ended(&self.targets, Target::is_end) {
            self.bury(target.report());
        }
    }

    pub fn target(&self, id: MigrationId) -> Option<Arc<Target>> {
        lock(&self.targets).get(&id).cloned()
    }

    fn source(&self, id: MigrationId) -> Option<Arc<Source>> {
        lock(&self.sources).get(&id).cloned()
    }

    fn add_target(
        &self,
        id: MigrationId,
        payload: TargetPayload,
        phase: target_machine::Phase,
        first: target_machine::Event,
    ) -> Arc<Target> {
        let target = Target::start(self.context.clone(), self.journal.clone(), payload, phase, first);
        lock(&self.targets).insert(id, target.clone());
        self.settle();
        target
    }
}

/// Takes it out if there are too many; ids rise with time, so the first is the oldest.
fn oldest_ended<T>(all: &Mutex<BTreeMap<MigrationId, Arc<T>>>, ended: impl Fn(&T) -> bool) -> Option<Arc<T>> {
    let mut all = lock(all);
    let old: Vec<MigrationId> = all.iter().filter(|(_, each)| ended(each)).map(|(id, _)| *id).collect();
    old.first().filter(|_| old.len() > ENDED_MAX).and_then(|id| all.remove(id))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn check_options(options: &MoveOptions) -> Result<(), Failure> {
    if (1..=STREAMS_MAX).contains(&options.streams) {
        return Ok(());
    }
    let detail = format!("{} data streams were asked for", options.streams);
    Err(Failure::new(FailureCode::BadRequest, detail).hint(format!("use 1 to {STREAMS_MAX}")))
}

fn unknown(id: MigrationId) -> Failure {
    Failure::new(FailureCode::NotFound, format!("migration {id} is not known on this host"))
}

fn unknown_instance(id: InstanceId) -> Failure {
    Failure::new(FailureCode::NotFound, format!("server {id} is not on this host"))
}
