//! What was done to servers and how it went, with the request that asked for it. It outlives the server.
//!
//! ```text
//! begin -> start_event … end_event (Success, or Error with its reason) -> read by who asked
//! ```
//!
//! Ground rules: an action is one request's; an event of it is named once and ends once.

use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{
    id::{HostName, InstanceId},
    server::Ownership,
};

use crate::{
    Store,
    error::{Result, db, not_found, unique},
    instance::{owner, owner_columns},
    record::{Record, stored_words},
};

const OBJECT: &str = "action";
/// Of one server: the newest are shown, older ones are of no use to anybody.
const ACTIONS_MAX: i64 = 1_000;
/// Nova's name of the event that is a live migration itself; it ends with the migration.
pub const MOVE_EVENT: &str = "compute_live_migration";
/// Longest reason that is kept.
const DETAILS_CHARS_MAX: usize = 4_000;

stored_words!(EventResult { Success = "Success", Error = "Error" });

#[derive(Clone, Debug, PartialEq)]
pub struct ActionRow {
    pub request_id: String,
    pub instance: InstanceId,
    pub action: String,
    pub asked_by: Ownership,
    pub started_us: i64,
    pub updated_us: Option<i64>,
    /// That it failed, in a word.
    pub message: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ActionEventRow {
    pub event: String,
    pub started_us: i64,
    pub finished_us: Option<i64>,
    pub result: Option<EventResult>,
    pub host: Option<HostName>,
    pub details: Option<String>,
}

fn read(row: &AnyRow) -> Result<ActionRow> {
    let record = Record::new(OBJECT, row)?;
    Ok(ActionRow {
        request_id: record.text("request_id")?,
        instance: record.parsed("instance")?,
        action: record.text("action")?,
        asked_by: owner(&record)?,
        started_us: record.us("started_us")?,
        updated_us: record.us_opt("updated_us")?,
        message: record.text_opt("message")?,
    })
}

fn read_event(row: &AnyRow) -> Result<ActionEventRow> {
    let record = Record::new(OBJECT, row)?;
    Ok(ActionEventRow {
        event: record.text("event")?,
        started_us: record.us("started_us")?,
        finished_us: record.us_opt("finished_us")?,
        result: record.parsed_opt("result")?,
        host: record.parsed_opt("host")?,
        details: record.text_opt("details")?,
    })
}

/// In the transaction of what the event is about.
pub(crate) async fn end(
    transaction: &mut Transaction<'static, Any>,
    instance: InstanceId,
    request_id: &str,
    event: &str,
    failed: Option<&str>,
    now_us: i64,
) -> Result<bool> {
    let result = if failed.is_some() { EventResult::Error } else { EventResult::Success };
    let details = failed.map(|reason| reason.chars().take(DETAILS_CHARS_MAX).collect::<String>());
    let done = sqlx::query(
        "UPDATE instance_action_events SET finished_us = $4, result = $5, details = $6 \
         WHERE instance = $1 AND request_id = $2 AND event = $3 AND finished_us IS NULL",
    )
    .bind(instance.to_string())
    .bind(request_id)
    .bind(event)
    .bind(now_us)
    .bind(result.as_str())
    .bind(details)
    .execute(&mut **transaction)
    .await
    .map_err(db("end event"))?;
    sqlx::query(
        "UPDATE instance_actions SET updated_us = $3, message = COALESCE($4, message) \
         WHERE instance = $1 AND request_id = $2",
    )
    .bind(instance.to_string())
    .bind(request_id)
    .bind(now_us)
    .bind(failed.map(|_| "Error"))
    .execute(&mut **transaction)
    .await
    .map_err(db("end event"))?;
    Ok(done.rows_affected() > 0)
}

impl Store {
    pub async fn begin_action(&self, action: &ActionRow) -> Result<()> {
        let (project, user) = owner_columns(&action.asked_by);
        sqlx::query(
            "INSERT INTO instance_actions (request_id, instance, action, project, user_id, started_us, updated_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $6)",
        )
        .bind(&action.request_id)
        .bind(action.instance.to_string())
        .bind(&action.action)
        .bind(project)
        .bind(user)
        .bind(action.started_us)
        .execute(&self.writes)
        .await
        .map_err(unique("begin action", OBJECT, &action.request_id, "is noted already"))?;
        Ok(())
    }

