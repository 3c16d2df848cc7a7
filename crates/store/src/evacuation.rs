//! Servers of a lost host given to another one, and what the lost host still has to be told.
//!
//! ```text
//! create_evacuation  instance at target, next epoch, task rebuilding · claim moved · migration · evacuee, in one transaction
//! end_evacuation     migration over, task over
//! settle_evacuee     the lost host is back and has let go: it may be used again
//! ```
//!
//! Ground rules: an evacuee outlives everything but the word of its host; a host with one is not up for any work (`HostRow`
//! counts them); the migration's row is not driven by the machine of moves, which both sides must be alive for.

use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{
    failure::Failure,
    id::{Epoch, HostName, InstanceId, MigrationId},
    migration::coordinator::{Outcome, Phase, Side},
    server::Ownership,
};

use crate::{
    Desired, HostLoad, MigrationKind, Room, Store,
    claim::{self, Claim},
    counter,
    error::{Result, conflict, db, not_found, unique},
    instance::{self, Errand, TaskState},
    record::{Record, bigint, json},
};

const OBJECT: &str = "migration";
/// Looked at again and again until none is left.
const EVACUEES_MAX: i64 = 10_000;
/// For people, of a host that has let go.
const CLEANED_UP: &str = "the lost host has let go of it";

#[derive(Clone, Debug, PartialEq)]
pub struct NewEvacuation {
    pub id: MigrationId,
    pub instance: InstanceId,
    /// That is lost, with the epoch before `epoch`.
    pub source: HostName,
    pub target: HostName,
    pub epoch: Epoch,
    pub desired: Desired,
    pub errand: Errand,
    pub asked_by: Ownership,
    pub room: Room,
    pub created_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvacueeRow {
    /// That has to let go.
    pub host: HostName,
    pub instance: InstanceId,
    pub epoch: Epoch,
    pub target: HostName,
    pub migration: MigrationId,
}

fn read(row: &AnyRow) -> Result<EvacueeRow> {
    let record = Record::new("evacuee", row)?;
    Ok(EvacueeRow {
        host: record.parsed("host")?,
        instance: record.parsed("instance")?,
        epoch: Epoch(record.number("epoch")?),
        target: record.parsed("target")?,
        migration: record.parsed("migration")?,
    })
}

async fn insert_migration(
    transaction: &mut Transaction<'static, Any>,
    new: &NewEvacuation,
    name: String,
) -> Result<()> {
    let phase = Phase::Preparing;
    let number = counter::next(transaction, counter::MIGRATION).await?;
    let (project, user) = instance::owner_columns(&new.asked_by);
    sqlx::query(
        "INSERT INTO migrations (id, instance, instance_name, source, target, epoch, status, phase, generation, \
         options, credential, step, created_us, updated_us, number, kind, project, user_id, request_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '{\"verify\":false}', '', '', $9, $9, $10, $11, $12, $13, $14)",
    )
    .bind(new.id.to_string())
    .bind(new.instance.to_string())
    .bind(name)
    .bind(new.source.as_str())
    .bind(new.target.as_str())
    .bind(bigint(new.epoch.0))
    .bind(json(OBJECT, new.id, "status", &phase.status())?)
    .bind(json(OBJECT, new.id, "phase", &phase)?)
    .bind(new.created_us)
    .bind(number)
    .bind(MigrationKind::Evacuation.as_str())
    .bind(project)
    .bind(user)
    .bind(new.errand.request_id.clone())
    .execute(&mut **transaction)
    .await
    .map_err(unique("create evacuation", "server", new.instance, "is migrating already"))?;
    Ok(())
}

impl Store {
    /// The instance must be at `source`, at the epoch before; a task that waits for that host is over. `admit` is asked with the
    /// target's load, while nobody else
    /// can claim there.
    pub async fn create_evacuation(
        &self,
        new: &NewEvacuation,
        admit: impl FnOnce(&HostLoad) -> std::result::Result<(), Vec<Failure>>,
    ) -> Result<()> {
        let failed = db("create evacuation");
        let mut transaction = self.begin("create evacuation").await?;
        claim::take_turn(&mut transaction, &new.target).await?;
        let row = sqlx::query(
            "UPDATE instances SET host = $4, epoch = $5, task_state = $6, desired = $7, errand = $8, power_state = NULL, \
             failure = NULL, updated_us = $9 WHERE id = $1 AND host = $2 AND epoch = $3 \
             AND COALESCE(task_state, '') NOT IN ('building', 'migrating', 'rebuilding', 'deleting') RETURNING id, name",
        )
        .bind(new.instance.to_string())
        .bind(new.source.as_str())
        .bind(bigint(new.epoch.0).saturating_sub(1))
        .bind(new.target.as_str())
        .bind(bigint(new.epoch.0))
        .bind(TaskState::Rebuilding.as_str())
        .bind(new.desired.as_str())
        .bind(json("server", new.instance, "errand", &new.errand)?)
        .bind(new.created_us)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(row) = row else {
            drop(transaction);
            let now = self.server(new.instance).await?;
            let task = now.task.map_or("idle", TaskState::as_str);
            let reason = format!("is {task} on host '{}' at epoch {} now", now.host, now.epoch);
            return Err(conflict("server", new.instance, reason));
        };
        let name = Record::new("server", &row)?.text("name")?;
        sqlx::query("DELETE FROM claims WHERE instance = $1")
            .bind(new.instance.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let claim = Claim { host: &new.target, instance: new.instance, migration: None, room: new.room };
        claim::claim(&mut transaction, &claim, admit).await?;
        insert_migration(&mut transaction, new, name).await?;
        sqlx::query("INSERT INTO evacuees (host, instance, epoch, target, migration) VALUES ($1, $2, $3, $4, $5)")
            .bind(new.source.as_str())
            .bind(new.instance.to_string())
            .bind(bigint(new.epoch.0))
            .bind(new.target.as_str())
            .bind(new.id.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(unique("create evacuation", "server", new.instance, "was evacuated from that host already"))?;
        transaction.commit().await.map_err(failed)
    }

    /// The rebuild of this server, if one goes on, has ended: well, or with this failure. Nothing to do where none does.
    pub async fn end_evacuation(&self, instance: InstanceId, failed: Option<&Failure>, now_us: i64) -> Result<()> {
        let phase = match failed {
            None => Phase::Done(Outcome::Completed),
            Some(failure) => Phase::Done(Outcome::Failed { failure: failure.clone(), guest_at: Side::Target }),
        };
        let failure = failed.map(|failure| json(OBJECT, instance, "failure", failure)).transpose()?;
        sqlx::query(
            "UPDATE migrations SET phase = $2, status = $3, failure = $4, updated_us = $5, finished_us = $5, \
             generation = generation + 1 WHERE instance = $1 AND kind = $6 AND finished_us IS NULL",
        )
        .bind(instance.to_string())
        .bind(json(OBJECT, instance, "phase", &phase)?)
        .bind(json(OBJECT, instance, "status", &phase.status())?)
        .bind(failure)
        .bind(now_us)
        .bind(MigrationKind::Evacuation.as_str())
        .execute(&self.writes)
        .await
        .map_err(db("end evacuation"))?;
        Ok(())
    }

    /// Everything that lost hosts have to be told.
    pub async fn list_evacuees(&self) -> Result<Vec<EvacueeRow>> {
        let rows = sqlx::query(
            "SELECT instance AS id, host, instance, epoch, target, migration FROM evacuees ORDER BY host, instance LIMIT $1",
        )
        .bind(EVACUEES_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("list evacuees"))?;
        rows.iter().map(read).collect()
    }

    /// The host has let go of it.
    pub async fn settle_evacuee(&self, row: &EvacueeRow, now_us: i64) -> Result<()> {
        let failed = db("settle evacuee");
        let mut transaction = self.begin("settle evacuee").await?;
        let gone = sqlx::query("DELETE FROM evacuees WHERE host = $1 AND instance = $2 AND epoch = $3")
            .bind(row.host.as_str())
            .bind(row.instance.to_string())
            .bind(bigint(row.epoch.0))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        if gone.rows_affected() == 0 {
            drop(transaction);
            return Err(not_found("evacuee", row.instance));
        }
        sqlx::query("UPDATE migrations SET cleaned_up = $2, updated_us = $3 WHERE id = $1")
            .bind(row.migration.to_string())
            .bind(CLEANED_UP)
            .bind(now_us)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(failed)
    }
}
