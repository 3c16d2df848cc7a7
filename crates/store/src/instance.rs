//! Instances: what they are made of, where they live, what is wanted of them and what is known of them.
//!
//! `host` and `epoch` follow the agents' journals: who owns at the higher epoch is right, whatever was written here before.

use serde::{Deserialize, Serialize};
use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, FlavorId, HostName, ImageId, InstanceId},
    identity::{ProjectId, UserId},
    instance::{InstanceSpec, PowerState},
    quota::{self as core_quota, Limits, ProjectUse},
    server::{Ownership, ServerDetails},
};

use crate::{
    HostLoad, Page, PageAsk, Room, Store,
    claim::{self, Claim},
    counter,
    error::{Result, StoreError, conflict, db, not_found, unique},
    quota,
    record::{Record, bigint, json, stored_words},
    server_group,
};

stored_words!(
    /// What the operator wants.
    Desired { Running = "running", Paused = "paused", Stopped = "stopped", Suspended = "suspended" }
);
stored_words!(
    /// What is being done with it; at most one thing at a time.
    TaskState {
        Building = "building",
        Starting = "starting",
        Stopping = "stopping",
        Pausing = "pausing",
        Unpausing = "unpausing",
        Suspending = "suspending",
        Resuming = "resuming",
        Rebooting = "rebooting",
        RebootingHard = "rebooting_hard",
        /// Its root disk is copied for an image.
        Imaging = "imaging",
        /// The copy goes to the image store.
        ImageUploading = "image_uploading",
        Migrating = "migrating",
        /// What is left of a resize beside its move.
        Resizing = "resizing",
        /// Made anew on another host, since its own is lost.
        Rebuilding = "rebuilding",
        Deleting = "deleting",
    }
);

/// What a task is part of beyond its name; it goes with the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Of the action that ends with the task.
    pub request_id: String,
    pub event: String,
    /// That the task makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    pub id: InstanceId,
    pub name: String,
    pub spec: InstanceSpec,
    pub flavor: FlavorId,
    pub image: ImageId,
    pub host: HostName,
    pub epoch: Epoch,
    pub desired: Desired,
    /// `None` until its agent reported it.
    pub power: Option<PowerState>,
    pub task: Option<TaskState>,
    pub errand: Option<Errand>,
    pub failure: Option<Failure>,
    pub write_bps: u64,
    pub owner: Ownership,
    /// The integer that old clients know it by.
    pub number: u64,
    pub details: ServerDetails,
    /// Of name and details: rises with each change of them.
    pub generation: u64,
    pub created_us: i64,
    pub updated_us: i64,
    /// When it ran first.
    pub launched_us: Option<i64>,
    /// How often a restart was asked for.
    pub reboots: u64,
}

/// Made at [`Epoch::FIRST`], wanted running, with task `building`.
#[derive(Clone, Debug, PartialEq)]
pub struct NewInstance {
    pub spec: InstanceSpec,
    pub flavor: FlavorId,
    pub image: ImageId,
    pub host: HostName,
    pub room: Room,
    pub owner: Ownership,
    pub details: ServerDetails,
    /// Of its owner's project, where there are any.
    pub limits: Option<Limits>,
    pub created_us: i64,
}

/// What an agent that owns an instance says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceNews {
    pub id: InstanceId,
    pub host: HostName,
    pub owned_epoch: Epoch,
    pub power: PowerState,
    pub failure: Option<Failure>,
    pub write_bps: u64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, spec, flavor, image, host, epoch, desired, power_state, task_state, failure, write_bps, \
             project, user_id, number, details, generation, created_us, updated_us, launched_us, reboots, errand FROM instances ",
            $rest
        )
    };
}
pub(crate) use select;

