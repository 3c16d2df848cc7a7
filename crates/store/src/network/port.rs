//! Ports: made, changed, deleted, each with its addresses in one transaction.

use sqlx::{Any, Transaction};
use whimbrel_core::{
    id::{NetworkId, PortId, SecurityGroupId},
    identity::ProjectId,
    network::{choice::AddressWish, mac, refusal::Refusal},
};

use super::{Outcome, PortHold, PortRow, address, is_foreign_key_violation, is_unique_violation, take_turn};
use crate::{
    Store,
    error::{Result, conflict, db, not_found},
};

/// With sixteen million MACs, one that is taken a few times in a row means that something else is wrong.
const MAC_SALTS: u32 = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPort {
    pub id: PortId,
    pub network: NetworkId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    /// `None`: one that is made from the id.
    pub mac: Option<String>,
    pub admin_up: bool,
    pub device: String,
    pub device_owner: String,
    pub host: String,
    pub hold: PortHold,
    pub nic: u32,
    /// `None`: one address of each version that the network has.
    pub addresses: Option<Vec<AddressWish>>,
    pub groups: Vec<SecurityGroupId>,
    pub now_us: i64,
}

/// What a port shall become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// As read, with what is to be different. Its network, project, MAC, hold and addresses stay.
    pub row: PortRow,
    /// `None`: it keeps its own.
    pub addresses: Option<Vec<AddressWish>>,
}

/// After the network's turn was taken.
pub(super) async fn insert(transaction: &mut Transaction<'static, Any>, new: &NewPort) -> Outcome<PortRow> {
    let mac = match &new.mac {
        Some(mac) => mac.clone(),
        None => free_mac(transaction, new).await?,
    };
    let made = sqlx::query(
        "INSERT INTO ports (id, network, project, name, description, mac, admin_up, device, device_owner, host, hold, \
         nic, generation, created_us, updated_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13, $13)",
    )
    .bind(new.id.to_string())
    .bind(new.network.to_string())
    .bind(new.project.as_str())
    .bind(&new.name)
    .bind(&new.description)
    .bind(&mac)
    .bind(i64::from(new.admin_up))
    .bind(&new.device)
    .bind(&new.device_owner)
    .bind(&new.host)
    .bind(new.hold.as_str())
    .bind(i64::from(new.nic))
    .bind(new.now_us)
    .execute(&mut **transaction)
    .await;
    match made {
        Ok(_) => (),
        Err(error) if is_unique_violation(&error) => return Err(Refusal::MacTaken { mac, network: new.network }.into()),
        Err(error) => return Err(db("create port")(error).into()),
    }
    join_groups(transaction, new.id, &new.groups).await?;
    let addresses = address::give(transaction, new.network, new.id, new.addresses.as_deref()).await?;
    Ok(made_of(new, mac, addresses))
}

fn made_of(new: &NewPort, mac: String, addresses: Vec<super::PortAddress>) -> PortRow {
    let mut groups = new.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    PortRow {
        id: new.id,
        network: new.network,
        project: new.project.clone(),
        name: new.name.clone(),
        description: new.description.clone(),
        mac,
        admin_up: new.admin_up,
        device: new.device.clone(),
        device_owner: new.device_owner.clone(),
        host: new.host.clone(),
        hold: new.hold,
        nic: new.nic,
        addresses,
        groups,
        generation: 1,
        created_us: new.now_us,
        updated_us: new.now_us,
    }
}

async fn free_mac(transaction: &mut Transaction<'static, Any>, new: &NewPort) -> Outcome<String> {
    for salt in 0..MAC_SALTS {
        let mac = mac::of(new.id.0, salt);
        let taken = sqlx::query("SELECT id FROM ports WHERE mac = $1")
            .bind(&mac)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(db("look for a MAC"))?;
        if taken.is_none() {
            return Ok(mac);
        }
    }
    Err(Refusal::MacTaken { mac: mac::of(new.id.0, 0), network: new.network }.into())
}

async fn join_groups(
    transaction: &mut Transaction<'static, Any>,
    port: PortId,
    groups: &[SecurityGroupId],
) -> Outcome<()> {
    for group in groups {
        let joined = sqlx::query(
            "INSERT INTO port_security_groups (port, security_group) VALUES ($1, $2) \
             ON CONFLICT (port, security_group) DO NOTHING",
        )
        .bind(port.to_string())
        .bind(group.to_string())
        .execute(&mut **transaction)
        .await;
        match joined {
            Ok(_) => (),
            Err(error) if is_foreign_key_violation(&error) => return Err(Refusal::NoGroup(*group).into()),
            Err(error) => return Err(db("join security groups")(error).into()),
        }
    }
    Ok(())
}

impl Store {
    pub async fn create_port(&self, new: &NewPort) -> Outcome<PortRow> {
        let mut transaction = self.begin("create port").await?;
        take_turn(&mut transaction, new.network).await?;
        let port = insert(&mut transaction, new).await?;
        transaction.commit().await.map_err(db("create port"))?;
        Ok(port)
    }

    /// `Conflict` if it was changed since `change.row.generation` was read.
    pub async fn change_port(&self, change: &PortChange) -> Outcome<()> {
        let row = &change.row;
        let failed = db("change port");
        let mut transaction = self.begin("change port").await?;
        take_turn(&mut transaction, row.network).await?;
        let done = sqlx::query(
            "UPDATE ports SET name = $3, description = $4, admin_up = $5, device = $6, device_owner = $7, host = $8, \
             updated_us = $9, generation = generation + 1 WHERE id = $1 AND generation = $2",
        )
        .bind(row.id.to_string())
        .bind(row.generation)
        .bind(&row.name)
        .bind(&row.description)
        .bind(i64::from(row.admin_up))
        .bind(&row.device)
        .bind(&row.device_owner)
        .bind(&row.host)
        .bind(row.updated_us)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if done.rows_affected() == 0 {
            transaction.rollback().await.map_err(failed)?;
            self.port(row.id).await?;
            return Err(conflict("port", row.id, "was changed by another meanwhile").into());
        }
        forget(&mut transaction, "DELETE FROM port_security_groups WHERE port = $1", row.id).await?;
        join_groups(&mut transaction, row.id, &row.groups).await?;
        if let Some(wishes) = &change.addresses {
            forget(&mut transaction, "DELETE FROM port_addresses WHERE port = $1", row.id).await?;
            address::give(&mut transaction, row.network, row.id, Some(wishes)).await?;
        }
        Ok(transaction.commit().await.map_err(failed)?)
    }

    /// With its addresses. Refused while a server has it.
    pub async fn delete_port(&self, id: PortId) -> Outcome<()> {
        let done = sqlx::query("DELETE FROM ports WHERE id = $1 AND hold = $2")
            .bind(id.to_string())
            .bind(PortHold::Free.as_str())
            .execute(&self.writes)
            .await
            .map_err(db("delete port"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let PortRow { id: port, network, device, .. } = self.port(id).await?;
        Err(Refusal::PortInUse { port, network, device }.into())
    }

    pub async fn port(&self, id: PortId) -> Result<PortRow> {
        let found = self.ports_with(super::read::Among::Ids, &[id.to_string()]).await?;
        found.into_iter().next().ok_or_else(|| not_found("port", id))
    }
}

async fn forget(transaction: &mut Transaction<'static, Any>, statement: &'static str, port: PortId) -> Result<()> {
    sqlx::query(statement).bind(port.to_string()).execute(&mut **transaction).await.map_err(db("change port"))?;
    Ok(())
}
