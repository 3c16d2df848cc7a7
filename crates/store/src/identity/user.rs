//! Users. The password is a PHC string, made and compared elsewhere.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use whimbrel_core::identity::{DomainId, ProjectId, UserId};

use crate::{
    Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    record::{Record, json},
};

#[derive(Clone, PartialEq, Eq)]
pub struct UserRow {
    pub id: UserId,
    pub domain: DomainId,
    /// Unique in its domain.
    pub name: String,
    /// `None`: nobody can log in as this user.
    pub password_hash: Option<String>,
    pub enabled: bool,
    pub default_project: Option<ProjectId>,
    /// What clients keep with a user, and we only give back.
    pub extra: BTreeMap<String, String>,
    pub generation: i64,
    pub created_us: i64,
}

/// A hash is no secret, but it can be guessed at: it stays out of logs.
impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserRow({} '{}' in {}, generation {})", self.id, self.name, self.domain, self.generation)
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, domain, name, password_hash, enabled, default_project, extra, generation, created_us \
             FROM users ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<UserRow> {
    let record = Record::new("user", row)?;
    Ok(UserRow {
        id: record.parsed("id")?,
        domain: record.parsed("domain")?,
        name: record.text("name")?,
        password_hash: record.text_opt("password_hash")?,
        enabled: record.flag("enabled")?,
        default_project: record.parsed_opt("default_project")?,
        extra: record.json("extra")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    pub async fn create_user(&self, user: &UserRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO users (id, domain, name, password_hash, enabled, default_project, extra, generation, \
             created_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(user.id.as_str())
        .bind(user.domain.as_str())
        .bind(&user.name)
        .bind(&user.password_hash)
        .bind(i64::from(user.enabled))
        .bind(user.default_project.as_ref().map(ProjectId::as_str))
        .bind(json("user", &user.id, "extra", &user.extra)?)
        .bind(user.generation)
        .bind(user.created_us)
        .execute(&self.writes)
        .await
        .map_err(unique("create user", "user", &user.name, "exists already"))?;
        Ok(())
    }

    pub async fn user(&self, id: &UserId) -> Result<UserRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read user"))?.ok_or_else(|| not_found("user", id))?)
    }

    pub async fn user_named(&self, domain: &DomainId, name: &str) -> Result<UserRow> {
        let row = sqlx::query(select!("WHERE domain = $1 AND name = $2"))
            .bind(domain.as_str())
            .bind(name)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read user"))?;
        read(&row.ok_or_else(|| not_found("user", name))?)
    }

    pub async fn list_users(
        &self,
        domain: Option<&DomainId>,
        name: Option<&str>,
        ask: &PageAsk,
    ) -> Result<Page<UserRow>> {
        let rows = sqlx::query(select!(
            "WHERE id > $1 AND ($3 = '' OR domain = $3) AND ($4 = '' OR name = $4) ORDER BY id LIMIT $2"
        ))
        .bind(ask.after())
        .bind(ask.rows())
        .bind(domain.map_or("", DomainId::as_str))
        .bind(name.unwrap_or_default())
        .fetch_all(&self.reads)
        .await
        .map_err(db("list users"))?;
        ask.page(&rows, read, |user| user.id.to_string())
    }

    /// All but id, domain and creation; `Conflict` if it was changed since `user.generation` was read. Where
    /// `ends_tokens`, whoever holds a token of this user has to log in again.
    pub async fn change_user(&self, user: &UserRow, ends_tokens: bool) -> Result<()> {
        let failed = db("change user");
        let mut transaction = self.begin("change user").await?;
        let done = sqlx::query(
            "UPDATE users SET name = $3, password_hash = $4, enabled = $5, default_project = $6, extra = $7, \
             generation = generation + 1 WHERE id = $1 AND generation = $2",
        )
        .bind(user.id.as_str())
        .bind(user.generation)
        .bind(&user.name)
        .bind(&user.password_hash)
        .bind(i64::from(user.enabled))
        .bind(user.default_project.as_ref().map(ProjectId::as_str))
        .bind(json("user", &user.id, "extra", &user.extra)?)
        .execute(&mut *transaction)
        .await
        .map_err(unique("change user", "user", &user.name, "exists already"))?;
        if done.rows_affected() == 0 {
            transaction.rollback().await.map_err(failed)?;
            self.user(&user.id).await?;
            return Err(conflict("user", &user.id, "was changed by another meanwhile"));
        }
        if ends_tokens {
            sqlx::query("DELETE FROM identity_tokens WHERE user_id = $1")
                .bind(user.id.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// With its grants and tokens.
    pub async fn delete_user(&self, id: &UserId) -> Result<()> {
        let done = sqlx::query("DELETE FROM users WHERE id = $1")
            .bind(id.as_str())
            .execute(&self.writes)
            .await
            .map_err(db("delete user"))?;
        if done.rows_affected() == 0 { Err(not_found("user", id)) } else { Ok(()) }
    }
}