pub(crate) fn read(row: &AnyRow) -> Result<InstanceRow> {
    let record = Record::new("server", row)?;
    Ok(InstanceRow {
        id: record.parsed("id")?,
        name: record.text("name")?,
        spec: record.json("spec")?,
        flavor: record.parsed("flavor")?,
        image: record.parsed("image")?,
        host: record.parsed("host")?,
        epoch: Epoch(record.number("epoch")?),
        desired: record.parsed("desired")?,
        power: record.json_opt("power_state")?,
        task: record.parsed_opt("task_state")?,
        errand: record.json_opt("errand")?,
        failure: record.json_opt("failure")?,
        write_bps: record.number("write_bps")?,
        owner: owner(&record)?,
        number: record.number("number")?,
        details: record.json("details")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
        updated_us: record.us("updated_us")?,
        launched_us: record.us_opt("launched_us")?,
        reboots: record.number("reboots")?,
    })
}

/// Of a row with the columns `project` and `user_id`, which are empty where nobody is known.
pub(crate) fn owner(record: &Record<'_>) -> Result<Ownership> {
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    let project = known(record.text("project")?).map(|id| id.parse::<ProjectId>()).transpose();
    let user = known(record.text("user_id")?).map(|id| id.parse::<UserId>()).transpose();
    Ok(Ownership {
        project: project.map_err(|error| record.corrupt("project", error))?,
        user: user.map_err(|error| record.corrupt("user_id", error))?,
    })
}

pub(crate) fn owner_columns(owner: &Ownership) -> (String, String) {
    let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
    (text(owner.project.as_ref().map(ProjectId::as_str)), text(owner.user.as_ref().map(UserId::as_str)))
}

/// The project's turn first: two who look at the last server of a quota look one after the other.
async fn within_limits(transaction: &mut Transaction<'static, Any>, new: &NewInstance) -> Result<()> {
    let (Some(project), Some(limits)) = (&new.owner.project, &new.limits) else { return Ok(()) };
    counter::next(transaction, &format!("servers of {project}")).await?;
    let used = quota::servers_use(transaction, project, None).await?;
    let wanted = ProjectUse { instances: 1, cores: new.spec.vcpus.into(), ram_mb: new.spec.ram_mb };
    core_quota::check(limits, &used, &wanted).map_err(|exceeded| StoreError::Refused {
        reasons: vec![
            Failure::new(FailureCode::Forbidden, exceeded.to_string())
                .hint("delete servers that are not needed, or ask for a higher quota"),
        ],
    })
}

impl Store {
    /// The instance and its claim. `admit` is asked with the host's load, while nobody else can claim there.
    pub async fn create_instance(
        &self,
        new: &NewInstance,
        admit: impl FnOnce(&HostLoad) -> std::result::Result<(), Vec<Failure>>,
    ) -> Result<()> {
        let mut transaction = self.begin("create server").await?;
        within_limits(&mut transaction, new).await?;
        claim::take_turn(&mut transaction, &new.host).await?;
        let id = new.spec.id;
        let number = counter::next(&mut transaction, counter::SERVER).await?;
        let (project, user) = owner_columns(&new.owner);
        sqlx::query(
            "INSERT INTO instances (id, name, spec, flavor, image, host, epoch, desired, task_state, write_bps, \
             created_us, updated_us, project, user_id, number, details) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $10, $11, $12, $13, $14)",
        )
        .bind(id.to_string())
        .bind(&new.spec.name)
        .bind(json("server", id, "spec", &new.spec)?)
        .bind(new.flavor.to_string())
        .bind(new.image.to_string())
        .bind(new.host.as_str())
        .bind(bigint(Epoch::FIRST.0))
        .bind(Desired::Running.as_str())
        .bind(TaskState::Building.as_str())
        .bind(new.created_us)
        .bind(project)
        .bind(user)
        .bind(number)
        .bind(json("server", id, "details", &new.details)?)
        .execute(&mut *transaction)
        .await
        .map_err(unique("create server", "server", id, "exists already"))?;
        let claim = Claim { host: &new.host, instance: id, migration: None, room: new.room };
        claim::claim(&mut transaction, &claim, admit).await?;
        transaction.commit().await.map_err(db("create server"))
    }

