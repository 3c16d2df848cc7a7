//! Aggregates: made, listed, renamed, given hosts and metadata, deleted.
//!
//! Ground rules: which change cannot be is the store's decision; which status it is answered with is Nova's habit: 409 for
//! hosts, 400 for names of zones and for deletion. Images are not brought to hosts beforehand: there is no such call here.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::{
    compute::aggregate::{self, Aggregate, AggregateAction},
    fault::Fault,
};
use whimbrel_core::{id::HostName, identity::policy::Operation, schedule::ZONE_KEY};
use whimbrel_store::{AggregateRow, NewAggregate, StoreError};

use super::{
    answer::{Answer, Body, Refused},
    ask::Ask,
};
use crate::app::{App, Shared};

fn record(row: AggregateRow) -> Aggregate {
    Aggregate {
        id: row.id,
        uuid: row.uuid,
        name: row.name,
        hosts: row.hosts.into_iter().map(String::from).collect(),
        metadata: row.metadata,
        created: row.created_us,
        updated: row.updated_us,
    }
}

fn parse_id(id: &str) -> Result<u64, Fault> {
    let number: i64 = id.parse().map_err(|_| Fault::new(400, format!("id must be an integer, not {id}")))?;
    u64::try_from(number).map_err(|_| Fault::new(404, format!("Aggregate {id} could not be found.")))
}

async fn shown(app: &App, ask: &Ask, id: u64) -> Answer<Json<Value>> {
    Ok(Json(aggregate::show(&record(app.store.aggregate(id).await?), &ask.view())))
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadAggregates)?;
    let aggregates: Vec<Aggregate> = app.store.list_aggregates().await?.into_iter().map(record).collect();
    Ok(Json(aggregate::list(&aggregates, &ask.view())))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadAggregates)?;
    shown(&app, &ask, parse_id(&id)?).await
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<Json<Value>> {
    ask.may(Operation::WriteAggregates)?;
    let asked = aggregate::parse_create(&body, ask.at)?;
    let new = NewAggregate {
        uuid: Uuid::now_v7(),
        name: asked.name,
        zone: asked.availability_zone,
        created_us: App::now_us(),
    };
    match app.store.create_aggregate(&new).await {
        Err(StoreError::Conflict { .. }) => Err(name_exists(&new.name).into()),
        made => Ok(Json(aggregate::created(&record(made?), &ask.view()))),
    }
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    ask.may(Operation::WriteAggregates)?;
    let asked = aggregate::parse_update(&body, ask.at)?;
    let metadata = asked.availability_zone.map(|zone| (ZONE_KEY.to_owned(), zone));
    change(&app, &ask, parse_id(&id)?, asked.name.as_deref(), &metadata.into_iter().collect()).await
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.may(Operation::WriteAggregates)?;
    let id = parse_id(&id)?;
    match app.store.delete_aggregate(id).await {
        Err(StoreError::Conflict { .. }) => {
            Err(Fault::new(400, format!("Cannot delete aggregate {id}. Reason: Host aggregate is not empty.")).into())
        }
        other => Ok(other.map(|()| StatusCode::OK)?),
    }
}

pub(super) async fn act(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    ask.may(Operation::WriteAggregates)?;
    let id = parse_id(&id)?;
    match aggregate::parse_action(&body, ask.at)? {
        AggregateAction::AddHost(host) => add(&app, id, &host).await?,
        AggregateAction::RemoveHost(host) => remove(&app, id, &host).await?,
        AggregateAction::SetMetadata(metadata) => return change(&app, &ask, id, None, &metadata).await,
    }
    shown(&app, &ask, id).await
}

async fn add(app: &App, id: u64, host: &str) -> Answer<()> {
    let missing = || Fault::new(404, format!("Compute host {host} could not be found."));
    let name: HostName = host.parse().map_err(|_| missing())?;
    match app.store.add_aggregate_host(id, &name, App::now_us()).await {
        Err(StoreError::NotFound { object: "host", .. }) => Err(missing().into()),
        Err(StoreError::Conflict { reason, .. }) => {
            Err(Fault::new(409, format!("Cannot add host to aggregate {id}. Reason: host {host} {reason}.")).into())
        }
        other => Ok(other?),
    }
}

async fn remove(app: &App, id: u64, host: &str) -> Answer<()> {
    let told = |status, why: &str| Fault::new(status, format!("Cannot remove host {host} in aggregate {id}{why}"));
    let name: HostName = host.parse().map_err(|_| told(404, ""))?;
    match app.store.remove_aggregate_host(id, &name, App::now_us()).await {
        Err(StoreError::NotFound { .. }) => Err(told(404, "").into()),
        Err(StoreError::Conflict { reason, .. }) => Err(told(409, &format!(": it {reason}.")).into()),
        other => Ok(other?),
    }
}

async fn change(
    app: &App,
    ask: &Ask,
    id: u64,
    name: Option<&str>,
    metadata: &BTreeMap<String, Option<String>>,
) -> Answer<Json<Value>> {
    let refused = |reason: &str| Fault::new(400, format!("Cannot update aggregate {id}. Reason: {reason}."));
    if metadata.get(ZONE_KEY).is_some_and(|zone| zone.as_ref().is_none_or(String::is_empty)) {
        let name = app.store.aggregate(id).await?.name;
        return Err(refused(&format!("Aggregate {name} does not support empty named availability zone")).into());
    }
    match app.store.change_aggregate(id, name, metadata, App::now_us()).await {
        Err(StoreError::Conflict { object: "host", id: host, reason }) => {
            Err(refused(&format!("host {host} {reason}")).into())
        }
        Err(StoreError::Conflict { .. }) => Err(name_exists(name.unwrap_or_default()).into()),
        Err(error) => Err(Refused::from(error)),
        Ok(()) => shown(app, ask, id).await,
    }
}

fn name_exists(name: &str) -> Fault {
    Fault::new(409, format!("Aggregate {name} already exists."))
}
