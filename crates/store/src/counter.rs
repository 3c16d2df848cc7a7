//! Numbers, taken in the transaction of what they are for: integer ids for clients older than UUIDs, and turns at what two must
//! not do at once, such as taking the last place of a quota.
//!
//! Ground rules: a number is given once, and a transaction that fails gives it back; who takes one holds the counter's row until
//! its transaction ends and the next one waits, since an UPDATE of a row is a lock that both engines know. So an id is taken late,
//! and a turn before what it guards is looked at.

use sqlx::{Any, Row, Transaction};

use crate::error::{Result, db};

pub(crate) const SERVER: &str = "server";
pub(crate) const MIGRATION: &str = "migration";
pub(crate) const HOST: &str = "host";
pub(crate) const AGGREGATE: &str = "aggregate";
pub(crate) const KEY_PAIR: &str = "key pair";

pub(crate) async fn next(transaction: &mut Transaction<'static, Any>, counter: &str) -> Result<i64> {
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
