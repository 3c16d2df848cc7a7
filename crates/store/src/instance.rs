//! Instances: what they are made of, where they live, what is wanted of them and what is known of them.
//!
//! `host` and `epoch` follow the agents' journals: who owns at the higher epoch is right, whatever was written here before.

use sqlx::{Any, Transaction, any::AnyRow};
use uuid::Uuid;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, FlavorId, HostName, ImageId, InstanceId},
    identity::{ProjectId, UserId},
    instance::{InstanceSpec, PowerState},
    lease::Fence,
    quota::{self as core_quota, Limits, ProjectUse},
    server::{Ownership, ServerDetails},
};

use crate::{
    HostLoad, Page, PageAsk, Room, Store,
    claim::{self, Claim},
    counter,
    error::{Result, StoreError, conflict, db, not_found, unique},
    pulse, quota,
    record::{Record, bigint, json, stored_words},
    server_group,
};

stored_words!(
    /// What the operator wants.
    Desired { Running = "running", Paused = "paused", Stopped = "stopped" }
);
stored_words!(
    /// What is being done with it; at most one thing at a time.
    TaskState {
        Building = "building",
        Starting = "starting",
        Stopping = "stopping",
        Pausing = "pausing",
        Unpausing = "unpausing",
        Rebooting = "rebooting",
        RebootingHard = "rebooting_hard",
        Migrating = "migrating",
        Deleting = "deleting",
    }
);

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
    /// How many servers its owner may have in its group, which is among the details.
    pub group_members_max: i64,
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
             project, user_id, number, details, generation, created_us, updated_us, launched_us, reboots FROM instances ",
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

/// After the group's turn was taken: two who look at its last place look one after the other.
async fn join_group(transaction: &mut Transaction<'static, Any>, group: Uuid, new: &NewInstance) -> Result<()> {
    let Some(user) = &new.owner.user else { return Ok(()) };
    if server_group::join(transaction, group, new.spec.id, user, new.group_members_max).await? {
        return Ok(());
    }
    let full = Failure::new(FailureCode::Forbidden, "Quota exceeded, too many servers in group");
    Err(StoreError::Refused { reasons: vec![full.hint("delete servers of the group, or use another one")] })
}

