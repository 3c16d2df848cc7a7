//! Key pairs: the public halves that users give to their servers.

use sqlx::{Row, any::AnyRow};
use whimbrel_core::{identity::UserId, quota};

use crate::{
    Page, PageAsk, Store, counter,
    error::{Result, db, not_found, unique},
    record::{Record, stored_words},
};

stored_words!(
    KeyKind { Ssh = "ssh", X509 = "x509" }
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairRow {
    pub user: UserId,
    /// Unique among the user's.
    pub name: String,
    /// The integer that clients are shown.
    pub number: u64,
    pub kind: KeyKind,
    pub public_key: String,
    pub fingerprint: String,
    pub created_us: i64,
}

/// Its number is given by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeyPair {
    pub user: UserId,
    pub name: String,
    pub kind: KeyKind,
    pub public_key: String,
    pub fingerprint: String,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT name, user_id, number, kind, public_key, fingerprint, created_us FROM key_pairs ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<KeyPairRow> {
    let record = Record::new("key pair", row)?;
    Ok(KeyPairRow {
        user: record.parsed("user_id")?,
        name: record.text("name")?,
        number: record.number("number")?,
        kind: record.parsed("kind")?,
        public_key: record.text("public_key")?,
        fingerprint: record.text("fingerprint")?,
        created_us: record.us("created_us")?,
    })
}

impl Store {
    /// False where the user has `limit` of them already: then nothing was written.
    pub async fn create_key_pair(&self, new: &NewKeyPair, limit: i64) -> Result<bool> {
        let failed = db("create key pair");
        let mut transaction = self.begin("create key pair").await?;
        let number = counter::next(&mut transaction, counter::KEY_PAIR).await?;
        let row = sqlx::query("SELECT COUNT(*) AS used FROM key_pairs WHERE user_id = $1")
            .bind(new.user.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        let used: i64 = row.try_get("used").map_err(&failed)?;
        if !quota::has_room(limit, used.unsigned_abs()) {
            transaction.rollback().await.map_err(failed)?;
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO key_pairs (user_id, name, number, kind, public_key, fingerprint, created_us) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.user.as_str())
        .bind(&new.name)
        .bind(number)
        .bind(new.kind.as_str())
        .bind(&new.public_key)
        .bind(&new.fingerprint)
        .bind(new.created_us)
        .execute(&mut *transaction)
        .await
        .map_err(unique("create key pair", "key pair", &new.name, "exists already"))?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    pub async fn key_pair(&self, user: &UserId, name: &str) -> Result<KeyPairRow> {
        let row = sqlx::query(select!("WHERE user_id = $1 AND name = $2"))
            .bind(user.as_str())
            .bind(name)
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read key pair"))?;
        read(&row.ok_or_else(|| not_found("key pair", name))?)
    }

    /// In the order of names.
    pub async fn list_key_pairs(&self, user: &UserId, ask: &PageAsk) -> Result<Page<KeyPairRow>> {
        let rows = sqlx::query(select!("WHERE user_id = $3 AND name > $1 ORDER BY name LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(user.as_str())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list key pairs"))?;
        ask.page(&rows, read, |pair| pair.name.clone())
    }

    pub async fn delete_key_pair(&self, user: &UserId, name: &str) -> Result<()> {
        let done = sqlx::query("DELETE FROM key_pairs WHERE user_id = $1 AND name = $2")
            .bind(user.as_str())
            .bind(name)
            .execute(&self.writes)
            .await
            .map_err(db("delete key pair"))?;
        if done.rows_affected() == 0 { Err(not_found("key pair", name)) } else { Ok(()) }
    }
}
