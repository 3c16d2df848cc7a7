//! What can go wrong, so that an edge can tell a wrong id from a lost race from a broken database.

use whimbrel_core::failure::Failure;

pub type Result<T> = std::result::Result<T, StoreError>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no {object} '{id}'")]
    NotFound { object: &'static str, id: String },
    /// It is, or meanwhile became, something with which the call cannot go on.
    #[error("{object} '{id}' {reason}")]
    Conflict { object: &'static str, id: String, reason: String },
    /// The caller's check of the room on a host said no; nothing was written.
    #[error("{}", reasons.iter().map(|reason| reason.detail.as_str()).collect::<Vec<_>>().join("; "))]
    Refused { reasons: Vec<Failure> },
    /// Another writer held it for too long; the same call may be made again.
    #[error("the database is busy ({operation})")]
    Busy { operation: &'static str, source: sqlx::Error },
    /// A column holds what this version cannot read.
    #[error("{object} '{id}' has a bad '{column}' in the database: {reason}")]
    Corrupt { object: &'static str, id: String, column: &'static str, reason: String },
    #[error("'{url}' is no database that can be used: {reason} (hint: sqlite:/path/to/file.db or postgres://…)")]
    BadUrl { url: String, reason: String },
    #[error(
        "the database was written by a newer version (schema {found}, this one knows {known}) (hint: upgrade this controller)"
    )]
    TooNew { found: i64, known: i64 },
    #[error("the database failed ({operation})")]
    Db { operation: &'static str, source: sqlx::Error },
}

/// Names the operation in errors of sqlx, and tells a busy database from a failed one.
pub(crate) fn db(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| {
        if is_busy(&source) { StoreError::Busy { operation, source } } else { StoreError::Db { operation, source } }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: u32 = 5;
    const SQLITE_LOCKED: u32 = 6;
    const SQLITE_PRIMARY_CODE: u32 = 0xff;
    /// lock_not_available, serialization_failure, deadlock_detected, too_many_connections.
    const POSTGRES: [&str; 4] = ["55P03", "40001", "40P01", "53300"];
    match error {
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // SQLite's codes are short numbers, PostgreSQL's always five characters.
            let sqlite = code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|code| code & SQLITE_PRIMARY_CODE);
            matches!(sqlite, Some(SQLITE_BUSY | SQLITE_LOCKED)) || POSTGRES.contains(&code.as_ref())
        }),
        _ => false,
    }
}

/// `Conflict` where a unique index says no, else as [`db`].
pub(crate) fn unique(
    operation: &'static str,
    object: &'static str,
    id: impl ToString,
    reason: &'static str,
) -> impl FnOnce(sqlx::Error) -> StoreError {
    let id = id.to_string();
    move |source| match &source {
        sqlx::Error::Database(error) if error.is_unique_violation() => {
            StoreError::Conflict { object, id, reason: reason.to_owned() }
        }
        _ => db(operation)(source),
    }
}

pub(crate) fn not_found(object: &'static str, id: impl ToString) -> StoreError {
    StoreError::NotFound { object, id: id.to_string() }
}

pub(crate) fn conflict(object: &'static str, id: impl ToString, reason: impl Into<String>) -> StoreError {
    StoreError::Conflict { object, id: id.to_string(), reason: reason.into() }
}
