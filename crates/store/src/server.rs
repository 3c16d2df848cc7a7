//! Servers as the Compute API looks at them: lists of a project, newest first, and changes of what is only shown.

use whimbrel_core::{
    id::{HostName, InstanceId},
    identity::ProjectId,
    server::ServerDetails,
};

use crate::{
    InstanceRow, Store,
    error::{Result, conflict, db, not_found},
    instance::{read, select},
    record::{bigint, json},
};

/// What the database sorts out by itself; the rest is the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerFilter<'a> {
    pub project: Option<&'a ProjectId>,
    pub host: Option<&'a HostName>,
    pub name: Option<&'a str>,
}

/// Above every UUID: a list without a marker begins here.
const AFTER_ALL: &str = "g";

impl Store {
    /// Newest first, at most `limit`, those made before `before`.
    pub async fn list_servers(
        &self,
        filter: &ServerFilter<'_>,
        before: Option<InstanceId>,
        limit: u32,
    ) -> Result<Vec<InstanceRow>> {
        let rows = sqlx::query(select!(
            "WHERE id < $1 AND ($2 = '' OR project = $2) AND ($3 = '' OR host = $3) AND ($4 = '' OR name = $4) \
             ORDER BY id DESC LIMIT $5"
        ))
        .bind(before.map_or_else(|| AFTER_ALL.to_owned(), |id| id.to_string()))
        .bind(filter.project.map_or("", ProjectId::as_str))
        .bind(filter.host.map_or("", HostName::as_str))
        .bind(filter.name.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await
        .map_err(db("list servers"))?;
        rows.iter().map(read).collect()
    }

    /// By its id alone, and never by its name.
    pub async fn server(&self, id: InstanceId) -> Result<InstanceRow> {
        let row = sqlx::query(select!("WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read server"))?;
        read(&row.ok_or_else(|| not_found("server", id))?)
    }

    /// Changes name and details if `generation` is still theirs; `Conflict` if somebody was faster.
    pub async fn describe_server(
        &self,
        id: InstanceId,
        generation: u64,
        name: &str,
        details: &ServerDetails,
        now_us: i64,
    ) -> Result<()> {
        let done = sqlx::query(
            "UPDATE instances SET name = $3, details = $4, updated_us = $5, generation = generation + 1 \
             WHERE id = $1 AND generation = $2",
        )
        .bind(id.to_string())
        .bind(bigint(generation))
        .bind(name)
        .bind(json("server", id, "details", details)?)
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("describe server"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.server(id).await?;
        Err(conflict("server", id, "was changed by somebody else meanwhile"))
    }
}
