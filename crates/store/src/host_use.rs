//! How much of each host is in use, counted from the claims: by servers that live there and by those on their way.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::any::AnyRow;
use whimbrel_core::{
    id::{HostName, InstanceId},
    instance::PowerState,
};

use crate::{
    PAGE_MAX, Store,
    error::{Result, db},
    record::Record,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostUse {
    /// Guests that run here, paused ones too.
    pub running: u32,
    /// Servers here that something is being done to.
    pub with_task: u32,
    pub vcpus: u64,
    pub ram_mb: u64,
    /// Of all their disks, as the guests see them.
    pub virtual_bytes: u64,
    /// Disk space that each has claimed.
    pub disk_claims: BTreeMap<InstanceId, u64>,
}

/// What is needed of a spec.
#[derive(Deserialize)]
struct Hardware {
    vcpus: u64,
    disks: Vec<Disk>,
}

#[derive(Deserialize)]
struct Disk {
    virtual_bytes: u64,
}

impl Store {
    /// Of one host, or of all that anything is claimed on.
    pub async fn host_uses(&self, host: Option<&HostName>) -> Result<BTreeMap<HostName, HostUse>> {
        let mut uses = BTreeMap::new();
        let (mut after_host, mut after_instance) = (String::new(), String::new());
        loop {
            let rows = sqlx::query(
                "SELECT claims.instance, claims.host, claims.migration, claims.ram_mb, claims.disk_bytes, instances.spec, \
                 instances.power_state, instances.task_state FROM claims JOIN instances ON instances.id = claims.instance \
                 WHERE ($1 = '' OR claims.host = $1) AND (claims.host, claims.instance) > ($2, $3) \
                 ORDER BY claims.host, claims.instance LIMIT $4",
            )
            .bind(host.map_or("", HostName::as_str))
            .bind(&after_host)
            .bind(&after_instance)
            .bind(i64::from(PAGE_MAX))
            .fetch_all(&self.reads)
            .await
            .map_err(db("read what is claimed"))?;
            for row in &rows {
                (after_host, after_instance) = count(row, &mut uses)?;
            }
            if rows.len() < PAGE_MAX as usize {
                return Ok(uses);
            }
        }
    }
}

/// Adds the claim and returns where it stands in the order.
fn count(row: &AnyRow, uses: &mut BTreeMap<HostName, HostUse>) -> Result<(String, String)> {
    let record = Record::new("server", row)?;
    let (host, instance): (HostName, InstanceId) = (record.parsed("host")?, record.parsed("instance")?);
    let hardware: Hardware = record.json("spec")?;
    let place = (host.to_string(), record.text("instance")?);
    let used = uses.entry(host).or_default();
    if record.text_opt("migration")?.is_none() {
        let power: Option<PowerState> = record.json_opt("power_state")?;
        used.running += u32::from(matches!(power, Some(PowerState::Running | PowerState::Paused)));
        used.with_task += u32::from(record.text_opt("task_state")?.is_some());
    }
    used.vcpus += hardware.vcpus;
    used.ram_mb = used.ram_mb.saturating_add(record.number("ram_mb")?);
    let virtual_bytes = hardware.disks.iter().fold(0_u64, |sum, disk| sum.saturating_add(disk.virtual_bytes));
    used.virtual_bytes = used.virtual_bytes.saturating_add(virtual_bytes);
    used.disk_claims.insert(instance, record.number("disk_bytes")?);
    Ok(place)
}
