//! Roles. Those that policies know cannot be changed or deleted: nobody could administer any more.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use whimbrel_api::openstack::identity::{
    changes::{self, Change, Object},
    fault::Fault,
    records::{self, RoleRecord},
};
use whimbrel_core::identity::{
    Role, RoleId,
    policy::{Operation, Target},
};
use whimbrel_store::{PageAsk, RoleRow};

use super::{
    answer::{Answer, Body, Query},
    caller::Caller,
};
use crate::{
    app::{App, Shared},
    openstack::BaseUrl,
};

fn record(row: RoleRow) -> RoleRecord {
    RoleRecord { id: row.id.into(), name: row.name, description: row.description }
}

pub(super) async fn find(app: &App, id: &str) -> Answer<RoleRow> {
    let id: RoleId = id.parse().map_err(|_| Fault::not_found("role", id))?;
    Ok(app.store.role(&id).await?)
}

#[derive(Deserialize)]
pub(super) struct Filter {
    name: Option<String>,
}

pub(super) async fn list(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Query(filter): Query<Filter>,
) -> Answer<Json<Value>> {
    caller.may(Operation::ListRoles, Target { domain: caller.own_domain().as_ref(), ..Target::default() })?;
    let page = app.store.list_roles(filter.name.as_deref(), &PageAsk::default()).await?;
    let items = page.items.into_iter().map(|row| record(row).body(&base)).collect();
    Ok(Json(records::list(&base, "roles", items)))
}

pub(super) async fn create(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Body(body): Body,
) -> Answer<(StatusCode, Json<Value>)> {
    caller.may(Operation::WriteRole, Target::default())?;
    let (name, change) = changes::parse_new(Object::Role, &body)?;
    let id = RoleId::from(Uuid::now_v7());
    let row = RoleRow { id, name, description: change.description.unwrap_or_default(), created_us: App::now_us() };
    app.store.create_role(&row).await?;
    Ok((StatusCode::CREATED, Json(json!({ "role": record(row).body(&base) }))))
}

pub(super) async fn show(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    caller.may(Operation::ListRoles, Target { domain: caller.own_domain().as_ref(), ..Target::default() })?;
    Ok(Json(json!({ "role": record(find(&app, &id).await?).body(&base) })))
}

pub(super) async fn change(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    caller.may(Operation::WriteRole, Target::default())?;
    let Change { name, description, .. } = changes::parse(Object::Role, &body)?;
    let mut row = find(&app, &id).await?;
    if name.as_ref().is_some_and(|name| *name != row.name) {
        keep_known(&row)?;
    }
    row.name = name.unwrap_or(row.name);
    row.description = description.unwrap_or(row.description);
    app.store.change_role(&row).await?;
    Ok(Json(json!({ "role": record(row).body(&base) })))
}

pub(super) async fn delete(caller: Caller, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    caller.may(Operation::WriteRole, Target::default())?;
    let row = find(&app, &id).await?;
    keep_known(&row)?;
    app.store.delete_role(&row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn keep_known(row: &RoleRow) -> Result<(), Fault> {
    match Role::of_name(&row.name) {
        Some(_) => Err(Fault::new(403, format!("The role {} is built in and stays as it is.", row.name))),
        None => Ok(()),
    }
}
