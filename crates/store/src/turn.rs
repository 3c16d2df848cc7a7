//! Turns: what two must not do at once, such as taking the last place of a quota.
//!
//! Ground rules: who takes a turn holds it until its transaction ends, the next one waits; turns have names, and of one name the
//! numbers rise. An UPDATE of a row is a lock that both engines know.

use sqlx::{Any, Row, Transaction};

use crate::error::{Result, db};

/// Of key pairs: it also numbers them.
pub(crate) const KEY_PAIRS: &str = "key pairs";

/// The turn's number, which nothing that was stored under an earlier turn of this name has.
pub(crate) async fn take(transaction: &mut Transaction<'static, Any>, name: &str) -> Result<i64> {
    let row = sqlx::query(
        "INSERT INTO turns (name, taken) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET taken = turns.taken + 1 \
         RETURNING taken",
    )
    .bind(name)
    .fetch_one(&mut **transaction)
    .await
    .map_err(db("take a turn"))?;
    row.try_get(0).map_err(db("take a turn"))
}
