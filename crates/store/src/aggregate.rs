//! Aggregates: hosts that an operator put together. One that names an availability zone gives it to its hosts.
//!
//! Ground rules: a host has one zone at most, and keeps the one it has while servers live there, since nobody moved them; both
//! are seen to in the transaction that changes an aggregate, and such changes come one after another.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Any, Transaction, any::AnyRow};
use uuid::Uuid;
use whimbrel_core::{
    id::HostName,
    schedule::{DEFAULT_ZONE, ZONE_KEY},
};

use crate::{
    Store, counter,
    error::{Result, conflict, db, not_found, unique},
    record::{Record, bigint},
};

const OBJECT: &str = "aggregate";
/// Rows of one answer: more than aggregates, and hosts in them, that one cloud has.
const ROWS_MAX: i64 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateRow {
    pub id: u64,
    pub uuid: Uuid,
    /// Unique.
    pub name: String,
    /// In the order of names.
    pub hosts: Vec<HostName>,
    /// Its zone among it.
    pub metadata: BTreeMap<String, String>,
    pub created_us: i64,
    pub updated_us: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAggregate {
    pub uuid: Uuid,
    pub name: String,
    pub zone: Option<String>,
    pub created_us: i64,
}

fn read(row: &AnyRow) -> Result<AggregateRow> {
    let record = Record::new(OBJECT, row)?;
    Ok(AggregateRow {
        id: record.number("id")?,
        uuid: record.parsed("uuid")?,
        name: record.text("name")?,
        hosts: Vec::new(),
        metadata: BTreeMap::new(),
        created_us: record.us("created_us")?,
        updated_us: record.us_opt("updated_us")?,
    })
}

impl Store {
    pub async fn create_aggregate(&self, new: &NewAggregate) -> Result<AggregateRow> {
        let mut transaction = self.begin("create aggregate").await?;
        let id = counter::next(&mut transaction, counter::AGGREGATE).await?;
        sqlx::query("INSERT INTO aggregates (id, uuid, name, created_us) VALUES ($1, $2, $3, $4)")
            .bind(id)
            .bind(new.uuid.to_string())
            .bind(&new.name)
            .bind(new.created_us)
            .execute(&mut *transaction)
            .await
            .map_err(unique("create aggregate", OBJECT, &new.name, "exists already"))?;
        if let Some(zone) = &new.zone {
            set(&mut transaction, id, ZONE_KEY, zone).await?;
        }
        transaction.commit().await.map_err(db("create aggregate"))?;
        self.aggregate(u64::try_from(id).unwrap_or_default()).await
    }

    pub async fn aggregate(&self, id: u64) -> Result<AggregateRow> {
        self.aggregates(Some(id)).await?.pop().ok_or_else(|| not_found(OBJECT, id))
    }

    /// In the order of their making.
    pub async fn list_aggregates(&self) -> Result<Vec<AggregateRow>> {
        self.aggregates(None).await
    }

    async fn aggregates(&self, only: Option<u64>) -> Result<Vec<AggregateRow>> {
        // No aggregate has the number 0.
        let only = only.map_or(0, bigint);
        let failed = db("read aggregates");
        let rows = sqlx::query(
            "SELECT name, id, uuid, created_us, updated_us FROM aggregates WHERE $1 = 0 OR id = $1 ORDER BY id LIMIT $2",
        )
        .bind(only)
        .bind(ROWS_MAX)
        .fetch_all(&self.reads)
        .await
        .map_err(&failed)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut aggregates = Vec::with_capacity(rows.len());
        let mut places = BTreeMap::new();
        for row in &rows {
            let aggregate = read(row)?;
            places.insert(aggregate.id, aggregates.len());
            aggregates.push(aggregate);
        }
        let mut of = |record: &Record<'_>, fill: &mut dyn FnMut(&mut AggregateRow) -> Result<()>| {
            let id: u64 = record.number("aggregate")?;
            // One that was made meanwhile has none.
            places.get(&id).and_then(|at| aggregates.get_mut(*at)).map_or(Ok(()), fill)
        };
        let hosts = sqlx::query(
            "SELECT host, aggregate FROM aggregate_hosts WHERE $1 = 0 OR aggregate = $1 ORDER BY aggregate, host LIMIT $2",
        );
        for row in &hosts.bind(only).bind(ROWS_MAX).fetch_all(&self.reads).await.map_err(&failed)? {
            let record = Record::new(OBJECT, row)?;
            let host: HostName = record.parsed("host")?;
            of(&record, &mut |aggregate| {
                aggregate.hosts.push(host.clone());
                Ok(())
            })?;
        }
        let metadata = sqlx::query(
            "SELECT key, value, aggregate FROM aggregate_metadata WHERE $1 = 0 OR aggregate = $1 \
             ORDER BY aggregate, key LIMIT $2",
        );
        for row in &metadata.bind(only).bind(ROWS_MAX).fetch_all(&self.reads).await.map_err(failed)? {
            let record = Record::new(OBJECT, row)?;
            of(&record, &mut |aggregate| {
                aggregate.metadata.insert(record.text("key")?, record.text("value")?);
                Ok(())
            })?;
        }
        Ok(aggregates)
    }

    /// `None` leaves the name; a key of `None` goes, keys that are not named stay.
    pub async fn change_aggregate(
        &self,
        id: u64,
        name: Option<&str>,
        metadata: &BTreeMap<String, Option<String>>,
        now_us: i64,
    ) -> Result<()> {
        let failed = db("change aggregate");
        let mut turn = self.aggregate_turn(id, now_us).await?;
        if let Some(name) = name {
            sqlx::query("UPDATE aggregates SET name = $2 WHERE id = $1")
                .bind(bigint(id))
                .bind(name)
                .execute(&mut *turn.transaction)
                .await
                .map_err(unique("change aggregate", OBJECT, name, "exists already"))?;
        }
        for (key, value) in metadata {
            match value {
                Some(value) => set(&mut turn.transaction, bigint(id), key, value).await?,
                None => {
                    sqlx::query("DELETE FROM aggregate_metadata WHERE aggregate = $1 AND key = $2")
                        .bind(bigint(id))
                        .bind(key)
                        .execute(&mut *turn.transaction)
                        .await
                        .map_err(&failed)?;
                }
            }
        }
        turn.end().await
    }

    pub async fn add_aggregate_host(&self, id: u64, host: &HostName, now_us: i64) -> Result<()> {
        let mut turn = self.aggregate_turn(id, now_us).await?;
        let known = sqlx::query("SELECT name FROM hosts WHERE name = $1")
            .bind(host.as_str())
            .fetch_optional(&mut *turn.transaction)
            .await
            .map_err(db("add host to aggregate"))?;
        if known.is_none() {
            return Err(not_found("host", host));
        }
        sqlx::query("INSERT INTO aggregate_hosts (aggregate, host) VALUES ($1, $2)")
            .bind(bigint(id))
            .bind(host.as_str())
            .execute(&mut *turn.transaction)
            .await
            .map_err(unique("add host to aggregate", "host", host, "is in the aggregate already"))?;
        turn.end().await
    }

    pub async fn remove_aggregate_host(&self, id: u64, host: &HostName, now_us: i64) -> Result<()> {
        let mut turn = self.aggregate_turn(id, now_us).await?;
        let done = sqlx::query("DELETE FROM aggregate_hosts WHERE aggregate = $1 AND host = $2")
            .bind(bigint(id))
            .bind(host.as_str())
            .execute(&mut *turn.transaction)
            .await
            .map_err(db("remove host from aggregate"))?;
        if done.rows_affected() == 0 {
            return Err(not_found("host", host));
        }
        turn.end().await
    }

    /// `Conflict` while there are hosts in it.
    pub async fn delete_aggregate(&self, id: u64) -> Result<()> {
        let done = sqlx::query(
            "DELETE FROM aggregates WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM aggregate_hosts WHERE aggregate = $1)",
        )
        .bind(bigint(id))
        .execute(&self.writes)
        .await
        .map_err(db("delete aggregate"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let hosts = self.aggregate(id).await?.hosts.len();
        Err(conflict(OBJECT, id, format!("has {hosts} hosts: remove them first")))
    }

    /// Nobody else changes an aggregate until this one's end.
    async fn aggregate_turn(&self, id: u64, now_us: i64) -> Result<Turn> {
        let failed = db("change aggregate");
        let mut transaction = self.begin("change aggregate").await?;
        sqlx::query("UPDATE counters SET value = value WHERE name = $1")
            .bind(counter::AGGREGATE)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let done = sqlx::query("UPDATE aggregates SET updated_us = $2 WHERE id = $1")
            .bind(bigint(id))
            .bind(now_us)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 0 {
            return Err(not_found(OBJECT, id));
        }
        let before = zones(&mut transaction).await?;
        Ok(Turn { transaction, before })
    }
}

type Zones = BTreeMap<HostName, BTreeSet<String>>;

/// A change of an aggregate that is being made.
struct Turn {
    transaction: Transaction<'static, Any>,
    before: Zones,
}

impl Turn {
    /// Keeps the change unless it gives a host two zones, or another one to a host with servers.
    async fn end(mut self) -> Result<()> {
        let after = zones(&mut self.transaction).await?;
        if let Some((host, zones)) = after.iter().find(|(_, zones)| zones.len() > 1) {
            let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
            let reason = format!("would be in {} availability zones at once ({})", zones.len(), zones.join(", "));
            return Err(conflict("host", host, reason));
        }
        let hosts: BTreeSet<&HostName> = self.before.keys().chain(after.keys()).collect();
        for host in hosts {
            let (from, to) = (zone_of(&self.before, host), zone_of(&after, host));
            let servers = if from == to { 0 } else { servers_at(&mut self.transaction, host).await? };
            if servers > 0 {
                let reason = format!(
                    "has {servers} servers and would change its availability zone from '{from}' to '{to}': move them first"
                );
                return Err(conflict("host", host, reason));
            }
        }
        self.transaction.commit().await.map_err(db("change aggregate"))
    }
}

fn zone_of<'a>(zones: &'a Zones, host: &HostName) -> &'a str {
    zones.get(host).and_then(BTreeSet::first).map_or(DEFAULT_ZONE, String::as_str)
}

