//! Extra specs of flavors, and the projects that may use one that is not public.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::flavor::{self, Access},
    fault::Fault,
};
use whimbrel_core::identity::{ProjectId, policy::Operation};
use whimbrel_store::StoreError;

use super::{
    answer::{Answer, Body},
    ask::Ask,
    flavors::find,
};
use crate::{app::Shared, openstack::identity::has_project};

fn no_spec(flavorid: &str, key: &str) -> Fault {
    Fault::new(404, format!("Flavor {flavorid} has no extra specs with key {key}."))
}

fn no_project(tenant: &str) -> Fault {
    Fault::new(400, format!("Project ID {tenant} is not a valid project."))
}

pub(super) async fn specs(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadFlavors)?;
    let (_, flavor) = find(&app, &ask, &id).await?;
    Ok(Json(flavor::extra_specs(&flavor.extra_specs)))
}

pub(super) async fn spec(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    ask.may(Operation::ReadFlavors)?;
    let (_, flavor) = find(&app, &ask, &id).await?;
    let value = flavor.extra_specs.get(&key).ok_or_else(|| no_spec(&id, &key))?;
    Ok(Json(flavor::extra_spec(&key, value)))
}

pub(super) async fn set(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    ask.may(Operation::WriteFlavors)?;
    let specs = flavor::parse_extra_specs(&body, ask.at)?;
    let (row, _) = find(&app, &ask, &id).await?;
    app.store.set_extra_specs(row, &specs).await?;
    Ok(Json(flavor::extra_specs(&specs)))
}

pub(super) async fn set_one(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, key)): Path<(String, String)>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    ask.may(Operation::WriteFlavors)?;
    let value = flavor::parse_extra_spec(&body, &key, ask.at)?;
    let (row, _) = find(&app, &ask, &id).await?;
    app.store.set_extra_specs(row, &BTreeMap::from([(key.clone(), value.clone())])).await?;
    Ok(Json(flavor::extra_spec(&key, &value)))
}

pub(super) async fn remove(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    ask.may(Operation::WriteFlavors)?;
    let (row, _) = find(&app, &ask, &id).await?;
    match app.store.remove_extra_spec(row, &key).await {
        Err(StoreError::NotFound { .. }) => Err(no_spec(&id, &key).into()),
        // As Nova: 200 with nothing in it, not 204.
        other => Ok(other.map(|()| StatusCode::OK)?),
    }
}

pub(super) async fn access(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadFlavorAccess)?;
    let (_, flavor) = find(&app, &ask, &id).await?;
    if flavor.public {
        return Err(Fault::new(404, "Access list not available for public flavors.").into());
    }
    Ok(Json(flavor::access(&flavor)))
}

pub(super) async fn change_access(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    ask.may(Operation::WriteFlavors)?;
    let asked = flavor::parse_access(&body, ask.at)?;
    let (row, flavor) = find(&app, &ask, &id).await?;
    let project = |tenant: &str| tenant.parse::<ProjectId>().map_err(|_| no_project(tenant));
    match &asked {
        Access::Add(tenant) => {
            if flavor.public {
                return Err(Fault::new(409, "Can not add access to a public flavor.").into());
            }
            let project = project(tenant)?;
            if !has_project(&app, &project).await? {
                return Err(no_project(tenant).into());
            }
            match app.store.allow_flavor(row, &project).await {
                Err(StoreError::Conflict { .. }) => {
                    let told =
                        format!("Flavor access already exists for flavor {id} and project {tenant} combination.");
                    return Err(Fault::new(409, told).into());
                }
                other => other?,
            }
        }
        Access::Remove(tenant) => match app.store.forbid_flavor(row, &project(tenant)?).await {
            Err(StoreError::NotFound { .. }) => {
                let told = format!("Flavor access not found for {id} / {tenant} combination.");
                return Err(Fault::new(404, told).into());
            }
            other => other?,
        },
    }
    let (_, flavor) = find(&app, &ask, &id).await?;
    Ok(Json(flavor::access(&flavor)))
}
