//! Projects: who owns servers, images and networks.

use sqlx::any::AnyRow;
use whimbrel_core::identity::{DomainId, ProjectId};

use crate::{
    Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    record::Record,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    pub id: ProjectId,
    pub domain: DomainId,
    /// Unique in its domain.
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub generation: i64,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, domain, name, description, enabled, generation, created_us FROM projects ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<ProjectRow> {
    let record = Record::new("project", row)?;
    Ok(ProjectRow {
        id: record.parsed("id")?,
        domain: record.parsed("domain")?,
        name: record.text("name")?,
        description: record.text("description")?,
        enabled: record.flag("enabled")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    pub async fn create_project(&self, project: &ProjectRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO projects (id, domain, name, description, enabled, generation, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(project.id.as_str())
        .bind(project.domain.as_str())
        .bind(&project.name)
        .bind(&project.description)
        .bind(i64::from(project.enabled))
        .bind(project.generation)
        .bind(project.created_us)
        .execute(&self.writes)
        .await
        .map_err(unique("create project", "project", &project.name, "exists already"))?;
        Ok(())
    }

    pub async fn project(&self, id: &ProjectId) -> Result<ProjectRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read project"))?.ok_or_else(|| not_found("project", id))?)
    }

    pub async fn project_named(&self, domain: &DomainId, name: &str) -> Result<ProjectRow> {
        let row = sqlx::query(select!("WHERE domain = $1 AND name = $2"))
            .bind(domain.as_str())
            .bind(name)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read project"))?;
        read(&row.ok_or_else(|| not_found("project", name))?)
    }

    pub async fn list_projects(
        &self,
        domain: Option<&DomainId>,
        name: Option<&str>,
        ask: &PageAsk,
    ) -> Result<Page<ProjectRow>> {
        let rows = sqlx::query(select!(
            "WHERE id > $1 AND ($3 = '' OR domain = $3) AND ($4 = '' OR name = $4) ORDER BY id LIMIT $2"
        ))
        .bind(ask.after())
        .bind(ask.rows())
        .bind(domain.map_or("", DomainId::as_str))
        .bind(name.unwrap_or_default())
        .fetch_all(&self.reads)
        .await
        .map_err(db("list projects"))?;
        ask.page(&rows, read, |project| project.id.to_string())
    }

    /// All but id, domain and creation; `Conflict` if it was changed since `project.generation` was read.
    pub async fn change_project(&self, project: &ProjectRow) -> Result<()> {
        let done = sqlx::query(
            "UPDATE projects SET name = $3, description = $4, enabled = $5, generation = generation + 1 \
             WHERE id = $1 AND generation = $2",
        )
        .bind(project.id.as_str())
        .bind(project.generation)
        .bind(&project.name)
        .bind(&project.description)
        .bind(i64::from(project.enabled))
        .execute(&self.writes)
        .await
        .map_err(unique("change project", "project", &project.name, "exists already"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.project(&project.id).await?;
        Err(conflict("project", &project.id, "was changed by another meanwhile"))
    }

    /// With what was granted on it, the tokens for it and its quotas.
    pub async fn delete_project(&self, id: &ProjectId) -> Result<()> {
        let failed = db("delete project");
        let mut transaction = self.begin("delete project").await?;
        for statement in [
            "DELETE FROM grants WHERE scope_kind = 'project' AND scope_id = $1",
            "DELETE FROM identity_tokens WHERE scope_kind = 'project' AND scope_id = $1",
            "DELETE FROM quotas WHERE project = $1",
        ] {
            sqlx::query(statement).bind(id.as_str()).execute(&mut *transaction).await.map_err(&failed)?;
        }
        let done = sqlx::query("DELETE FROM projects WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        if done.rows_affected() == 0 { Err(not_found("project", id)) } else { Ok(()) }
    }
}