impl Store {
    /// The instance, its claim and its place in a group. `admit` is asked with the host's load, while nobody else can claim there.
    pub async fn create_instance(
        &self,
        new: &NewInstance,
        admit: impl FnOnce(&HostLoad) -> std::result::Result<(), Vec<Failure>>,
    ) -> Result<()> {
        let mut transaction = self.begin("create server").await?;
        within_limits(&mut transaction, new).await?;
        let group = new.details.group;
        claim::take_group_turn(&mut transaction, group).await?;
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
        let claim = Claim { host: &new.host, instance: id, migration: None, room: new.room, group };
        claim::claim(&mut transaction, &claim, admit).await?;
        if let Some(group) = group {
            join_group(&mut transaction, group, new).await?;
        }
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
        let mut transaction = self.begin_lossy("record server's state").await?;
        let believed = pulse::record_news(&mut transaction, news, now_us).await?;
        transaction.commit().await.map_err(db("record server's state"))?;
        Ok(believed)
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
            "UPDATE instances SET task_state = $3, updated_us = $4, \
             launched_us = CASE WHEN $3 IS NULL AND power_state IS NOT NULL THEN COALESCE(launched_us, $4) ELSE launched_us END, \
             fence = COALESCE($5, fence) \
             WHERE id = $1 AND COALESCE(task_state, '') = $2 AND fence <= COALESCE($5, fence)",
        )
        .bind(id.to_string())
        .bind(from.map_or("", TaskState::as_str))
        .bind(to.map(TaskState::as_str))
        .bind(now_us)
        .bind(self.fence)
        .execute(&self.writes)
        .await
        .map_err(db("change task"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let now = self.instance(&id.to_string()).await?.task;
        if self.fence.is_some() && now == from {
            return Err(overtaken(id));
        }
        Err(conflict("server", id, format!("is {}", now.map_or("idle", TaskState::as_str))))
    }

    /// Begins a task of an idle server, with what is wanted of it from now on; what failed before is forgotten.
    pub async fn begin_task(&self, id: InstanceId, task: TaskState, desired: Desired, now_us: i64) -> Result<()> {
        let done = sqlx::query(
            "UPDATE instances SET task_state = $2, desired = $3, failure = NULL, updated_us = $4 \
             WHERE id = $1 AND task_state IS NULL",
        )
        .bind(id.to_string())
        .bind(task.as_str())
        .bind(desired.as_str())
        .bind(now_us)
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
            "UPDATE instances SET task_state = $3, desired = $5, reboots = reboots + 1, failure = NULL, updated_us = $4 \
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
        let done = sqlx::query(
            "UPDATE instances SET failure = $2, updated_us = $3, fence = COALESCE($4, fence) \
             WHERE id = $1 AND fence <= COALESCE($4, fence)",
        )
        .bind(id.to_string())
        .bind(failure)
        .bind(now_us)
        .bind(self.fence)
        .execute(&self.writes)
        .await
        .map_err(db("set server's failure"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.instance(&id.to_string()).await?;
        Err(overtaken(id))
    }

    /// The instance, its claims and its place in a group; refused while a migration of it is unfinished.
    pub async fn delete_instance(&self, id: InstanceId) -> Result<()> {
        let failed = db("delete server");
        let mut transaction = self.begin("delete server").await?;
        let done = sqlx::query(
            "DELETE FROM instances WHERE id = $1 AND fence <= COALESCE($2, fence) AND NOT EXISTS \
             (SELECT 1 FROM migrations WHERE migrations.instance = $1 AND finished_us IS NULL)",
        )
        .bind(id.to_string())
        .bind(self.fence)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if done.rows_affected() > 0 {
            server_group::leave(&mut transaction, id).await?;
            return transaction.commit().await.map_err(failed);
        }
        transaction.rollback().await.map_err(failed)?;
        self.instance(&id.to_string()).await?;
        match self.unfinished_migration_of(id).await? {
            None => Err(overtaken(id)),
            Some(_) => Err(conflict("server", id, "is migrating: cancel that first")),
        }
    }

    /// A server that moves is to be deleted as soon as its move has ended. False if it does not move (any more).
    pub async fn doom_server(&self, id: InstanceId, now_us: i64) -> Result<bool> {
        let done = sqlx::query("UPDATE instances SET doomed_us = $2 WHERE id = $1 AND task_state = $3")
            .bind(id.to_string())
            .bind(now_us)
            .bind(TaskState::Migrating.as_str())
            .execute(&self.writes)
            .await
            .map_err(db("doom server"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Those that something is being done to, moves apart, each with the fence of whoever did it last.
    pub async fn list_busy_instances(&self, ask: &PageAsk) -> Result<Page<(InstanceRow, Fence)>> {
        let rows = sqlx::query(
            "SELECT id, name, spec, flavor, image, host, epoch, desired, power_state, task_state, failure, write_bps, project, \
             user_id, number, details, generation, created_us, updated_us, launched_us, reboots, fence FROM instances \
             WHERE task_state IS NOT NULL AND task_state <> 'migrating' AND id > $1 ORDER BY id LIMIT $2",
        )
        .bind(ask.after())
        .bind(ask.rows())
        .fetch_all(&self.reads)
        .await
        .map_err(db("list servers with a task"))?;
        let read = |row: &AnyRow| Ok((read(row)?, Fence(Record::new("server", row)?.number("fence")?)));
        ask.page(&rows, read, |(instance, _)| instance.id.to_string())
    }

    /// The row as it is now, marked as worked on under this store's fence: no earlier holder can write it any more. `Conflict` for
    /// an earlier holder.
    pub async fn seal_instance(&self, id: InstanceId) -> Result<InstanceRow> {
        let sealed = sqlx::query(
            "UPDATE instances SET fence = COALESCE($2, fence) WHERE id = $1 AND fence <= COALESCE($2, fence)",
        )
        .bind(id.to_string())
        .bind(self.fence)
        .execute(&self.writes)
        .await
        .map_err(db("seal server"))?;
        let row = self.server(id).await?;
        if sealed.rows_affected() == 0 { Err(overtaken(id)) } else { Ok(row) }
    }
}

fn overtaken(id: InstanceId) -> StoreError {
    conflict("server", id, "is worked on by another controller by now")
}
