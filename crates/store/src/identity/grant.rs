//! Grants: which user has which role on what; Keystone calls them role assignments.

use sqlx::any::AnyRow;
use whimbrel_core::identity::{RoleId, UserId};

use super::GrantScope;
use crate::{
    Store,
    error::{Result, db, not_found},
    record::Record,
};

/// Rows of one answer. Keystone does not page this list either.
const GRANTS_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grantee {
    pub user: UserId,
    pub role: RoleId,
    pub scope: GrantScope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    pub grant: Grantee,
    pub role_name: String,
}

/// All that is given must match.
#[derive(Clone, Debug, Default)]
pub struct GrantFilter {
    pub user: Option<UserId>,
    pub role: Option<RoleId>,
    pub scope: Option<GrantScope>,
}

fn read(row: &AnyRow) -> Result<GrantRow> {
    let record = Record::new("grant", row)?;
    let scope = GrantScope::read(&record.text("scope_kind")?, &record.text("scope_id")?);
    Ok(GrantRow {
        grant: Grantee {
            user: record.parsed("user_id")?,
            role: record.parsed("role")?,
            scope: scope.map_err(|reason| record.corrupt("scope_kind", reason))?,
        },
        role_name: record.text("role_name")?,
    })
}

impl Store {
    /// Granting what is granted already changes nothing. The user and the role must be there.
    pub async fn grant(&self, grant: &Grantee, now_us: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO grants (user_id, scope_kind, scope_id, role, created_us) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (user_id, scope_kind, scope_id, role) DO NOTHING",
        )
        .bind(grant.user.as_str())
        .bind(grant.scope.kind())
        .bind(grant.scope.id())
        .bind(grant.role.as_str())
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("grant role"))?;
        Ok(())
    }

    /// Tokens for the scope lose the role at once: roles are looked up whenever a token is shown.
    pub async fn revoke_grant(&self, grant: &Grantee) -> Result<()> {
        let done =
            sqlx::query("DELETE FROM grants WHERE user_id = $1 AND scope_kind = $2 AND scope_id = $3 AND role = $4")
                .bind(grant.user.as_str())
                .bind(grant.scope.kind())
                .bind(grant.scope.id())
                .bind(grant.role.as_str())
                .execute(&self.writes)
                .await
                .map_err(db("revoke role"))?;
        if done.rows_affected() == 0 { Err(not_found("grant", &grant.role)) } else { Ok(()) }
    }

    /// By user, then scope; at most [`GRANTS_MAX`].
    pub async fn list_grants(&self, filter: &GrantFilter) -> Result<Vec<GrantRow>> {
        let rows = sqlx::query(
            "SELECT grants.user_id, grants.scope_kind, grants.scope_id, grants.role, roles.name AS role_name \
             FROM grants JOIN roles ON roles.id = grants.role \
             WHERE ($1 = '' OR grants.user_id = $1) AND ($2 = '' OR grants.role = $2) \
             AND ($3 = '' OR grants.scope_kind = $3) AND ($4 = '' OR grants.scope_id = $4) \
             ORDER BY grants.user_id, grants.scope_kind, grants.scope_id, roles.name LIMIT $5",
        )
        .bind(filter.user.as_ref().map_or("", UserId::as_str))
        .bind(filter.role.as_ref().map_or("", RoleId::as_str))
        .bind(filter.scope.as_ref().map_or("", GrantScope::kind))
        .bind(filter.scope.as_ref().map_or("", GrantScope::id))
        .bind(GRANTS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(db("list grants"))?;
        rows.iter().map(read).collect()
    }
}
