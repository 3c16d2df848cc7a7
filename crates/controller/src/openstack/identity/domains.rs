//! Domains: made, shown, changed. The default one cannot be disabled, or everyone would be locked out.

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
    records::{self, DomainRecord},
};
use whimbrel_core::identity::{
    DomainId,
    policy::{Operation, Target},
};
use whimbrel_store::{DomainRow, GrantFilter, GrantScope, every};

use super::{
    answer::{Answer, Body, Query},
    caller::{Caller, there},
};
use crate::{
    app::{App, Shared},
    openstack::BaseUrl,
};

pub(super) fn record(row: DomainRow) -> DomainRecord {
    DomainRecord { id: row.id.into(), name: row.name, description: row.description, enabled: row.enabled }
}

/// A bad id is one that nobody has.
pub(super) async fn find(app: &App, id: &str) -> Answer<DomainRow> {
    let id: DomainId = id.parse().map_err(|_| Fault::not_found("domain", id))?;
    Ok(app.store.domain(&id).await?)
}

#[derive(Deserialize)]
pub(super) struct Filter {
    name: Option<String>,
    enabled: Option<bool>,
}

pub(super) async fn list(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Query(filter): Query<Filter>,
) -> Answer<Json<Value>> {
    caller.may(Operation::ListDomains, Target::default())?;
    let (app, name) = (&app, filter.name.as_deref());
    let rows = every(|ask| async move { app.store.list_domains(name, &ask).await }).await?;
    let wanted = rows.into_iter().filter(|row| filter.enabled.is_none_or(|enabled| enabled == row.enabled));
    Ok(Json(records::list(&base, "domains", wanted.map(|row| record(row).body(&base)).collect())))
}

pub(super) async fn create(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Body(body): Body,
) -> Answer<(StatusCode, Json<Value>)> {
    caller.may(Operation::WriteDomain, Target::default())?;
    let (name, change) = changes::parse_new(Object::Domain, &body)?;
    let row = DomainRow {
        id: DomainId::from(Uuid::now_v7()),
        name,
        description: change.description.unwrap_or_default(),
        enabled: change.enabled.unwrap_or(true),
        generation: 1,
        created_us: App::now_us(),
    };
    app.store.create_domain(&row).await?;
    Ok((StatusCode::CREATED, Json(json!({ "domain": record(row).body(&base) }))))
}

pub(super) async fn show(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let row = find(&app, &id).await;
    let id = row.as_ref().ok().map(|row| row.id.clone());
    // The domain of one's own project may be seen.
    let own = caller.requester().project().filter(|_| id.as_ref() == Some(&caller.usual_domain()));
    caller.may(Operation::ShowDomain, Target { domain: id.as_ref(), project: own, user: None })?;
    Ok(Json(json!({ "domain": record(row?).body(&base) })))
}

pub(super) async fn change(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    caller.may(Operation::WriteDomain, Target::default())?;
    let Change { name, description, enabled, .. } = changes::parse(Object::Domain, &body)?;
    let mut row = find(&app, &id).await?;
    if enabled == Some(false) && row.id == DomainId::default_domain() {
        return Err(Fault::new(403, "The default domain cannot be disabled: everyone would be locked out.").into());
    }
    row.name = name.unwrap_or(row.name);
    row.description = description.unwrap_or(row.description);
    row.enabled = enabled.unwrap_or(row.enabled);
    app.store.change_domain(&row).await?;
    Ok(Json(json!({ "domain": record(row).body(&base) })))
}

pub(super) async fn delete(caller: Caller, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    caller.may(Operation::WriteDomain, Target::default())?;
    let row = find(&app, &id).await?;
    if row.enabled {
        return Err(Fault::new(403, "Cannot delete a domain that is enabled, please disable it first.").into());
    }
    app.store.delete_domain(&row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /auth/domains`: those that the caller may get a token for.
pub(super) async fn own(caller: Caller, State(app): State<Shared>, BaseUrl(base): BaseUrl) -> Answer<Json<Value>> {
    let filter = GrantFilter { user: Some(caller.requester().user.clone()), ..GrantFilter::default() };
    let mut ids: Vec<DomainId> = Vec::new();
    for granted in app.store.list_grants(&filter).await? {
        if let GrantScope::Domain(id) = granted.grant.scope
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    let mut items = Vec::new();
    for id in ids {
        if let Some(row) = there(app.store.domain(&id).await)?.filter(|row| row.enabled) {
            items.push(record(row).body(&base));
        }
    }
    Ok(Json(records::list_of(&base, "auth/domains", "domains", Value::Array(items))))
}
