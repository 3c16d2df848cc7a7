//! Claims: room on a host that is spoken for, taken in the same transaction as what it is for.
//!
//! ```text
//! create instance    claim on its host
//! create migration   one more claim, on the target
//! migration ends     the guest's side keeps its claim, the other's is gone as soon as it is known to be clean
//! delete instance    its claims go with it
//! ```
//!
//! Whoever claims takes its turn at the host's row first, so two who look at the last free gigabyte look one after the other.

use std::collections::BTreeMap;

use sqlx::{Any, Transaction};
use uuid::Uuid;
use whimbrel_core::{
    failure::Failure,
    id::{HostName, InstanceId, MigrationId},
};

use crate::{
    Store, counter,
    error::{Result, StoreError, db, not_found, unique},
    record::{Record, bigint},
};

/// What an instance takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub ram_mb: u64,
    pub disk_bytes: u64,
}

/// What is spoken for on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLoad {
    pub instances: u32,
    pub ram_mb: u64,
    pub disk_bytes: u64,
    /// Of the above, what is reserved by migrations on their way here.
    pub arriving: u32,
    pub arriving_ram_mb: u64,
    pub arriving_disk_bytes: u64,
    /// Other servers of the group of the one that is to come, here and on all other hosts. Counted for a claim alone.
    pub group_here: u32,
    pub group_elsewhere: u32,
}

/// PostgreSQL sums BIGINT to NUMERIC; the casts keep both engines at BIGINT.
const LOAD: &str = "SELECT $1 AS host, COUNT(*) AS claims, COUNT(migration) AS arriving, \
     CAST(COALESCE(SUM(ram_mb), 0) AS BIGINT) AS ram_mb, \
     CAST(COALESCE(SUM(disk_bytes), 0) AS BIGINT) AS disk_bytes, \
     CAST(COALESCE(SUM(CASE WHEN migration IS NULL THEN 0 ELSE ram_mb END), 0) AS BIGINT) AS arriving_ram_mb, \
     CAST(COALESCE(SUM(CASE WHEN migration IS NULL THEN 0 ELSE disk_bytes END), 0) AS BIGINT) AS arriving_disk_bytes \
     FROM claims WHERE host = $1";

fn read(row: &sqlx::any::AnyRow) -> Result<HostLoad> {
    let record = Record::new("host", row)?;
    let (claims, arriving): (u32, u32) = (record.number("claims")?, record.number("arriving")?);
    Ok(HostLoad {
        instances: claims.saturating_sub(arriving),
        ram_mb: record.number("ram_mb")?,
        disk_bytes: record.number("disk_bytes")?,
        arriving,
        arriving_ram_mb: record.number("arriving_ram_mb")?,
        arriving_disk_bytes: record.number("arriving_disk_bytes")?,
        ..HostLoad::default()
    })
}

/// Where a group's servers are or are on their way to; a claim for what only has to be cleaned up is none.
const GROUP: &str = "SELECT $1 AS host, CAST(COALESCE(SUM(CASE WHEN claims.host = $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS here, \
     CAST(COALESCE(SUM(CASE WHEN claims.host = $1 THEN 0 ELSE 1 END), 0) AS BIGINT) AS elsewhere \
     FROM server_group_members AS members JOIN claims ON claims.instance = members.instance \
     WHERE members.server_group = $2 AND members.instance <> $3 AND (claims.migration IS NULL OR EXISTS \
     (SELECT 1 FROM migrations WHERE migrations.id = claims.migration AND migrations.finished_us IS NULL))";

/// As [`LOAD`], of all hosts on which anything is claimed.
const LOADS: &str = "SELECT host, COUNT(*) AS claims, COUNT(migration) AS arriving, \
     CAST(COALESCE(SUM(ram_mb), 0) AS BIGINT) AS ram_mb, \
     CAST(COALESCE(SUM(disk_bytes), 0) AS BIGINT) AS disk_bytes, \
     CAST(COALESCE(SUM(CASE WHEN migration IS NULL THEN 0 ELSE ram_mb END), 0) AS BIGINT) AS arriving_ram_mb, \
     CAST(COALESCE(SUM(CASE WHEN migration IS NULL THEN 0 ELSE disk_bytes END), 0) AS BIGINT) AS arriving_disk_bytes \
     FROM claims GROUP BY host";

