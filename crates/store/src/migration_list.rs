//! All moves as operators list them: newest first, a page at a time, sorted out by the database.

use whimbrel_core::{
    id::{InstanceId, MigrationId},
    identity::{ProjectId, UserId},
    migration::coordinator::Status,
};

use crate::{
    MigrationKind, MigrationRow, Store,
    error::{Result, db},
    migration::{read, select},
    record::json,
};

/// What is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct MigrationFilter {
    /// Source or target.
    pub host: Option<String>,
    pub source: Option<String>,
    pub server: Option<InstanceId>,
    pub kind: Option<MigrationKind>,
    /// One of them, of which there are up to three; any if there is none.
    pub statuses: Vec<Status>,
    pub user: Option<UserId>,
    pub project: Option<ProjectId>,
    pub changed_since_us: Option<i64>,
    pub changed_before_us: Option<i64>,
}

/// Above every UUID: a list without a marker begins here.
const AFTER_ALL: &str = "g";

impl Store {
    /// At most `limit`, those begun before `before`.
    pub async fn list_moves(
        &self,
        filter: &MigrationFilter,
        before: Option<MigrationId>,
        limit: u32,
    ) -> Result<Vec<MigrationRow>> {
        let statuses = filter.statuses.iter();
        let mut statuses = statuses.map(|status| word(*status)).collect::<Result<Vec<_>>>()?.into_iter();
        let mut next_status = || statuses.next().unwrap_or_default();
        let said = |wanted: &Option<String>| wanted.clone().unwrap_or_default();
        let rows = sqlx::query(select!(
            "WHERE id < $1 AND ($2 = '' OR source = $2 OR target = $2) AND ($3 = '' OR source = $3) \
             AND ($4 = '' OR instance = $4) AND ($5 = '' OR kind = $5) AND ($6 = '' OR user_id = $6) \
             AND ($7 = '' OR project = $7) AND updated_us >= $8 AND updated_us <= $9 \
             AND ($10 = '' OR status IN ($10, $11, $12)) ORDER BY id DESC LIMIT $13"
        ))
        .bind(before.map_or_else(|| AFTER_ALL.to_owned(), |id| id.to_string()))
        .bind(said(&filter.host))
        .bind(said(&filter.source))
        .bind(filter.server.map_or_else(String::new, |id| id.to_string()))
        .bind(filter.kind.map_or("", MigrationKind::as_str))
        .bind(filter.user.as_ref().map_or("", UserId::as_str))
        .bind(filter.project.as_ref().map_or("", ProjectId::as_str))
        .bind(filter.changed_since_us.unwrap_or(i64::MIN))
        .bind(filter.changed_before_us.unwrap_or(i64::MAX))
        .bind(next_status())
        .bind(next_status())
        .bind(next_status())
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await
        .map_err(db("list migrations"))?;
        rows.iter().map(read).collect()
    }
}

/// As the column has it.
fn word(status: Status) -> Result<String> {
    json("migration", "", "status", &status)
}
