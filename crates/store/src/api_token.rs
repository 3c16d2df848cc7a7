//! Operators' tokens, by their hash.

use sqlx::any::AnyRow;

use crate::{
    Page, PageAsk, Store,
    error::{Result, db, not_found, unique},
    record::{Record, stored_words},
};

stored_words!(
    /// As in OpenStack; each may do what those after it may.
    TokenRole { Admin = "admin", Member = "member", Reader = "reader" }
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// For people; unique.
    pub name: String,
    pub hash: String,
    pub role: TokenRole,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT name, hash, role, created_us FROM api_tokens ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<ApiToken> {
    let record = Record::new("API token", row)?;
    Ok(ApiToken {
        name: record.text("name")?,
        hash: record.text("hash")?,
        role: record.parsed("role")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    pub async fn create_api_token(&self, token: &ApiToken) -> Result<()> {
        sqlx::query("INSERT INTO api_tokens (hash, name, role, created_us) VALUES ($1, $2, $3, $4)")
            .bind(&token.hash)
            .bind(&token.name)
            .bind(token.role.as_str())
            .bind(token.created_us)
            .execute(&self.writes)
            .await
            .map_err(unique("create API token", "API token", &token.name, "exists already"))?;
        Ok(())
    }

    pub async fn api_token_by_hash(&self, hash: &str) -> Result<Option<ApiToken>> {
        let row = sqlx::query(select!("WHERE hash = $1"))
            .bind(hash)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read API token"))?;
        row.as_ref().map(read).transpose()
    }

    /// In the order of names.
    pub async fn list_api_tokens(&self, ask: &PageAsk) -> Result<Page<ApiToken>> {
        let rows = sqlx::query(select!("WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list API tokens"))?;
        ask.page(&rows, read, |token| token.name.clone())
    }

    pub async fn delete_api_token(&self, name: &str) -> Result<()> {
        let done = sqlx::query("DELETE FROM api_tokens WHERE name = $1")
            .bind(name)
            .execute(&self.writes)
            .await
            .map_err(db("delete API token"))?;
        if done.rows_affected() == 0 { Err(not_found("API token", name)) } else { Ok(()) }
    }
}
