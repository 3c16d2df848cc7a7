//! Tokens that a log-in gave out, by their hash.
//!
//! They are written with the fast connections: one that a power cut takes costs a log-in, and clients make one per command.

use sqlx::any::AnyRow;
use whimbrel_core::identity::UserId;

use super::GrantScope;
use crate::{
    Store,
    error::{Result, db},
    record::{Record, json},
};

/// As `scope_kind` where the token is for nothing but its holder.
const UNSCOPED: &str = "none";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityToken {
    pub hash: String,
    pub user: UserId,
    /// `None`: unscoped.
    pub scope: Option<GrantScope>,
    /// `password`, `token`.
    pub methods: Vec<String>,
    /// Its own, then that of the token it was got with.
    pub audit_ids: Vec<String>,
    pub issued_us: i64,
    pub expires_us: i64,
}

fn read(row: &AnyRow) -> Result<IdentityToken> {
    let record = Record::new("token", row)?;
    let kind = record.text("scope_kind")?;
    let scope = match kind.as_str() {
        UNSCOPED => None,
        kind => {
            let scope = GrantScope::read(kind, &record.text("scope_id")?);
            Some(scope.map_err(|reason| record.corrupt("scope_kind", reason))?)
        }
    };
    Ok(IdentityToken {
        hash: record.text("hash")?,
        user: record.parsed("user_id")?,
        scope,
        methods: record.json("methods")?,
        audit_ids: record.json("audit_ids")?,
        issued_us: record.us("issued_us")?,
        expires_us: record.us("expires_us")?,
    })
}

impl Store {
    pub async fn create_identity_token(&self, token: &IdentityToken) -> Result<()> {
        sqlx::query(
            "INSERT INTO identity_tokens (hash, user_id, scope_kind, scope_id, methods, audit_ids, issued_us, \
             expires_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&token.hash)
        .bind(token.user.as_str())
        .bind(token.scope.as_ref().map_or(UNSCOPED, GrantScope::kind))
        .bind(token.scope.as_ref().map_or("", GrantScope::id))
        .bind(json("token", &token.user, "methods", &token.methods)?)
        .bind(json("token", &token.user, "audit_ids", &token.audit_ids)?)
        .bind(token.issued_us)
        .bind(token.expires_us)
        .execute(&self.reads)
        .await
        .map_err(db("create token"))?;
        Ok(())
    }

    /// One that has expired is none.
    pub async fn identity_token(&self, hash: &str, now_us: i64) -> Result<Option<IdentityToken>> {
        let row = sqlx::query(
            "SELECT hash, user_id, scope_kind, scope_id, methods, audit_ids, issued_us, expires_us \
             FROM identity_tokens WHERE hash = $1 AND expires_us > $2",
        )
        .bind(hash)
        .bind(now_us)
        .fetch_optional(&self.reads)
        .await
        .map_err(db("read token"))?;
        row.as_ref().map(read).transpose()
    }

    /// Lasting: a token that was revoked must not come back.
    pub async fn revoke_identity_token(&self, hash: &str) -> Result<()> {
        sqlx::query("DELETE FROM identity_tokens WHERE hash = $1")
            .bind(hash)
            .execute(&self.writes)
            .await
            .map_err(db("revoke token"))?;
        Ok(())
    }

    /// How many there were.
    pub async fn forget_expired_tokens(&self, now_us: i64) -> Result<u64> {
        let done = sqlx::query("DELETE FROM identity_tokens WHERE expires_us <= $1")
            .bind(now_us)
            .execute(&self.reads)
            .await
            .map_err(db("forget expired tokens"))?;
        Ok(done.rows_affected())
    }
}