    /// By id or name; a name that several bear is a `Conflict`.
    pub async fn instance(&self, id_or_name: &str) -> Result<InstanceRow> {
        let rows = sqlx::query(select!("WHERE id = $1 OR name = $1 LIMIT 2"))
            .bind(id_or_name)
            .fetch_all(&self.reads)
            .await
            .map_err(db("read server"))?;
        match rows.as_slice() {
            [] => Err(not_found("server", id_or_name)),
            [row] => read(row),
            _ => Err(conflict("server", id_or_name, "is the name of several: use an id")),
        }
    }

    /// All, or those of one host.
    pub async fn list_instances(&self, host: Option<&HostName>, ask: &PageAsk) -> Result<Page<InstanceRow>> {
        let query = match host {
            None => sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2")).bind(ask.after()).bind(ask.rows()),
            Some(host) => sqlx::query(select!("WHERE id > $1 AND host = $3 ORDER BY id LIMIT $2"))
                .bind(ask.after())
                .bind(ask.rows())
                .bind(host.as_str()),
        };
        let rows = query.fetch_all(&self.reads).await.map_err(db("list servers"))?;
        ask.page(&rows, read, |instance| instance.id.to_string())
    }

    /// Believes an owner at a higher epoch than known, or the known owner. Returns whether it was believed.
    ///
    /// An agent repeats its report at each heartbeat, so one that a power cut takes comes again.
    pub async fn record_instance_news(&self, news: &InstanceNews, now_us: i64) -> Result<bool> {
        let failure = news.failure.as_ref().map(|failure| json("server", news.id, "failure", failure)).transpose()?;
        let done = sqlx::query(
            "UPDATE instances SET host = $2, epoch = $3, power_state = $4, failure = $5, write_bps = $6, \
             updated_us = CASE WHEN host = $2 AND COALESCE(power_state, '') = $4 \
             AND COALESCE(failure, '') = COALESCE($5, '') THEN updated_us ELSE $7 END WHERE id = $1 AND (epoch < $3 OR (epoch = $3 AND host = $2))",
        )
        .bind(news.id.to_string())
        .bind(news.host.as_str())
        .bind(bigint(news.owned_epoch.0))
        .bind(json("server", news.id, "power_state", &news.power)?)
        .bind(failure)
        .bind(bigint(news.write_bps))
        .bind(now_us)
        .execute(&self.reads)
        .await
        .map_err(db("record server's state"))?;
        Ok(done.rows_affected() > 0)
    }

