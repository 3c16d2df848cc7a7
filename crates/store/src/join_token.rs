//! Join tokens: by their hash, for one host, once, until they expire.

use whimbrel_core::id::HostName;

use crate::{
    Store,
    error::{Result, conflict, db, not_found, unique},
    record::Record,
};

const OBJECT: &str = "join token";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJoinToken {
    pub hash: String,
    /// The only host that may join by it.
    pub host: HostName,
    pub created_us: i64,
    pub expires_us: i64,
}

impl Store {
    pub async fn create_join_token(&self, token: &NewJoinToken) -> Result<()> {
        sqlx::query("INSERT INTO join_tokens (hash, host, created_us, expires_us) VALUES ($1, $2, $3, $4)")
            .bind(&token.hash)
            .bind(token.host.as_str())
            .bind(token.created_us)
            .bind(token.expires_us)
            .execute(&self.writes)
            .await
            .map_err(unique("create join token", OBJECT, short(&token.hash), "exists already"))?;
        Ok(())
    }

    /// Uses the token up. Of two that come at once, one succeeds: the check and the mark are one statement.
    pub async fn use_join_token(&self, hash: &str, host: &HostName, now_us: i64) -> Result<()> {
        let failed = db("use join token");
        let done = sqlx::query(
            "UPDATE join_tokens SET used_us = $3 \
             WHERE hash = $1 AND host = $2 AND used_us IS NULL AND expires_us > $3",
        )
        .bind(hash)
        .bind(host.as_str())
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(&failed)?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let row = sqlx::query("SELECT hash, host, used_us, expires_us FROM join_tokens WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.reads)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Err(not_found(OBJECT, short(hash))) };
        let record = Record::new(OBJECT, &row)?;
        let owner: HostName = record.parsed("host")?;
        let reason = if record.us_opt("used_us")?.is_some() {
            "was used already: make a new one".to_owned()
        } else if owner != *host {
            format!("is for host '{owner}', not for '{host}'")
        } else {
            "has expired: make a new one".to_owned()
        };
        Err(conflict(OBJECT, short(hash), reason))
    }

    /// Forgets tokens that expired before `before_us`, used or not. Returns how many.
    pub async fn forget_join_tokens(&self, before_us: i64) -> Result<u64> {
        let done = sqlx::query("DELETE FROM join_tokens WHERE expires_us < $1")
            .bind(before_us)
            .execute(&self.writes)
            .await
            .map_err(db("forget join tokens"))?;
        Ok(done.rows_affected())
    }
}

/// Enough of a hash to tell tokens apart in a log.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}