async fn zones(transaction: &mut Transaction<'static, Any>) -> Result<Zones> {
    let rows = sqlx::query(
        "SELECT aggregate_hosts.host, aggregate_metadata.value FROM aggregate_hosts \
         JOIN aggregate_metadata ON aggregate_metadata.aggregate = aggregate_hosts.aggregate \
         WHERE aggregate_metadata.key = $1 LIMIT $2",
    )
    .bind(ZONE_KEY)
    .bind(ROWS_MAX)
    .fetch_all(&mut **transaction)
    .await
    .map_err(db("read availability zones"))?;
    let mut zones = Zones::new();
    for row in &rows {
        let record = Record::new("host", row)?;
        zones.entry(record.parsed("host")?).or_default().insert(record.text("value")?);
    }
    Ok(zones)
}

async fn servers_at(transaction: &mut Transaction<'static, Any>, host: &HostName) -> Result<u64> {
    let row = sqlx::query("SELECT $1 AS host, COUNT(*) AS servers FROM instances WHERE host = $1")
        .bind(host.as_str())
        .fetch_one(&mut **transaction)
        .await
        .map_err(db("count servers"))?;
    Record::new("host", &row)?.number("servers")
}

async fn set(transaction: &mut Transaction<'static, Any>, id: i64, key: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO aggregate_metadata (aggregate, key, value) VALUES ($1, $2, $3) \
         ON CONFLICT (aggregate, key) DO UPDATE SET value = excluded.value",
    )
    .bind(id)
    .bind(key)
    .bind(value)
    .execute(&mut **transaction)
    .await
    .map_err(db("set metadata"))?;
    Ok(())
}
