//! Servers as usage reports count them: of projects, each with what it takes and since when.

use sqlx::any::AnyRow;
use whimbrel_core::{
    id::{FlavorId, InstanceId},
    identity::ProjectId,
    instance::{InstanceSpec, PowerState},
};

use crate::{
    Store, TaskState,
    error::{Result, db, not_found},
    page::PageAsk,
    record::Record,
};

#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow {
    pub id: InstanceId,
    pub name: String,
    pub project: ProjectId,
    pub flavor: FlavorId,
    pub spec: InstanceSpec,
    pub power: Option<PowerState>,
    pub task: Option<TaskState>,
    pub has_failed: bool,
    pub created_us: i64,
}

fn read(row: &AnyRow) -> Result<UsageRow> {
    let record = Record::new("server", row)?;
    Ok(UsageRow {
        id: record.parsed("id")?,
        name: record.text("name")?,
        project: record.parsed("project")?,
        flavor: record.parsed("flavor")?,
        spec: record.json("spec")?,
        power: record.json_opt("power_state")?,
        task: record.parsed_opt("task_state")?,
        has_failed: record.text_opt("failure")?.is_some(),
        created_us: record.us("created_us")?,
    })
}

impl Store {
    /// Those that were there before `until_us`, of all projects or of one, in the order of projects and then of ids. The marker is
    /// a server's id; that of nobody is `NotFound`.
    pub async fn list_usage(
        &self,
        project: Option<&ProjectId>,
        until_us: i64,
        ask: &PageAsk,
    ) -> Result<crate::Page<UsageRow>> {
        let marked = match &ask.marker {
            Some(marker) => self.project_of(marker).await?,
            None => String::new(),
        };
        let rows = sqlx::query(
            "SELECT id, name, project, flavor, spec, power_state, task_state, failure, created_us FROM instances \
             WHERE project <> '' AND ($3 = '' OR project = $3) AND created_us < $4 \
             AND (project > $5 OR (project = $5 AND id > $1)) ORDER BY project, id LIMIT $2",
        )
        .bind(ask.after())
        .bind(ask.rows())
        .bind(project.map_or("", ProjectId::as_str))
        .bind(until_us)
        .bind(marked)
        .fetch_all(&self.reads)
        .await
        .map_err(db("list usage"))?;
        ask.page(&rows, read, |server| server.id.to_string())
    }

    async fn project_of(&self, server: &str) -> Result<String> {
        let row = sqlx::query("SELECT id, project FROM instances WHERE id = $1")
            .bind(server)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read server's project"))?;
        Record::new("server", &row.ok_or_else(|| not_found("server", server))?)?.text("project")
    }
}
