//! Opening the database: two pools, each connection set up for its engine, then the schema.
//!
//! On SQLite all that must survive a power cut goes through one connection with `synchronous=FULL`: the migration
//! machines act only after their step is stored, and an act that the database forgot would be a contradiction. What may be
//! lost (heartbeats, progress) and what only reads goes through the others with `NORMAL`. One writer also means that
//! writers wait in our queue and not in SQLite's busy loop. On PostgreSQL both are one pool.

use std::time::Duration;

use sqlx::{Any, AnyConnection, AnyPool, Transaction, any::AnyPoolOptions};

use crate::{
    error::{Result, StoreError, db},
    schema,
};

const SQLITE_READERS: u32 = 8;
const SQLITE_WRITERS: u32 = 1;
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a call waits for a connection before it says `Busy`.
const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) engine: Engine,
    /// Reads, and writes that a power cut may take.
    pub(crate) reads: AnyPool,
    /// Writes that must last.
    pub(crate) writes: AnyPool,
    /// Of the work under which servers and migrations are written; see [`Store::fenced`].
    pub(crate) fence: Option<i64>,
}

impl Store {
    /// `sqlite:/path/to/file.db` (made if missing) or `postgres://…`. Brings the schema up to date.
    pub async fn open(url: &str) -> Result<Store> {
        sqlx::any::install_default_drivers();
        let engine = engine_of(url)?;
        let url = match engine {
            Engine::Sqlite if !url.contains("mode=") => {
                format!("{url}{}mode=rwc", if url.contains('?') { '&' } else { '?' })
            }
            Engine::Sqlite | Engine::Postgres => url.to_owned(),
        };
        let store = match engine {
            Engine::Sqlite => {
                let writes = connect(&url, SQLITE_WRITERS, SQLITE_DURABLE).await?;
                let reads = connect(&url, SQLITE_READERS, SQLITE_FAST).await?;
                Store { engine, reads, writes, fence: None }
            }
            Engine::Postgres => {
                let pool = connect(&url, POSTGRES_CONNECTIONS, POSTGRES).await?;
                Store { engine, reads: pool.clone(), writes: pool, fence: None }
            }
        };
        schema::bring_up_to_date(&store).await?;
        Ok(store)
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    pub async fn close(&self) {
        self.writes.close().await;
        self.reads.close().await;
    }

    /// A transaction that may write. On SQLite it takes the write lock at once: one that read first and then wants to
    /// write would fail if another wrote meanwhile.
    pub(crate) async fn begin(&self, operation: &'static str) -> Result<Transaction<'static, Any>> {
        match self.engine {
            Engine::Sqlite => self.writes.begin_with("BEGIN IMMEDIATE").await,
            Engine::Postgres => self.writes.begin().await,
        }
        .map_err(db(operation))
    }
}

impl Store {
    /// As [`Store::begin`], for what a power cut may take.
    pub(crate) async fn begin_lossy(&self, operation: &'static str) -> Result<Transaction<'static, Any>> {
        match self.engine {
            Engine::Sqlite => self.reads.begin_with("BEGIN IMMEDIATE").await,
            Engine::Postgres => self.reads.begin().await,
        }
        .map_err(db(operation))
    }
}

fn engine_of(url: &str) -> Result<Engine> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => Ok(Engine::Sqlite),
        "postgres" | "postgresql" => Ok(Engine::Postgres),
        _ => Err(StoreError::BadUrl { url: without_secret(url), reason: "its scheme is not known".to_owned() }),
    }
}

/// A URL for an error message: no password, no parameters.
fn without_secret(url: &str) -> String {
    let plain = url.split('?').next().unwrap_or_default();
    match (plain.split_once("://"), plain.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        (Some(_) | None, Some(_) | None) => plain.to_owned(),
    }
}

/// 10 s is longer than any transaction here.
const SQLITE_DURABLE: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 1000;";
const SQLITE_FAST: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
     PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 1000;";
const POSTGRES: &str = "SET lock_timeout = '10s'; SET statement_timeout = '30s'; \
     SET idle_in_transaction_session_timeout = '60s';";

async fn connect(url: &str, connections: u32, set_up: &'static str) -> Result<AnyPool> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIME_MAX)
        .after_connect(move |connection: &mut AnyConnection, _| {
            Box::pin(async move {
                sqlx::raw_sql(set_up).execute(connection).await?;
                Ok(())
            })
        })
        .connect(url)
        .await
        .map_err(|error| match error {
            sqlx::Error::Configuration(reason) => {
                StoreError::BadUrl { url: without_secret(url), reason: reason.to_string() }
            }
            error => db("open")(error),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_password() {
        let check = |url: &str, want: &str| assert_eq!(without_secret(url), want);
        check("postgres://w:secret@db/whimbrel?password=x", "postgres://…@db/whimbrel");
        check("sqlite:/var/lib/w.db?mode=rwc", "sqlite:/var/lib/w.db");
        check("mysql://db", "mysql://db");
    }

    #[test]
    fn knows_its_engines_by_the_scheme() {
        assert_eq!(engine_of("sqlite:/a.db").unwrap(), Engine::Sqlite);
        assert_eq!(engine_of("postgresql:///w").unwrap(), Engine::Postgres);
        let error = engine_of("mysql://u:p@db/w").unwrap_err().to_string();
        assert!(error.contains("mysql") && error.contains("hint:") && !error.contains(":p@"), "{error}");
    }
}
