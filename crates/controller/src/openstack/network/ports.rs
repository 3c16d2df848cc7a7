//! Ports: listed, shown, made with addresses, changed, deleted.
//!
//! Ground rules: a port that a server got stays with it: it is neither deleted nor given to another one here.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::network::{
    list::Query,
    port::{self, PORT, Port},
};
use whimbrel_core::{
    id::{NetworkId, PortId},
    identity::policy::Operation,
    network::refusal::Refusal,
};
use whimbrel_store::{NetworkRow, NewPort, PortChange, PortFilter, PortHold, PortRow, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::{Ask, id},
    networks, security_groups,
};
use crate::app::{App, Shared};

/// Of ports that belong to the network itself: routers, DHCP.
const NETWORK_OWNER: &str = "network:";

fn record(row: PortRow) -> Port {
    let addresses = row.addresses.iter().map(|given| (given.subnet.to_string(), given.address.to_string())).collect();
    Port {
        id: row.id.to_string(),
        network: row.network.to_string(),
        project: row.project.into(),
        name: row.name,
        description: row.description,
        mac: row.mac,
        admin_up: row.admin_up,
        device: row.device,
        device_owner: row.device_owner,
        host: row.host,
        bound: row.hold != PortHold::Free,
        addresses,
        groups: row.groups.iter().map(|group| group.to_string()).collect(),
        revision: row.generation,
        created_us: row.created_us,
        updated_us: row.updated_us,
    }
}

/// One of the caller's.
async fn find(app: &App, ask: &Ask, text: &str) -> Answer<PortRow> {
    let viewer = ask.viewer(Operation::ReadPorts)?;
    let row = app.store.port(id(&PORT, text)?).await?;
    let own = viewer.is_none_or(|viewer| *viewer == row.project);
    if own { Ok(row) } else { Err(PORT.no_such(text).into()) }
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let viewer = ask.viewer(Operation::ReadPorts)?.cloned();
    let query = ask.query(&PORT)?;
    let rows = candidates(&app, &query, PortFilter { network: None, project: viewer.clone() }).await?;
    let own = |row: &PortRow| viewer.as_ref().is_none_or(|viewer| *viewer == row.project);
    let bodies = rows.into_iter().filter(own).map(|row| record(row).body());
    Ok(Json(ask.list(&PORT, &query, bodies)?))
}

/// What the filters leave, as far as an index of the store can tell.
async fn candidates(app: &App, query: &Query, filter: PortFilter) -> Result<Vec<PortRow>, StoreError> {
    if let Some(devices) = query.wanted("device_id") {
        return app.store.ports_of(devices).await;
    }
    let network = match query.wanted("network_id") {
        Some([one]) => match one.parse::<NetworkId>() {
            Ok(network) => Some(network),
            Err(_) => return Ok(Vec::new()),
        },
        Some(_) | None => None,
    };
    let filter = &PortFilter { network, ..filter };
    every(|ask| async move { app.store.list_ports(filter, &ask).await }).await
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = find(&app, &ask, &id).await?;
    Ok(Json(ask.one(&PORT, record(row).body())?))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<(StatusCode, Json<Value>)> {
    ask.query(&PORT)?;
    let new = port::parse_create(&body)?;
    let network = networks::find(&app, &ask, &new.network.to_string()).await?;
    let project = ask.owner(Operation::WritePorts, new.project)?;
    check_change(&ask, &network, &new.change)?;
    if new.mac.is_some() {
        ask.may(Operation::WriteNetworks, Some(&network.project))?;
    }
    let groups = match new.change.groups {
        Some(groups) => {
            security_groups::check_all(&app, &project, &groups).await?;
            groups
        }
        None => vec![security_groups::default_of(&app.store, &project).await?.id],
    };
    let made = NewPort {
        id: PortId(Uuid::now_v7()),
        network: network.id,
        project,
        name: new.change.name.unwrap_or_default(),
        description: new.change.description.unwrap_or_default(),
        mac: new.mac,
        admin_up: new.change.admin_up.unwrap_or(true),
        device: new.change.device.unwrap_or_default(),
        device_owner: new.change.device_owner.unwrap_or_default(),
        host: new.change.host.unwrap_or_default(),
        hold: PortHold::Free,
        nic: 0,
        addresses: new.change.addresses,
        groups,
        now_us: App::now_us(),
    };
    let row = app.store.create_port(&made).await?;
    Ok((StatusCode::CREATED, Json(ask.one(&PORT, record(row).body())?)))
}

/// What only some may say.
fn check_change(ask: &Ask, network: &NetworkRow, change: &port::PortChange) -> Answer<()> {
    if change.host.is_some() {
        ask.may(Operation::BindPorts, Some(&network.project))?;
    }
    if change.device_owner.as_ref().is_some_and(|owner| owner.starts_with(NETWORK_OWNER)) {
        ask.may(Operation::WriteNetworks, Some(&network.project))?;
    }
    Ok(())
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let mut row = find(&app, &ask, &id).await?;
    ask.may(Operation::WritePorts, Some(&row.project))?;
    ask.query(&PORT)?;
    let change = port::parse_update(&body)?;
    check_change(&ask, &app.store.network(row.network).await?, &change)?;
    let moved = change.device.as_ref().is_some_and(|device| *device != row.device)
        || change.device_owner.as_ref().is_some_and(|owner| *owner != row.device_owner);
    if moved && row.hold != PortHold::Free {
        return Err(Refusal::PortInUse { port: row.id, network: row.network, device: row.device }.into());
    }
    if let Some(groups) = change.groups {
        security_groups::check_all(&app, &row.project, &groups).await?;
        row.groups = groups;
    }
    row.name = change.name.unwrap_or(row.name);
    row.description = change.description.unwrap_or(row.description);
    row.admin_up = change.admin_up.unwrap_or(row.admin_up);
    row.device = change.device.unwrap_or(row.device);
    row.device_owner = change.device_owner.unwrap_or(row.device_owner);
    row.host = change.host.unwrap_or(row.host);
    row.updated_us = App::now_us();
    let port = row.id;
    app.store.change_port(&PortChange { row, addresses: change.addresses }).await?;
    Ok(Json(ask.one(&PORT, record(app.store.port(port).await?).body())?))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = find(&app, &ask, &id).await?;
    ask.may(Operation::WritePorts, Some(&row.project))?;
    app.store.delete_port(row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
