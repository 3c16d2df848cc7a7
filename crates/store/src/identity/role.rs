//! Roles: names that are granted.

use sqlx::any::AnyRow;
use whimbrel_core::identity::RoleId;

use crate::{
    Page, PageAsk, Store,
    error::{Result, db, not_found, unique},
    record::Record,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRow {
    pub id: RoleId,
    /// Unique.
    pub name: String,
    pub description: String,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, name, description, created_us FROM roles ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<RoleRow> {
    let record = Record::new("role", row)?;
    Ok(RoleRow {
        id: record.parsed("id")?,
        name: record.text("name")?,
        description: record.text("description")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    pub async fn create_role(&self, role: &RoleRow) -> Result<()> {
        sqlx::query("INSERT INTO roles (id, name, description, created_us) VALUES ($1, $2, $3, $4)")
            .bind(role.id.as_str())
            .bind(&role.name)
            .bind(&role.description)
            .bind(role.created_us)
            .execute(&self.writes)
            .await
            .map_err(unique("create role", "role", &role.name, "exists already"))?;
        Ok(())
    }

    pub async fn role(&self, id: &RoleId) -> Result<RoleRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read role"))?.ok_or_else(|| not_found("role", id))?)
    }

    pub async fn list_roles(&self, name: Option<&str>, ask: &PageAsk) -> Result<Page<RoleRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 AND ($3 = '' OR name = $3) ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(name.unwrap_or_default())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list roles"))?;
        ask.page(&rows, read, |role| role.id.to_string())
    }

    /// All but id and creation. The last to change it wins.
    pub async fn change_role(&self, role: &RoleRow) -> Result<()> {
        let done = sqlx::query("UPDATE roles SET name = $2, description = $3 WHERE id = $1")
            .bind(role.id.as_str())
            .bind(&role.name)
            .bind(&role.description)
            .execute(&self.writes)
            .await
            .map_err(unique("change role", "role", &role.name, "exists already"))?;
        if done.rows_affected() == 0 { Err(not_found("role", &role.id)) } else { Ok(()) }
    }

    /// With its grants.
    pub async fn delete_role(&self, id: &RoleId) -> Result<()> {
        let done = sqlx::query("DELETE FROM roles WHERE id = $1")
            .bind(id.as_str())
            .execute(&self.writes)
            .await
            .map_err(db("delete role"))?;
        if done.rows_affected() == 0 { Err(not_found("role", id)) } else { Ok(()) }
    }
}
