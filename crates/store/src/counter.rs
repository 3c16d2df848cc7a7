//! Integer ids, for clients older than UUIDs: the next one, taken in the transaction of what it is for.
//!
//! Ground rules: a number is given once, and a transaction that fails gives it back; who takes one holds the counter's row until
//! its transaction ends, so it is taken late.

use sqlx::{Any, Row, Transaction};

use crate::error::{Result, db};

pub(crate) const SERVER: &str = "server";
pub(crate) const MIGRATION: &str = "migration";
pub(crate) const HOST: &str = "host";
pub(crate) const AGGREGATE: &str = "aggregate";

pub(crate) async fn next(transaction: &mut Transaction<'static, Any>, counter: &'static str) -> Result<i64> {
    let row = sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, 1) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    )
    .bind(counter)
    .fetch_one(&mut **transaction)
    .await
    .map_err(db("take a number"))?;
    row.try_get(0).map_err(db("take a number"))
}
