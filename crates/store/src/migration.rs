//! Migrations: the coordinator machine's durable state, and all that is told of a move.
//!
//! Ground rules: the phase changes only by compare-and-set on `generation`, so two controllers that drive one migration
//! cannot both act on the same step; the end of a migration, the claims and the instance's host are one transaction; an
//! instance has at most one unfinished migration (a partial unique index). One whose server is free but whose target still
//! owes its clean-up is finished, and yet has to be driven on; it keeps its claim on the target.

use serde::Serialize;
use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{
    disk::Storage,
    failure::{Failure, FailureCode},
    id::{Epoch, HostName, InstanceId, MigrationId},
    migration::coordinator::{Outcome, Phase, Side},
    progress::Progress,
    receipt::Receipt,
    server::Ownership,
};

use crate::{
    HostLoad, Page, PageAsk, Room, Store,
    claim::{self, Claim},
    counter,
    error::{Result, StoreError, conflict, db, not_found, unique},
    instance::{self, TaskState},
    instance_action::{self, MOVE_EVENT},
    record::{Record, bigint, json, stored_words},
};

const OBJECT: &str = "migration";

stored_words!(
    /// Why a server moves.
    MigrationKind { Live = "live-migration", Cold = "migration", Resize = "resize", Evacuation = "evacuation" }
);

#[derive(Clone, Debug, PartialEq)]
pub struct MigrationRow {
    pub id: MigrationId,
    pub instance: InstanceId,
    pub instance_name: String,
    pub source: HostName,
    pub target: HostName,
    /// What the target shall own.
    pub epoch: Epoch,
    pub phase: Phase,
    /// Rises by one with each phase.
    pub generation: u64,
    /// The integer that the Compute API knows it by.
    pub number: u64,
    pub kind: MigrationKind,
    /// Who asked for it.
    pub asked_by: Ownership,
    /// Of the action that it is part of.
    pub request_id: Option<String>,
    /// As the operator gave them.
    pub options: serde_json::Value,
    /// Where its disks are when it has moved.
    pub storage: Storage,
    /// What the agents show each other; never for clients.
    pub credential: String,
    /// What the agents do now, for people.
    pub step: String,
    pub progress: Option<Progress>,
    pub receipt: Option<Receipt>,
    /// The agents' word for it; `None` until they said any.
    pub verification: Option<String>,
    /// Why it is being undone, or was.
    pub failure: Option<Failure>,
    pub cleaned_up: Option<String>,
    pub created_us: i64,
    pub updated_us: i64,
    pub finished_us: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NewMigration {
    pub id: MigrationId,
    pub instance: InstanceId,
    /// Where the instance must be, with the epoch before `epoch`.
    pub source: HostName,
    pub target: HostName,
    pub epoch: Epoch,
    pub kind: MigrationKind,
    pub asked_by: Ownership,
    pub request_id: Option<String>,
    pub options: serde_json::Value,
    pub storage: Storage,
    pub credential: String,
    /// What the instance takes on the target.
    pub room: Room,
    pub created_us: i64,
}

/// What the agents told; `None` leaves what was told before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MigrationNews {
    pub step: Option<String>,
    pub progress: Option<Progress>,
    pub receipt: Option<Receipt>,
    pub verification: Option<String>,
    pub cleaned_up: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, instance, instance_name, source, target, epoch, phase, generation, number, kind, project, user_id, request_id, \
             options, storage, credential, step, progress, receipt, verification, failure, cleaned_up, created_us, updated_us, finished_us FROM migrations ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<MigrationRow> {
    let record = Record::new(OBJECT, row)?;
    Ok(MigrationRow {
        id: record.parsed("id")?,
        instance: record.parsed("instance")?,
        instance_name: record.text("instance_name")?,
        source: record.parsed("source")?,
        target: record.parsed("target")?,
        epoch: Epoch(record.number("epoch")?),
        phase: record.json("phase")?,
        generation: record.number("generation")?,
        number: record.number("number")?,
        kind: record.parsed("kind")?,
        asked_by: instance::owner(&record)?,
        request_id: record.text_opt("request_id")?,
        options: record.json("options")?,
        storage: record.parsed("storage")?,
        credential: record.text("credential")?,
        step: record.text("step")?,
        progress: record.json_opt("progress")?,
        receipt: record.json_opt("receipt")?,
        verification: record.text_opt("verification")?,
        failure: record.json_opt("failure")?,
        cleaned_up: record.text_opt("cleaned_up")?,
        created_us: record.us("created_us")?,
        updated_us: record.us("updated_us")?,
        finished_us: record.us_opt("finished_us")?,
    })
}

fn failure_of(phase: &Phase) -> Option<&Failure> {
    match phase {
        Phase::Cancelling { failure } | Phase::Clearing { failure } | Phase::Done(Outcome::Failed { failure, .. }) => {
            Some(failure)
        }
        // Ended as the operator wished.
        Phase::Owing { failure } => Some(failure).filter(|failure| failure.code != FailureCode::Cancelled),
        Phase::Queued
        | Phase::Preparing
        | Phase::Running
        | Phase::Settling
        | Phase::Done(Outcome::Completed | Outcome::Cancelled) => None,
    }
}

/// For the action that the migration is part of; `None` if it did what was asked for.
fn failed_words(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Done(Outcome::Completed)
        | Phase::Queued
        | Phase::Preparing
        | Phase::Running
        | Phase::Cancelling { .. }
        | Phase::Clearing { .. }
        | Phase::Settling => None,
        Phase::Done(Outcome::Cancelled) => Some("The move was cancelled; the server is where it was."),
        Phase::Done(Outcome::Failed { failure, .. }) | Phase::Owing { failure } => Some(&failure.detail),
    }
}