    /// Begins an event of an action; one that is there already stays as it is.
    pub async fn start_event(
        &self,
        instance: InstanceId,
        request_id: &str,
        event: &str,
        host: Option<&HostName>,
        now_us: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO instance_action_events (instance, request_id, event, started_us, host) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (instance, request_id, event) DO NOTHING",
        )
        .bind(instance.to_string())
        .bind(request_id)
        .bind(event)
        .bind(now_us)
        .bind(host.map(HostName::as_str))
        .execute(&self.writes)
        .await
        .map_err(db("start event"))?;
        Ok(())
    }

    /// Ends an event once; with a reason it failed, and so did its action. Returns whether it was still open.
    pub async fn end_event(
        &self,
        instance: InstanceId,
        request_id: &str,
        event: &str,
        failed: Option<&str>,
        now_us: i64,
    ) -> Result<bool> {
        let mut transaction = self.begin("end event").await?;
        let ended = end(&mut transaction, instance, request_id, event, failed, now_us).await?;
        transaction.commit().await.map_err(db("end event"))?;
        Ok(ended)
    }

    /// Ends what was begun before `before_us` and what no unfinished migration will end: whoever was at it is gone. Returns how many.
    ///
    /// A controller that dies between noting an event and what it is about leaves one open.
    pub async fn end_orphaned_events(&self, before_us: i64, now_us: i64) -> Result<u64> {
        const GONE: &str = "The controller that was at it ended before it was done.";
        let rows = sqlx::query(
            "SELECT events.request_id, events.instance, events.event FROM instance_action_events AS events \
             WHERE events.finished_us IS NULL AND events.started_us < $1 AND NOT EXISTS (SELECT 1 FROM migrations \
             WHERE migrations.instance = events.instance AND migrations.request_id = events.request_id \
             AND migrations.finished_us IS NULL) ORDER BY events.started_us LIMIT $2",
        )
        .bind(before_us)
        .bind(ACTIONS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("look for orphaned events"))?;
        let mut ended = 0;
        for row in &rows {
            let record = Record::new(OBJECT, row)?;
            let (instance, request_id) = (record.parsed("instance")?, record.text("request_id")?);
            let done = self.end_event(instance, &request_id, &record.text("event")?, Some(GONE), now_us).await?;
            ended += u64::from(done);
        }
        Ok(ended)
    }

    /// Newest first.
    pub async fn list_actions(&self, instance: InstanceId) -> Result<Vec<ActionRow>> {
        let rows = sqlx::query(
            "SELECT request_id, instance, action, project, user_id, started_us, updated_us, message \
             FROM instance_actions WHERE instance = $1 ORDER BY started_us DESC, request_id DESC LIMIT $2",
        )
        .bind(instance.to_string())
        .bind(ACTIONS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("list actions"))?;
        rows.iter().map(read).collect()
    }

    /// With its events, oldest first.
    pub async fn action(&self, instance: InstanceId, request_id: &str) -> Result<(ActionRow, Vec<ActionEventRow>)> {
        let row = sqlx::query(
            "SELECT request_id, instance, action, project, user_id, started_us, updated_us, message \
             FROM instance_actions WHERE instance = $1 AND request_id = $2",
        )
        .bind(instance.to_string())
        .bind(request_id)
        .fetch_optional(&self.reads)
        .await
        .map_err(db("read action"))?;
        let row = row.ok_or_else(|| not_found(OBJECT, request_id))?;
        let events = sqlx::query(
            "SELECT event, started_us, finished_us, result, host, details FROM instance_action_events \
             WHERE instance = $1 AND request_id = $2 ORDER BY started_us, event LIMIT $3",
        )
        .bind(instance.to_string())
        .bind(request_id)
        .bind(ACTIONS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("read events"))?;
        Ok((read(&row)?, events.iter().map(read_event).collect::<Result<_>>()?))
    }
}
