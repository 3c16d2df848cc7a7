//! Neutron's records: networks, subnets, ports with their addresses, security groups.
//!
//! ```text
//! give an address: turn of the network (lock) -> its subnets -> core says where from -> first free one -> port_addresses
//! ```
//!
//! Ground rules: whatever gives out something of a network, or takes away what could be given out, takes the network's turn
//! first, so that two controllers that look for a free address look one after the other; whoever takes several turns takes them
//! in the order of ids; the primary key of the addresses would catch the one who forgot.
mod address;
mod claim;
mod group;
mod port;
mod read;
mod row;
mod rule;
mod subnet;

pub use claim::PortWish;
pub use group::SecurityGroupRow;
pub use port::{NewPort, PortChange};
pub use row::{NetworkRow, PortAddress, PortFilter, PortHold, PortRow};
pub use rule::{RuleDirection, SecurityGroupRuleRow};
pub use subnet::{Route, SubnetRow};

use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{id::NetworkId, identity::ProjectId, network::refusal::Refusal};

use crate::{
    Page, PageAsk, Store,
    error::{Result, StoreError, conflict, db, not_found},
    record::Record,
};

/// A refusal is about what was asked; the rest is the store's.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for NetworkError {
    fn from(refusal: Refusal) -> Self {
        NetworkError::Refused(refusal)
    }
}

type Outcome<T> = std::result::Result<T, NetworkError>;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, project, name, description, bridge, vlan, mtu, shared, external, admin_up, generation, \
             created_us, updated_us FROM networks ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<NetworkRow> {
    let record = Record::new("network", row)?;
    let vlan: u16 = record.number("vlan")?;
    Ok(NetworkRow {
        id: record.parsed("id")?,
        project: record.parsed("project")?,
        name: record.text("name")?,
        description: record.text("description")?,
        bridge: record.text("bridge")?,
        vlan: (vlan > 0).then_some(vlan),
        mtu: record.number("mtu")?,
        shared: record.flag("shared")?,
        external: record.flag("external")?,
        admin_up: record.flag("admin_up")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
        updated_us: record.us("updated_us")?,
    })
}

/// Until the transaction ends nobody else gives out or takes back anything of the network.
async fn take_turn(transaction: &mut Transaction<'static, Any>, network: NetworkId) -> Result<()> {
    let turn = sqlx::query("UPDATE networks SET turn = turn + 1 WHERE id = $1")
        .bind(network.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(db("take the turn of a network"))?;
    if turn.rows_affected() == 0 { Err(not_found("network", network)) } else { Ok(()) }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_foreign_key_violation())
}

impl Store {
    pub async fn create_network(&self, network: &NetworkRow) -> Outcome<()> {
        let made = sqlx::query(
            "INSERT INTO networks (id, project, name, description, bridge, vlan, mtu, shared, external, admin_up, turn, \
             generation, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12, $13)",
        )
        .bind(network.id.to_string())
        .bind(network.project.as_str())
        .bind(&network.name)
        .bind(&network.description)
        .bind(&network.bridge)
        .bind(i64::from(network.vlan.unwrap_or(0)))
        .bind(i64::from(network.mtu))
        .bind(i64::from(network.shared))
        .bind(i64::from(network.external))
        .bind(i64::from(network.admin_up))
        .bind(network.generation)
        .bind(network.created_us)
        .bind(network.updated_us)
        .execute(&self.writes)
        .await;
        match made {
            Ok(_) => Ok(()),
            Err(error) if is_unique_violation(&error) => {
                Err(Refusal::WireTaken { bridge: network.bridge.clone(), vlan: network.vlan }.into())
            }
            Err(error) => Err(db("create network")(error).into()),
        }
    }

    pub async fn network(&self, id: NetworkId) -> Result<NetworkRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.to_string()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read network"))?.ok_or_else(|| not_found("network", id))?)
    }

    /// Those that `viewer` may use: its own, and what is shared or external. `None`: all.
    pub async fn list_networks(&self, viewer: Option<&ProjectId>, ask: &PageAsk) -> Result<Page<NetworkRow>> {
        let rows = sqlx::query(select!(
            "WHERE id > $1 AND ($3 = '' OR project = $3 OR shared = 1 OR external = 1) ORDER BY id LIMIT $2"
        ))
        .bind(ask.after())
        .bind(ask.rows())
        .bind(viewer.map_or("", ProjectId::as_str))
        .fetch_all(&self.reads)
        .await
        .map_err(db("list networks"))?;
        ask.page(&rows, read, |network| network.id.to_string())
    }

    /// All but id, project, wire and creation; `Conflict` if it was changed since `network.generation` was read.
    pub async fn change_network(&self, network: &NetworkRow) -> Result<()> {
        let done = sqlx::query(
            "UPDATE networks SET name = $3, description = $4, mtu = $5, shared = $6, external = $7, admin_up = $8, \
             updated_us = $9, generation = generation + 1 WHERE id = $1 AND generation = $2",
        )
        .bind(network.id.to_string())
        .bind(network.generation)
        .bind(&network.name)
        .bind(&network.description)
        .bind(i64::from(network.mtu))
        .bind(i64::from(network.shared))
        .bind(i64::from(network.external))
        .bind(i64::from(network.admin_up))
        .bind(network.updated_us)
        .execute(&self.writes)
        .await
        .map_err(db("change network"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.network(network.id).await?;
        Err(conflict("network", network.id, "was changed by another meanwhile"))
    }

    /// With its subnets, which have no address in use where there is no port.
    pub async fn delete_network(&self, id: NetworkId) -> Outcome<()> {
        let failed = db("delete network");
        let mut transaction = self.begin("delete network").await?;
        take_turn(&mut transaction, id).await?;
        let port = sqlx::query("SELECT id FROM ports WHERE network = $1 LIMIT 1")
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(&failed)?;
        if port.is_some() {
            return Err(Refusal::NetworkInUse(id).into());
        }
        for statement in ["DELETE FROM subnets WHERE network = $1", "DELETE FROM networks WHERE id = $1"] {
            sqlx::query(statement).bind(id.to_string()).execute(&mut *transaction).await.map_err(&failed)?;
        }
        Ok(transaction.commit().await.map_err(failed)?)
    }
}