impl Store {
    /// The migration, queued, and its claim on the target. The instance must be idle, at `source`, at the epoch before.
    /// `admit` is asked with the target's load, while nobody else can claim there.
    pub async fn create_migration(
        &self,
        new: &NewMigration,
        admit: impl FnOnce(&HostLoad) -> std::result::Result<(), Vec<Failure>>,
    ) -> Result<()> {
        let mut transaction = self.begin("create migration").await?;
        claim::take_turn(&mut transaction, &new.target).await?;
        let name = take_instance(&mut transaction, new).await?;
        let claim = Claim { host: &new.target, instance: new.instance, migration: Some(new.id), room: new.room };
        claim::claim(&mut transaction, &claim, admit).await?;
        let phase = Phase::Queued;
        let number = counter::next(&mut transaction, counter::MIGRATION).await?;
        let (project, user) = instance::owner_columns(&new.asked_by);
        sqlx::query(
            "INSERT INTO migrations (id, instance, instance_name, source, target, epoch, status, phase, generation, \
             options, credential, step, created_us, updated_us, number, kind, project, user_id, request_id, storage) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, '', $11, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(new.id.to_string())
        .bind(new.instance.to_string())
        .bind(name)
        .bind(new.source.as_str())
        .bind(new.target.as_str())
        .bind(bigint(new.epoch.0))
        .bind(text(new.id, "status", &phase.status())?)
        .bind(text(new.id, "phase", &phase)?)
        .bind(text(new.id, "options", &new.options)?)
        .bind(&new.credential)
        .bind(new.created_us)
        .bind(number)
        .bind(new.kind.as_str())
        .bind(project)
        .bind(user)
        .bind(new.request_id.clone())
        .bind(new.storage.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(unique("create migration", "server", new.instance, "is migrating already"))?;
        transaction.commit().await.map_err(db("create migration"))
    }

    pub async fn migration(&self, id: MigrationId) -> Result<MigrationRow> {
        let row = sqlx::query(select!("WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read migration"))?;
        read(&row.ok_or_else(|| not_found(OBJECT, id))?)
    }

    /// By the integer that the Compute API knows it by.
    pub async fn migration_by_number(&self, number: u64) -> Result<MigrationRow> {
        let row = sqlx::query(select!("WHERE number = $1"))
            .bind(bigint(number))
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read migration"))?;
        read(&row.ok_or_else(|| not_found(OBJECT, number))?)
    }

    /// All, or those of one instance.
    pub async fn list_migrations(&self, instance: Option<InstanceId>, ask: &PageAsk) -> Result<Page<MigrationRow>> {
        let query = match instance {
            None => sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2")).bind(ask.after()).bind(ask.rows()),
            Some(instance) => sqlx::query(select!("WHERE id > $1 AND instance = $3 ORDER BY id LIMIT $2"))
                .bind(ask.after())
                .bind(ask.rows())
                .bind(instance.to_string()),
        };
        let rows = query.fetch_all(&self.reads).await.map_err(db("list migrations"))?;
        ask.page(&rows, read, |migration| migration.id.to_string())
    }

    /// Those that somebody has to drive on: unfinished, or with a target that owes its clean-up.
    pub async fn list_unfinished_migrations(&self, ask: &PageAsk) -> Result<Page<MigrationRow>> {
        let open = select!("WHERE (finished_us IS NULL OR owing_us IS NOT NULL) AND id > $1 ORDER BY id LIMIT $2");
        let rows = sqlx::query(open)
            .bind(ask.after())
            .bind(ask.rows())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list migrations"))?;
        ask.page(&rows, read, |migration| migration.id.to_string())
    }

    pub async fn unfinished_migration_of(&self, instance: InstanceId) -> Result<Option<MigrationRow>> {
        let row = sqlx::query(select!("WHERE instance = $1 AND finished_us IS NULL"))
            .bind(instance.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read migration"))?;
        row.as_ref().map(read).transpose()
    }

    /// Stores the next phase if `generation` is still the one that the step was taken from; returns the new one.
    ///
    /// With the machine's last phase this ends the migration: the claim on the side without the guest is gone, and the
    /// instance is idle, on the side with the guest. If the target still owes its clean-up, its claim stays: see
    /// [`Store::settle_owing_migration`].
    pub async fn advance_migration(&self, id: MigrationId, generation: u64, phase: &Phase, now_us: i64) -> Result<u64> {
        let failed = db("advance migration");
        let failure = failure_of(phase).map(|failure| text(id, "failure", failure)).transpose()?;
        let mut transaction = self.begin("advance migration").await?;
        let row = sqlx::query(
            "UPDATE migrations SET phase = $3, status = $4, failure = $5, updated_us = $6, finished_us = $7, \
             owing_us = $8, generation = generation + 1 WHERE id = $1 AND generation = $2 AND finished_us IS NULL \
             RETURNING id, instance, target, epoch, generation, request_id",
        )
        .bind(id.to_string())
        .bind(bigint(generation))
        .bind(text(id, "phase", phase)?)
        .bind(text(id, "status", &phase.status())?)
        .bind(failure)
        .bind(now_us)
        .bind(phase.is_over().then_some(now_us))
        .bind(phase.is_owing().then_some(now_us))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(row) = row else {
            drop(transaction);
            return Err(self.advanced_meanwhile(id, generation).await);
        };
        let record = Record::new(OBJECT, &row)?;
        if phase.is_over() {
            let instance = record.parsed("instance")?;
            match phase.guest_at() {
                Some(Side::Target) => {
                    claim::settle_at_target(&mut transaction, instance, id).await?;
                    let target: HostName = record.parsed("target")?;
                    settle_instance(&mut transaction, instance, &target, record.us("epoch")?).await?;
                }
                Some(Side::Source) | None if phase.is_owing() => {}
                Some(Side::Source) | None => claim::release(&mut transaction, id).await?,
            }
            end_task(&mut transaction, instance, now_us).await?;
            if let Some(request_id) = record.text_opt("request_id")? {
                let failed = failed_words(phase);
                instance_action::end(&mut transaction, instance, &request_id, MOVE_EVENT, failed, now_us).await?;
            }
        }
        transaction.commit().await.map_err(failed)?;
        record.number("generation")
    }

    /// The target has cleaned up at last: `phase` is the machine's end. The instance may be in the middle of something else
    /// by now; only the claim of this migration goes.
    pub async fn settle_owing_migration(
        &self,
        id: MigrationId,
        generation: u64,
        phase: &Phase,
        now_us: i64,
    ) -> Result<u64> {
        let failed = db("settle migration");
        let mut transaction = self.begin("settle migration").await?;
        let row = sqlx::query(
            "UPDATE migrations SET phase = $3, status = $4, updated_us = $5, owing_us = NULL, \
             generation = generation + 1 WHERE id = $1 AND generation = $2 AND owing_us IS NOT NULL \
             RETURNING id, generation",
        )
        .bind(id.to_string())
        .bind(bigint(generation))
        .bind(text(id, "phase", phase)?)
        .bind(text(id, "status", &phase.status())?)
        .bind(now_us)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(row) = row else {
            drop(transaction);
            return Err(self.advanced_meanwhile(id, generation).await);
        };
        claim::release(&mut transaction, id).await?;
        transaction.commit().await.map_err(failed)?;
        Record::new(OBJECT, &row)?.number("generation")
    }

    async fn advanced_meanwhile(&self, id: MigrationId, generation: u64) -> StoreError {
        match self.migration(id).await {
            Ok(now) => {
                let reason = format!("was at step {generation}, and is {:?} at step {} now", now.phase, now.generation);
                conflict(OBJECT, id, reason)
            }
            Err(error) => error,
        }
    }

    /// Notes what the agents told, also of a migration that ended (verification goes on after the move).
    pub async fn record_migration_news(&self, id: MigrationId, news: &MigrationNews, now_us: i64) -> Result<()> {
        let progress = news.progress.as_ref().map(|progress| text(id, "progress", progress)).transpose()?;
        let receipt = news.receipt.as_ref().map(|receipt| text(id, "receipt", receipt)).transpose()?;
        // A receipt is told once and must last; progress is told again within a second.
        let pool = if receipt.is_some() || news.verification.is_some() { &self.writes } else { &self.reads };
        let done = sqlx::query(
            "UPDATE migrations SET step = COALESCE($2, step), progress = COALESCE($3, progress), \
             receipt = COALESCE($4, receipt), verification = COALESCE($5, verification), \
             cleaned_up = COALESCE($6, cleaned_up), updated_us = $7 WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(news.step.clone())
        .bind(progress)
        .bind(receipt)
        .bind(news.verification.clone())
        .bind(news.cleaned_up.clone())
        .bind(now_us)
        .execute(pool)
        .await
        .map_err(db("record migration's state"))?;
        if done.rows_affected() == 0 { Err(not_found(OBJECT, id)) } else { Ok(()) }
    }
}

fn text<T: Serialize>(id: MigrationId, column: &'static str, value: &T) -> Result<String> {
    json(OBJECT, id, column, value)
}

/// Marks the instance as migrating if it is where and what the plan thought, and returns its name.
async fn take_instance(transaction: &mut Transaction<'static, Any>, new: &NewMigration) -> Result<String> {
    let failed = db("create migration");
    let epoch_before = bigint(new.epoch.0).saturating_sub(1);
    let row = sqlx::query(
        "UPDATE instances SET task_state = $4, updated_us = $5 \
         WHERE id = $1 AND host = $2 AND epoch = $3 AND task_state IS NULL RETURNING id, name",
    )
    .bind(new.instance.to_string())
    .bind(new.source.as_str())
    .bind(epoch_before)
    .bind(TaskState::Migrating.as_str())
    .bind(new.created_us)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(&failed)?;
    if let Some(row) = row {
        return Record::new("server", &row)?.text("name");
    }
    let row = sqlx::query("SELECT id, host, epoch, task_state FROM instances WHERE id = $1")
        .bind(new.instance.to_string())
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Err(not_found("server", new.instance)) };
    let record = Record::new("server", &row)?;
    let reason = match record.parsed_opt::<TaskState>("task_state")? {
        Some(task) => format!("is {task} already"),
        None => format!(
            "is on host '{}' at epoch {}, not on '{}' at epoch {epoch_before}: plan again",
            record.text("host")?,
            record.us("epoch")?,
            new.source
        ),
    };
    Err(conflict("server", new.instance, reason))
}

/// The target's own report may have come first, or one of a later epoch.
async fn settle_instance(
    transaction: &mut Transaction<'static, Any>,
    instance: InstanceId,
    target: &HostName,
    epoch: i64,
) -> Result<()> {
    sqlx::query("UPDATE instances SET host = $2, epoch = $3 WHERE id = $1 AND epoch <= $3")
        .bind(instance.to_string())
        .bind(target.as_str())
        .bind(epoch)
        .execute(&mut **transaction)
        .await
        .map_err(db("settle server"))?;
    Ok(())
}

async fn end_task(transaction: &mut Transaction<'static, Any>, instance: InstanceId, now_us: i64) -> Result<()> {
    sqlx::query("UPDATE instances SET task_state = NULL, updated_us = $3 WHERE id = $1 AND task_state = $2")
        .bind(instance.to_string())
        .bind(TaskState::Migrating.as_str())
        .bind(now_us)
        .execute(&mut **transaction)
        .await
        .map_err(db("settle server"))?;
    Ok(())
}
