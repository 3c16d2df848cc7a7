//! Domains: name spaces of users and projects.

use sqlx::any::AnyRow;
use whimbrel_core::identity::DomainId;

use crate::{
    Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    record::Record,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRow {
    pub id: DomainId,
    /// Unique.
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub generation: i64,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, name, description, enabled, generation, created_us FROM domains ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<DomainRow> {
    let record = Record::new("domain", row)?;
    Ok(DomainRow {
        id: record.parsed("id")?,
        name: record.text("name")?,
        description: record.text("description")?,
        enabled: record.flag("enabled")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    pub async fn create_domain(&self, domain: &DomainRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO domains (id, name, description, enabled, generation, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(domain.id.as_str())
        .bind(&domain.name)
        .bind(&domain.description)
        .bind(i64::from(domain.enabled))
        .bind(domain.generation)
        .bind(domain.created_us)
        .execute(&self.writes)
        .await
        .map_err(unique("create domain", "domain", &domain.name, "exists already"))?;
        Ok(())
    }

    pub async fn domain(&self, id: &DomainId) -> Result<DomainRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read domain"))?.ok_or_else(|| not_found("domain", id))?)
    }

    pub async fn domain_named(&self, name: &str) -> Result<DomainRow> {
        let row = sqlx::query(select!("WHERE name = $1")).bind(name).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read domain"))?.ok_or_else(|| not_found("domain", name))?)
    }

    pub async fn list_domains(&self, name: Option<&str>, ask: &PageAsk) -> Result<Page<DomainRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 AND ($3 = '' OR name = $3) ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(name.unwrap_or_default())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list domains"))?;
        ask.page(&rows, read, |domain| domain.id.to_string())
    }

    /// All but id and creation; `Conflict` if it was changed since `domain.generation` was read.
    pub async fn change_domain(&self, domain: &DomainRow) -> Result<()> {
        let done = sqlx::query(
            "UPDATE domains SET name = $3, description = $4, enabled = $5, generation = generation + 1 \
             WHERE id = $1 AND generation = $2",
        )
        .bind(domain.id.as_str())
        .bind(domain.generation)
        .bind(&domain.name)
        .bind(&domain.description)
        .bind(i64::from(domain.enabled))
        .execute(&self.writes)
        .await
        .map_err(unique("change domain", "domain", &domain.name, "exists already"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.domain(&domain.id).await?;
        Err(conflict("domain", &domain.id, "was changed by another meanwhile"))
    }

    /// With its users, projects and all that was granted on them; `Conflict` while it is enabled.
    pub async fn delete_domain(&self, id: &DomainId) -> Result<()> {
        let failed = db("delete domain");
        let mut transaction = self.begin("delete domain").await?;
        for statement in [
            "DELETE FROM grants WHERE scope_kind = 'project' AND scope_id IN \
             (SELECT projects.id FROM projects JOIN domains ON domains.id = projects.domain \
              WHERE domains.id = $1 AND domains.enabled = 0)",
            "DELETE FROM grants WHERE scope_kind = 'domain' AND scope_id IN \
             (SELECT id FROM domains WHERE id = $1 AND enabled = 0)",
            "DELETE FROM projects WHERE domain IN (SELECT id FROM domains WHERE id = $1 AND enabled = 0)",
            "DELETE FROM users WHERE domain IN (SELECT id FROM domains WHERE id = $1 AND enabled = 0)",
        ] {
            sqlx::query(statement).bind(id.as_str()).execute(&mut *transaction).await.map_err(&failed)?;
        }
        let done = sqlx::query("DELETE FROM domains WHERE id = $1 AND enabled = 0")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.domain(id).await?;
        Err(conflict("domain", id, "is enabled: disable it first"))
    }
}