    pub async fn set_desired(&self, id: InstanceId, desired: Desired, now_us: i64) -> Result<()> {
        let done = sqlx::query("UPDATE instances SET desired = $2, updated_us = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(desired.as_str())
            .bind(now_us)
            .execute(&self.writes)
            .await
            .map_err(db("set desired state"))?;
        if done.rows_affected() == 0 { Err(not_found("server", id)) } else { Ok(()) }
    }

    /// `Conflict` unless the task is `from`: what began one task ends it, and none begins while another is under way.
    pub async fn change_task(
        &self,
        id: InstanceId,
        from: Option<TaskState>,
        to: Option<TaskState>,
        now_us: i64,
    ) -> Result<()> {
        let done = sqlx::query(
            "UPDATE instances SET task_state = $3, updated_us = $4, errand = CASE WHEN $3 IS NULL THEN NULL ELSE errand END, \
             launched_us = CASE WHEN $3 IS NULL AND power_state IS NOT NULL THEN COALESCE(launched_us, $4) ELSE launched_us END \
             WHERE id = $1 AND COALESCE(task_state, '') = $2",
        )
        .bind(id.to_string())
        .bind(from.map_or("", TaskState::as_str))
        .bind(to.map(TaskState::as_str))
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("change task"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let now = self.instance(&id.to_string()).await?.task;
        Err(conflict("server", id, format!("is {}", now.map_or("idle", TaskState::as_str))))
    }

    /// Begins a task of an idle server, with what is wanted of it from now on; what failed before is forgotten.
    pub async fn begin_task(&self, id: InstanceId, task: TaskState, desired: Desired, now_us: i64) -> Result<()> {
        self.begin_errand(id, task, Some(desired), None, now_us).await
    }

    /// As [`Store::begin_task`], with what the task is part of; without `desired` what is wanted stays.
    pub async fn begin_errand(
        &self,
        id: InstanceId,
        task: TaskState,
        desired: Option<Desired>,
        errand: Option<&Errand>,
        now_us: i64,
    ) -> Result<()> {
        let errand = errand.map(|errand| json("server", id, "errand", errand)).transpose()?;
        let done = sqlx::query(
            "UPDATE instances SET task_state = $2, desired = COALESCE($3, desired), \
             failure = CASE WHEN $3 IS NULL THEN failure ELSE NULL END, updated_us = $4, errand = $5 \
             WHERE id = $1 AND task_state IS NULL",
        )
        .bind(id.to_string())
        .bind(task.as_str())
        .bind(desired.map(Desired::as_str))
        .bind(now_us)
        .bind(errand)
        .execute(&self.writes)
        .await
        .map_err(db("begin task"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let now = self.instance(&id.to_string()).await?.task;
        Err(conflict("server", id, format!("is {}", now.map_or("idle", TaskState::as_str))))
    }

    /// `task` in the place of `from`, and one more restart wanted of a server that shall run then.
    pub async fn begin_reboot(
        &self,
        id: InstanceId,
        from: Option<TaskState>,
        task: TaskState,
        now_us: i64,
    ) -> Result<()> {
        let done = sqlx::query(
            "UPDATE instances SET task_state = $3, desired = $5, reboots = reboots + 1, failure = NULL, errand = NULL, updated_us = $4 \
             WHERE id = $1 AND COALESCE(task_state, '') = $2",
        )
        .bind(id.to_string())
        .bind(from.map_or("", TaskState::as_str))
        .bind(task.as_str())
        .bind(now_us)
        .bind(Desired::Running.as_str())
        .execute(&self.writes)
        .await
        .map_err(db("begin reboot"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let now = self.instance(&id.to_string()).await?.task;
        Err(conflict("server", id, format!("is {}", now.map_or("idle", TaskState::as_str))))
    }

    /// Why it is in error, or that it is not any more.
    pub async fn set_instance_failure(&self, id: InstanceId, failure: Option<&Failure>, now_us: i64) -> Result<()> {
        let failure = failure.map(|failure| json("server", id, "failure", failure)).transpose()?;
        let done = sqlx::query("UPDATE instances SET failure = $2, updated_us = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(failure)
            .bind(now_us)
            .execute(&self.writes)
            .await
            .map_err(db("set server's failure"))?;
        if done.rows_affected() == 0 { Err(not_found("server", id)) } else { Ok(()) }
    }

    /// The instance, its claims and its place in a group; refused while a migration of it is unfinished.
    pub async fn delete_instance(&self, id: InstanceId) -> Result<()> {
        let failed = db("delete server");
        let mut transaction = self.begin("delete server").await?;
        let done = sqlx::query(
            "DELETE FROM instances WHERE id = $1 AND NOT EXISTS \
             (SELECT 1 FROM migrations WHERE migrations.instance = $1 AND finished_us IS NULL)",
        )
        .bind(id.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if done.rows_affected() > 0 {
            server_group::leave(&mut transaction, id).await?;
            return transaction.commit().await.map_err(failed);
        }
        transaction.rollback().await.map_err(failed)?;
        self.instance(&id.to_string()).await?;
        Err(conflict("server", id, "is migrating: cancel that first"))
    }
}
