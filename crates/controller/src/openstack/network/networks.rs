//! Networks: listed, shown, made on a wire, changed, deleted.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::network::{
    fault::Fault,
    networks::{self as bodies, NETWORK, Network},
};
use whimbrel_core::{
    id::NetworkId,
    identity::{ProjectId, policy::Operation},
    network::wire::MTU_DEFAULT,
};
use whimbrel_store::{NetworkRow, StoreError, SubnetRow, every};

use super::{
    answer::{Answer, Body},
    ask::{Ask, id},
};
use crate::app::{App, Shared};

fn record(row: NetworkRow, subnets: Vec<String>) -> Network {
    Network {
        id: row.id.to_string(),
        project: row.project.into(),
        name: row.name,
        description: row.description,
        bridge: row.bridge,
        vlan: row.vlan,
        mtu: row.mtu,
        shared: row.shared,
        external: row.external,
        admin_up: row.admin_up,
        subnets,
        revision: row.generation,
        created_us: row.created_us,
        updated_us: row.updated_us,
    }
}

async fn whole(app: &App, row: NetworkRow) -> Answer<Network> {
    let subnets = on_network(app, Some(row.id)).await?;
    Ok(record(row, subnets.iter().map(|subnet| subnet.id.to_string()).collect()))
}

/// Of one network, or of all.
pub(super) async fn on_network(app: &App, network: Option<NetworkId>) -> Result<Vec<SubnetRow>, StoreError> {
    every(|ask| async move { app.store.list_subnets(network, &ask).await }).await
}

/// Those that the caller may use.
pub(super) async fn seen(app: &App, viewer: Option<&ProjectId>) -> Result<Vec<NetworkRow>, StoreError> {
    every(|ask| async move { app.store.list_networks(viewer, &ask).await }).await
}

/// One that the caller may use.
pub(super) async fn find(app: &App, ask: &Ask, text: &str) -> Answer<NetworkRow> {
    let viewer = ask.viewer(Operation::ReadNetworks)?;
    let row = app.store.network(id(&NETWORK, text)?).await?;
    let open = row.shared || row.external || viewer.is_none_or(|viewer| *viewer == row.project);
    if open { Ok(row) } else { Err(NETWORK.no_such(text).into()) }
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let viewer = ask.viewer(Operation::ReadNetworks)?;
    let query = ask.query(&NETWORK)?;
    let mut subnets: HashMap<NetworkId, Vec<String>> = HashMap::new();
    for subnet in on_network(&app, None).await? {
        subnets.entry(subnet.network).or_default().push(subnet.id.to_string());
    }
    let rows = seen(&app, viewer).await?;
    let bodies = rows.into_iter().map(|row| {
        let own = subnets.remove(&row.id).unwrap_or_default();
        record(row, own).body()
    });
    Ok(Json(ask.list(&NETWORK, &query, bodies)?))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = find(&app, &ask, &id).await?;
    Ok(Json(ask.one(&NETWORK, whole(&app, row).await?.body())?))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<(StatusCode, Json<Value>)> {
    ask.query(&NETWORK)?;
    let new = bodies::parse_create(&body)?;
    let project = ask.owner(Operation::WriteNetworks, new.project)?;
    let change = new.change;
    if new.provider.is_some() || change.mtu.is_some() || change.shared == Some(true) || change.external == Some(true) {
        ask.may(Operation::WriteProviderNetworks, Some(&project))?;
    }
    let provider = new.provider.ok_or_else(no_wire)?;
    let now_us = App::now_us();
    let row = NetworkRow {
        id: NetworkId(Uuid::now_v7()),
        project,
        name: change.name.unwrap_or_default(),
        description: change.description.unwrap_or_default(),
        bridge: provider.bridge,
        vlan: provider.vlan,
        mtu: change.mtu.unwrap_or(MTU_DEFAULT),
        shared: change.shared.unwrap_or(false),
        external: change.external.unwrap_or(false),
        admin_up: change.admin_up.unwrap_or(true),
        generation: 1,
        created_us: now_us,
        updated_us: now_us,
    };
    app.store.create_network(&row).await?;
    Ok((StatusCode::CREATED, Json(ask.one(&NETWORK, record(row, Vec::new()).body())?)))
}

fn no_wire() -> Fault {
    let told = "Unable to create the network. No tenant network is available for allocation. \
                (hint: an administrator makes networks, with --provider-network-type flat or vlan and \
                --provider-physical-network and the name of the hosts' bridge)";
    Fault::new(503, "NoNetworkAvailable", told)
}

/// One that the caller may change.
async fn writable(app: &App, ask: &Ask, id: &str) -> Answer<NetworkRow> {
    let row = find(app, ask, id).await?;
    ask.may(Operation::WriteNetworks, Some(&row.project))?;
    Ok(row)
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let mut row = writable(&app, &ask, &id).await?;
    ask.query(&NETWORK)?;
    let change = bodies::parse_update(&body)?;
    if change.is_for_admin() {
        ask.may(Operation::WriteProviderNetworks, Some(&row.project))?;
    }
    row.name = change.name.unwrap_or(row.name);
    row.description = change.description.unwrap_or(row.description);
    row.admin_up = change.admin_up.unwrap_or(row.admin_up);
    row.mtu = change.mtu.unwrap_or(row.mtu);
    row.shared = change.shared.unwrap_or(row.shared);
    row.external = change.external.unwrap_or(row.external);
    row.updated_us = App::now_us();
    app.store.change_network(&row).await?;
    row.generation += 1;
    Ok(Json(ask.one(&NETWORK, whole(&app, row).await?.body())?))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = writable(&app, &ask, &id).await?;
    app.store.delete_network(row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
