//! Subnets: the addresses of a network.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sqlx::{Any, Transaction, any::AnyRow};
use whimbrel_core::{
    id::{NetworkId, SubnetId},
    identity::ProjectId,
    network::{address::AddressRange, choice::Source, refusal::Refusal, subnet},
};

use super::{Outcome, address::key, take_turn};
use crate::{
    Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    record::{Record, json},
};

/// For what is not on the subnet nor behind its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetRow {
    pub id: SubnetId,
    pub network: NetworkId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    pub cidr: IpNet,
    pub gateway: Option<IpAddr>,
    pub pools: Vec<AddressRange>,
    pub dns_servers: Vec<IpAddr>,
    pub routes: Vec<Route>,
    pub dhcp: bool,
    pub generation: i64,
    pub created_us: i64,
    pub updated_us: i64,
}

impl SubnetRow {
    fn source(&self) -> Source {
        Source { subnet: self.id, net: self.cidr, pools: self.pools.clone() }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, network, project, name, description, cidr, gateway, pools, dns_servers, routes, dhcp, \
             generation, created_us, updated_us FROM subnets ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<SubnetRow> {
    let record = Record::new("subnet", row)?;
    Ok(SubnetRow {
        id: record.parsed("id")?,
        network: record.parsed("network")?,
        project: record.parsed("project")?,
        name: record.text("name")?,
        description: record.text("description")?,
        cidr: record.parsed("cidr")?,
        gateway: record.parsed_opt("gateway")?,
        pools: record.json("pools")?,
        dns_servers: record.json("dns_servers")?,
        routes: record.json("routes")?,
        dhcp: record.flag("dhcp")?,
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
        updated_us: record.us("updated_us")?,
    })
}

/// More than any network has.
const ON_ONE_NETWORK_MAX: i64 = 10_000;

async fn on_network(transaction: &mut Transaction<'static, Any>, network: NetworkId) -> Result<Vec<SubnetRow>> {
    let rows = sqlx::query(select!("WHERE network = $1 ORDER BY id LIMIT $2"))
        .bind(network.to_string())
        .bind(ON_ONE_NETWORK_MAX)
        .fetch_all(&mut **transaction)
        .await
        .map_err(db("read subnets"))?;
    rows.iter().map(read).collect()
}

/// After the network's turn was taken: where addresses come from.
pub(super) async fn sources(transaction: &mut Transaction<'static, Any>, network: NetworkId) -> Result<Vec<Source>> {
    Ok(on_network(transaction, network).await?.iter().map(SubnetRow::source).collect())
}

async fn insert(transaction: &mut Transaction<'static, Any>, row: &SubnetRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO subnets (id, network, project, name, description, cidr, gateway, pools, dns_servers, routes, dhcp, \
         generation, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(row.id.to_string())
    .bind(row.network.to_string())
    .bind(row.project.as_str())
    .bind(&row.name)
    .bind(&row.description)
    .bind(row.cidr.to_string())
    .bind(row.gateway.map(|gateway| gateway.to_string()))
    .bind(json("subnet", row.id, "pools", &row.pools)?)
    .bind(json("subnet", row.id, "dns_servers", &row.dns_servers)?)
    .bind(json("subnet", row.id, "routes", &row.routes)?)
    .bind(i64::from(row.dhcp))
    .bind(row.generation)
    .bind(row.created_us)
    .bind(row.updated_us)
    .execute(&mut **transaction)
    .await
    .map_err(unique("create subnet", "subnet", row.id, "exists already"))?;
    Ok(())
}

impl Store {
    /// Refused where it overlaps with another one of the network.
    pub async fn create_subnet(&self, row: &SubnetRow) -> Outcome<()> {
        let mut transaction = self.begin("create subnet").await?;
        take_turn(&mut transaction, row.network).await?;
        let others = on_network(&mut transaction, row.network).await?;
        if let Some(other) = others.iter().find(|other| subnet::overlap(&other.cidr, &row.cidr)) {
            let (net, network, other) = (row.cidr, row.network, other.cidr);
            return Err(Refusal::SubnetsOverlap { net, network, other }.into());
        }
        insert(&mut transaction, row).await?;
        Ok(transaction.commit().await.map_err(db("create subnet"))?)
    }

    pub async fn subnet(&self, id: SubnetId) -> Result<SubnetRow> {
        let row = sqlx::query(select!("WHERE id = $1")).bind(id.to_string()).fetch_optional(&self.reads).await;
        read(&row.map_err(db("read subnet"))?.ok_or_else(|| not_found("subnet", id))?)
    }

    pub async fn list_subnets(&self, network: Option<NetworkId>, ask: &PageAsk) -> Result<Page<SubnetRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 AND ($3 = '' OR network = $3) ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .bind(network.map(|id| id.to_string()).unwrap_or_default())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list subnets"))?;
        ask.page(&rows, read, |row| row.id.to_string())
    }

    /// All but id, network, project, range and creation; `Conflict` if it was changed since `row.generation` was read. Refused
    /// where a port has the new gateway's address.
    pub async fn change_subnet(&self, row: &SubnetRow) -> Outcome<()> {
        let failed = db("change subnet");
        let mut transaction = self.begin("change subnet").await?;
        take_turn(&mut transaction, row.network).await?;
        if let Some(gateway) = row.gateway {
            let taken = sqlx::query("SELECT port FROM port_addresses WHERE subnet = $1 AND address = $2")
                .bind(row.id.to_string())
                .bind(key(gateway))
                .fetch_optional(&mut *transaction)
                .await
                .map_err(&failed)?;
            if taken.is_some() {
                return Err(Refusal::GatewayInUse { gateway }.into());
            }
        }
        let done = sqlx::query(
            "UPDATE subnets SET name = $3, description = $4, gateway = $5, pools = $6, dns_servers = $7, routes = $8, \
             dhcp = $9, updated_us = $10, generation = generation + 1 WHERE id = $1 AND generation = $2",
        )
        .bind(row.id.to_string())
        .bind(row.generation)
        .bind(&row.name)
        .bind(&row.description)
        .bind(row.gateway.map(|gateway| gateway.to_string()))
        .bind(json("subnet", row.id, "pools", &row.pools)?)
        .bind(json("subnet", row.id, "dns_servers", &row.dns_servers)?)
        .bind(json("subnet", row.id, "routes", &row.routes)?)
        .bind(i64::from(row.dhcp))
        .bind(row.updated_us)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.subnet(row.id).await?;
        Err(conflict("subnet", row.id, "was changed by another meanwhile").into())
    }

    /// Refused while a port has an address of it.
    pub async fn delete_subnet(&self, id: SubnetId) -> Outcome<()> {
        let failed = db("delete subnet");
        let network = self.subnet(id).await?.network;
        let mut transaction = self.begin("delete subnet").await?;
        take_turn(&mut transaction, network).await?;
        let address = sqlx::query("SELECT port FROM port_addresses WHERE subnet = $1 LIMIT 1")
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(&failed)?;
        if address.is_some() {
            return Err(Refusal::SubnetInUse(id).into());
        }
        let done = sqlx::query("DELETE FROM subnets WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(failed)?;
        if done.rows_affected() == 0 { Err(not_found("subnet", id).into()) } else { Ok(()) }
    }
}
