//! Users and their passwords.

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
    records::{self, UserRecord},
};
use whimbrel_core::identity::{
    DomainId, ProjectId, UserId,
    policy::{Operation, Target},
};
use whimbrel_store::{UserRow, every};

use super::{
    answer::{Answer, Body, Query},
    caller::Caller,
};
use crate::{
    app::{App, Shared},
    openstack::BaseUrl,
};

fn record(row: UserRow) -> UserRecord {
    UserRecord {
        id: row.id.into(),
        name: row.name,
        domain_id: row.domain.into(),
        enabled: row.enabled,
        default_project_id: row.default_project.map(String::from),
        extra: row.extra,
    }
}

async fn find(app: &App, id: &str) -> Answer<UserRow> {
    let id: UserId = id.parse().map_err(|_| Fault::not_found("user", id))?;
    Ok(app.store.user(&id).await?)
}

/// The row, to one who may see it. Who may not learns nothing of whether it is there.
pub(super) async fn visible(caller: &Caller, app: &App, id: &str) -> Answer<UserRow> {
    found(caller, app, id, Operation::ShowUser).await
}

async fn found(caller: &Caller, app: &App, id: &str, operation: Operation) -> Answer<UserRow> {
    let row = find(app, id).await;
    let target = match &row {
        Ok(row) => Target { user: Some(&row.id), domain: Some(&row.domain), project: None },
        Err(_) => Target::default(),
    };
    caller.may(operation, target)?;
    row
}

#[derive(Deserialize)]
pub(super) struct Filter {
    name: Option<String>,
    domain_id: Option<String>,
    enabled: Option<bool>,
}

pub(super) async fn list(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Query(filter): Query<Filter>,
) -> Answer<Json<Value>> {
    let domain = filter.domain_id.map(|id| id.parse::<DomainId>()).transpose();
    let Ok(domain) = domain else { return Ok(Json(records::list(&base, "users", Vec::new()))) };
    let domain = domain.or_else(|| caller.own_domain());
    caller.may(Operation::ListUsers, Target { domain: domain.as_ref(), ..Target::default() })?;
    let (app, domain, name) = (&app, domain.as_ref(), filter.name.as_deref());
    let rows = every(|ask| async move { app.store.list_users(domain, name, &ask).await }).await?;
    let wanted = rows.into_iter().filter(|row| filter.enabled.is_none_or(|enabled| enabled == row.enabled));
    Ok(Json(records::list(&base, "users", wanted.map(|row| record(row).body(&base)).collect())))
}

pub(super) async fn create(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Body(body): Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let (name, change) = changes::parse_new(Object::User, &body)?;
    let domain = match change.domain_id {
        Some(id) => id.parse().map_err(|_| Fault::not_found("domain", &id))?,
        None => caller.usual_domain(),
    };
    caller.may(Operation::WriteUser, Target { domain: Some(&domain), ..Target::default() })?;
    let domain = app.store.domain(&domain).await?;
    let password_hash = match change.password {
        Some(password) => Some(app.passwords.hash(password).await?),
        None => None,
    };
    let row = UserRow {
        id: UserId::from(Uuid::now_v7()),
        domain: domain.id,
        name,
        password_hash,
        enabled: change.enabled.unwrap_or(true),
        default_project: project_id(change.default_project_id.flatten())?,
        extra: change.extra,
        generation: 1,
        created_us: App::now_us(),
    };
    app.store.create_user(&row).await?;
    Ok((StatusCode::CREATED, Json(json!({ "user": record(row).body(&base) }))))
}

fn project_id(said: Option<String>) -> Result<Option<ProjectId>, Fault> {
    said.map(|id| id.parse().map_err(|_| Fault::not_found("project", &id))).transpose()
}

pub(super) async fn show(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let row = visible(&caller, &app, &id).await?;
    Ok(Json(json!({ "user": record(row).body(&base) })))
}

pub(super) async fn change(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let mut row = found(&caller, &app, &id, Operation::WriteUser).await?;
    let Change { name, domain_id, enabled, default_project_id, password, extra, description: _ } =
        changes::parse(Object::User, &body)?;
    if domain_id.is_some_and(|domain| domain != row.domain.as_str()) {
        return Err(Fault::new(400, "The domain of a user cannot be changed.").into());
    }
    let ends_tokens = password.is_some() || (row.enabled && enabled == Some(false));
    row.name = name.unwrap_or(row.name);
    row.enabled = enabled.unwrap_or(row.enabled);
    if let Some(said) = default_project_id {
        row.default_project = project_id(said)?;
    }
    if let Some(password) = password {
        row.password_hash = Some(app.passwords.hash(password).await?);
    }
    row.extra.extend(extra);
    app.store.change_user(&row, ends_tokens).await?;
    Ok(Json(json!({ "user": record(row).body(&base) })))
}

pub(super) async fn delete(caller: Caller, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = found(&caller, &app, &id, Operation::WriteUser).await?;
    app.store.delete_user(&row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn change_password(
    caller: Caller,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<StatusCode> {
    let mut row = found(&caller, &app, &id, Operation::ChangeOwnPassword).await?;
    let (old, new) = changes::parse_password_change(&body)?;
    if !app.passwords.verify(old, row.password_hash.clone()).await? {
        return Err(Fault::unauthorized().into());
    }
    row.password_hash = Some(app.passwords.hash(new).await?);
    app.store.change_user(&row, true).await?;
    Ok(StatusCode::NO_CONTENT)
}
