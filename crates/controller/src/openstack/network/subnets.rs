//! Subnets: who sees a network sees its subnets, and who may change it changes them.

use std::collections::HashSet;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::network::subnet::{self, HostRoute, SUBNET, Subnet};
use whimbrel_core::{
    id::{NetworkId, SubnetId},
    identity::policy::Operation,
    network::subnet::{check, default_gateway, default_pools},
};
use whimbrel_store::{NetworkRow, Route, SubnetRow};

use super::{
    answer::{Answer, Body},
    ask::{Ask, id},
    networks,
};
use crate::app::{App, Shared};

fn record(row: SubnetRow) -> Subnet {
    let route = |route: Route| HostRoute { destination: route.destination, nexthop: route.nexthop };
    Subnet {
        id: row.id.to_string(),
        network: row.network.to_string(),
        project: row.project.into(),
        name: row.name,
        description: row.description,
        cidr: row.cidr,
        gateway: row.gateway,
        pools: row.pools,
        dns_servers: row.dns_servers,
        routes: row.routes.into_iter().map(route).collect(),
        dhcp: row.dhcp,
        revision: row.generation,
        created_us: row.created_us,
        updated_us: row.updated_us,
    }
}

fn routes(asked: Vec<HostRoute>) -> Vec<Route> {
    asked.into_iter().map(|route| Route { destination: route.destination, nexthop: route.nexthop }).collect()
}

/// With its network, if the caller may use that.
async fn find(app: &App, ask: &Ask, text: &str) -> Answer<(SubnetRow, NetworkRow)> {
    ask.viewer(Operation::ReadNetworks)?;
    let row = app.store.subnet(id(&SUBNET, text)?).await?;
    match networks::find(app, ask, &row.network.to_string()).await {
        Ok(network) => Ok((row, network)),
        Err(_) => Err(SUBNET.no_such(text).into()),
    }
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let viewer = ask.viewer(Operation::ReadNetworks)?;
    let query = ask.query(&SUBNET)?;
    let seen: HashSet<NetworkId> = networks::seen(&app, viewer).await?.into_iter().map(|network| network.id).collect();
    let rows = networks::on_network(&app, None).await?;
    let bodies = rows.into_iter().filter(|row| seen.contains(&row.network)).map(|row| record(row).body());
    Ok(Json(ask.list(&SUBNET, &query, bodies)?))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let (row, _) = find(&app, &ask, &id).await?;
    Ok(Json(ask.one(&SUBNET, record(row).body())?))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<(StatusCode, Json<Value>)> {
    ask.query(&SUBNET)?;
    let new = subnet::parse_create(&body)?;
    let network = networks::find(&app, &ask, &new.network.to_string()).await?;
    ask.may(Operation::WriteNetworks, Some(&network.project))?;
    let project = ask.owner(Operation::WriteNetworks, new.project)?;
    let change = new.change;
    let gateway = change.gateway.unwrap_or_else(|| default_gateway(&new.cidr));
    let pools = change.pools.unwrap_or_else(|| default_pools(&new.cidr, gateway));
    check(&new.cidr, gateway, &pools)?;
    let now_us = App::now_us();
    let row = SubnetRow {
        id: SubnetId(Uuid::now_v7()),
        network: network.id,
        project,
        name: change.name.unwrap_or_default(),
        description: change.description.unwrap_or_default(),
        cidr: new.cidr,
        gateway,
        pools,
        dns_servers: change.dns_servers.unwrap_or_default(),
        routes: routes(change.routes.unwrap_or_default()),
        dhcp: change.dhcp.unwrap_or(true),
        generation: 1,
        created_us: now_us,
        updated_us: now_us,
    };
    app.store.create_subnet(&row).await?;
    Ok((StatusCode::CREATED, Json(ask.one(&SUBNET, record(row).body())?)))
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let (mut row, network) = find(&app, &ask, &id).await?;
    ask.may(Operation::WriteNetworks, Some(&network.project))?;
    ask.query(&SUBNET)?;
    let change = subnet::parse_update(&body)?;
    row.name = change.name.unwrap_or(row.name);
    row.description = change.description.unwrap_or(row.description);
    row.gateway = change.gateway.unwrap_or(row.gateway);
    row.pools = change.pools.unwrap_or(row.pools);
    row.dns_servers = change.dns_servers.unwrap_or(row.dns_servers);
    row.routes = change.routes.map(routes).unwrap_or(row.routes);
    row.dhcp = change.dhcp.unwrap_or(row.dhcp);
    row.updated_us = App::now_us();
    check(&row.cidr, row.gateway, &row.pools)?;
    app.store.change_subnet(&row).await?;
    row.generation += 1;
    Ok(Json(ask.one(&SUBNET, record(row).body())?))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let (row, network) = find(&app, &ask, &id).await?;
    ask.may(Operation::WriteNetworks, Some(&network.project))?;
    app.store.delete_subnet(row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
