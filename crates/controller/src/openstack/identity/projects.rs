//! Projects: made, shown, changed; and those that a user has a role on.

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
    records::{self, ProjectRecord},
};
use whimbrel_core::identity::{
    DomainId, ProjectId, UserId,
    policy::{Operation, Target},
};
use whimbrel_store::{GrantFilter, GrantScope, ProjectRow, every};

use super::{
    answer::{Answer, Body, Query},
    caller::{Caller, there},
    domains, users,
};
use crate::{
    app::{App, Shared},
    openstack::BaseUrl,
};

fn record(row: ProjectRow) -> ProjectRecord {
    ProjectRecord {
        id: row.id.into(),
        name: row.name,
        domain_id: row.domain.into(),
        description: row.description,
        enabled: row.enabled,
    }
}

pub(super) async fn find(app: &App, id: &str) -> Answer<ProjectRow> {
    let id: ProjectId = id.parse().map_err(|_| Fault::not_found("project", id))?;
    Ok(app.store.project(&id).await?)
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
    let Ok(domain) = domain else { return Ok(Json(records::list(&base, "projects", Vec::new()))) };
    // Whoever has a domain only sees that one.
    let domain = domain.or_else(|| caller.own_domain());
    caller.may(Operation::ListProjects, Target { domain: domain.as_ref(), ..Target::default() })?;
    let (app, domain, name) = (&app, domain.as_ref(), filter.name.as_deref());
    let rows = every(|ask| async move { app.store.list_projects(domain, name, &ask).await }).await?;
    let wanted = rows.into_iter().filter(|row| filter.enabled.is_none_or(|enabled| enabled == row.enabled));
    Ok(Json(records::list(&base, "projects", wanted.map(|row| record(row).body(&base)).collect())))
}

pub(super) async fn create(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Body(body): Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let (name, change) = changes::parse_new(Object::Project, &body)?;
    let domain = match change.domain_id {
        Some(id) => id.parse().map_err(|_| Fault::not_found("domain", &id))?,
        None => caller.usual_domain(),
    };
    caller.may(Operation::WriteProject, Target { domain: Some(&domain), ..Target::default() })?;
    let domain = app.store.domain(&domain).await?;
    let row = ProjectRow {
        id: ProjectId::from(Uuid::now_v7()),
        domain: domain.id,
        name,
        description: change.description.unwrap_or_default(),
        enabled: change.enabled.unwrap_or(true),
        generation: 1,
        created_us: App::now_us(),
    };
    app.store.create_project(&row).await?;
    Ok((StatusCode::CREATED, Json(json!({ "project": record(row).body(&base) }))))
}

pub(super) async fn show(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let row = find(&app, &id).await;
    let target = match &row {
        Ok(row) => Target { project: Some(&row.id), domain: Some(&row.domain), user: None },
        Err(_) => Target::default(),
    };
    caller.may(Operation::ShowProject, target)?;
    Ok(Json(json!({ "project": record(row?).body(&base) })))
}

pub(super) async fn change(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let mut row = writable(&caller, &app, &id).await?;
    let Change { name, description, enabled, domain_id, .. } = changes::parse(Object::Project, &body)?;
    if domain_id.is_some_and(|domain| domain != row.domain.as_str()) {
        return Err(Fault::new(400, "The domain of a project cannot be changed.").into());
    }
    row.name = name.unwrap_or(row.name);
    row.description = description.unwrap_or(row.description);
    row.enabled = enabled.unwrap_or(row.enabled);
    app.store.change_project(&row).await?;
    Ok(Json(json!({ "project": record(row).body(&base) })))
}

pub(super) async fn delete(caller: Caller, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = writable(&caller, &app, &id).await?;
    app.store.delete_project(&row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The row, to one who may change it. Who may not learns nothing of whether it is there.
async fn writable(caller: &Caller, app: &App, id: &str) -> Answer<ProjectRow> {
    let row = find(app, id).await;
    let domain = row.as_ref().ok().map(|row| row.domain.clone());
    caller.may(Operation::WriteProject, Target { domain: domain.as_ref(), ..Target::default() })?;
    row
}

/// `GET /auth/projects`: those that the caller may get a token for.
pub(super) async fn own(caller: Caller, State(app): State<Shared>, BaseUrl(base): BaseUrl) -> Answer<Json<Value>> {
    let items = with_a_role(&app, &caller.requester().user, &base).await?;
    Ok(Json(records::list_of(&base, "auth/projects", "projects", Value::Array(items))))
}

/// `GET /users/{id}/projects`.
pub(super) async fn of_user(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let user = users::visible(&caller, &app, &id).await?;
    let items = with_a_role(&app, &user.id, &base).await?;
    Ok(Json(records::list_of(&base, &format!("users/{}/projects", user.id), "projects", Value::Array(items))))
}

async fn with_a_role(app: &App, user: &UserId, base: &str) -> Answer<Vec<Value>> {
    let filter = GrantFilter { user: Some(user.clone()), ..GrantFilter::default() };
    let mut ids: Vec<ProjectId> = Vec::new();
    for granted in app.store.list_grants(&filter).await? {
        if let GrantScope::Project(id) = granted.grant.scope
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    let mut items = Vec::new();
    for id in ids {
        if let Some(row) = there(app.store.project(&id).await)?.filter(|row| row.enabled)
            && domains::find(app, row.domain.as_str()).await?.enabled
        {
            items.push(record(row).body(base));
        }
    }
    Ok(items)
}