impl Store {
    /// Of all hosts on which anything is claimed; a host that is not among them is empty.
    pub async fn host_loads(&self) -> Result<BTreeMap<HostName, HostLoad>> {
        let rows = sqlx::query(LOADS).fetch_all(&self.reads).await.map_err(db("read loads"))?;
        rows.iter().map(|row| Ok((Record::new("host", row)?.parsed("host")?, read(row)?))).collect()
    }

    pub async fn host_load(&self, host: &HostName) -> Result<HostLoad> {
        let row = sqlx::query(LOAD).bind(host.as_str()).fetch_one(&self.reads).await.map_err(db("read load"))?;
        read(&row)
    }
}

pub(crate) struct Claim<'a> {
    pub(crate) host: &'a HostName,
    pub(crate) instance: InstanceId,
    pub(crate) migration: Option<MigrationId>,
    pub(crate) room: Room,
    /// Whose turn is taken.
    pub(crate) group: Option<Uuid>,
}

/// Takes the group's turn: until the transaction ends, no other server of it gets a place. Before that of the host.
pub(crate) async fn take_group_turn(transaction: &mut Transaction<'static, Any>, group: Option<Uuid>) -> Result<()> {
    match group {
        Some(group) => counter::next(transaction, &format!("places of group {group}")).await.map(drop),
        None => Ok(()),
    }
}

/// Takes the host's turn: until the transaction ends nobody else claims there.
pub(crate) async fn take_turn(transaction: &mut Transaction<'static, Any>, host: &HostName) -> Result<()> {
    let turn = sqlx::query("UPDATE hosts SET claim_turn = claim_turn + 1 WHERE name = $1")
        .bind(host.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(db("claim"))?;
    if turn.rows_affected() == 0 { Err(not_found("host", host)) } else { Ok(()) }
}

/// After [`take_turn`]: asks `admit` with the host's load as it is now, then writes the claim.
pub(crate) async fn claim(
    transaction: &mut Transaction<'static, Any>,
    claim: &Claim<'_>,
    admit: impl FnOnce(&HostLoad) -> std::result::Result<(), Vec<Failure>>,
) -> Result<()> {
    let row = sqlx::query(LOAD).bind(claim.host.as_str()).fetch_one(&mut **transaction).await.map_err(db("claim"))?;
    let mut load = read(&row)?;
    if let Some(group) = claim.group {
        let row = sqlx::query(GROUP)
            .bind(claim.host.as_str())
            .bind(group.to_string())
            .bind(claim.instance.to_string())
            .fetch_one(&mut **transaction)
            .await
            .map_err(db("claim"))?;
        let record = Record::new("host", &row)?;
        (load.group_here, load.group_elsewhere) = (record.number("here")?, record.number("elsewhere")?);
    }
    admit(&load).map_err(|reasons| StoreError::Refused { reasons })?;
    sqlx::query("INSERT INTO claims (host, instance, migration, ram_mb, disk_bytes) VALUES ($1, $2, $3, $4, $5)")
        .bind(claim.host.as_str())
        .bind(claim.instance.to_string())
        .bind(claim.migration.map(|migration| migration.to_string()))
        .bind(bigint(claim.room.ram_mb))
        .bind(bigint(claim.room.disk_bytes))
        .execute(&mut **transaction)
        .await
        .map_err(unique("claim", "instance", claim.instance, "holds room on that host already"))?;
    Ok(())
}

/// The migration ended with the guest on its target: its claim becomes the instance's, that on the source goes.
pub(crate) async fn settle_at_target(
    transaction: &mut Transaction<'static, Any>,
    instance: InstanceId,
    migration: MigrationId,
) -> Result<()> {
    sqlx::query("DELETE FROM claims WHERE instance = $1 AND migration IS NULL")
        .bind(instance.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(db("settle claims"))?;
    sqlx::query("UPDATE claims SET migration = NULL WHERE migration = $1")
        .bind(migration.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(db("settle claims"))?;
    Ok(())
}

/// The guest stayed at the source.
pub(crate) async fn release(transaction: &mut Transaction<'static, Any>, migration: MigrationId) -> Result<()> {
    sqlx::query("DELETE FROM claims WHERE migration = $1")
        .bind(migration.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(db("release claim"))?;
    Ok(())
}
