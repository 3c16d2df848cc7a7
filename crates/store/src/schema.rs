//! The schema: numbered files, applied in order, each once.
//!
//! All that is due runs in one transaction behind a lock that both engines have, so two controllers that start at once
//! apply it once, and one that dies half-way leaves the old schema.

use sqlx::Row;

use crate::{
    Engine, Store,
    error::{Result, StoreError, db},
};

struct Change {
    version: i64,
    sql: &'static str,
}

/// In order. A file that was released is never edited: a change is a new file.
const CHANGES: &[Change] = &[
    Change { version: 1, sql: include_str!("../migrations/0001_initial.sql") },
    Change { version: 2, sql: include_str!("../migrations/0002_owing.sql") },
    Change { version: 3, sql: include_str!("../migrations/0003_identity.sql") },
    Change { version: 4, sql: include_str!("../migrations/0004_flavors.sql") },
    Change { version: 5, sql: include_str!("../migrations/0005_servers.sql") },
    Change { version: 6, sql: include_str!("../migrations/0006_images.sql") },
    Change { version: 7, sql: include_str!("../migrations/0007_tenancy.sql") },
    Change { version: 8, sql: include_str!("../migrations/0008_hosts.sql") },
    Change { version: 9, sql: include_str!("../migrations/0009_networks.sql") },
    Change { version: 15, sql: include_str!("../migrations/0015_storage.sql") },
];

/// BEGIN IMMEDIATE is the lock on SQLite. The number is arbitrary, ours, and the same in every version.
const POSTGRES_LOCK: &str = "DO $$ BEGIN PERFORM pg_advisory_xact_lock(7741520931); END $$";
const VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY, applied_by TEXT NOT NULL)";

pub(crate) async fn bring_up_to_date(store: &Store) -> Result<()> {
    let failed = db("schema");
    let mut transaction = store.begin("schema").await?;
    if store.engine == Engine::Postgres {
        sqlx::raw_sql(POSTGRES_LOCK).execute(&mut *transaction).await.map_err(&failed)?;
    }
    sqlx::raw_sql(VERSION_TABLE).execute(&mut *transaction).await.map_err(&failed)?;
    let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_versions")
        .fetch_one(&mut *transaction)
        .await
        .map_err(&failed)?;
    let found: i64 = row.try_get("version").map_err(&failed)?;
    let known = CHANGES.iter().map(|change| change.version).max().unwrap_or(0);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for change in CHANGES.iter().filter(|change| change.version > found) {
        tracing::info!(version = change.version, "bringing the database's schema up to date");
        sqlx::raw_sql(change.sql).execute(&mut *transaction).await.map_err(&failed)?;
        sqlx::query("INSERT INTO schema_versions (version, applied_by) VALUES ($1, $2)")
            .bind(change.version)
            .bind(env!("CARGO_PKG_VERSION"))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
    }
    transaction.commit().await.map_err(failed)
}
