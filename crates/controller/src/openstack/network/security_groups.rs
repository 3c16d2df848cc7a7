//! Security groups: made, changed, deleted, and the default one of each project, which is there from the first look on.

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
    list::Query,
    security_group::{self, DEFAULT_NAME, SECURITY_GROUP, SecurityGroup},
};
use whimbrel_core::{
    id::{SecurityGroupId, SecurityGroupRuleId},
    identity::{ProjectId, policy::Operation},
    network::{address::IpVersion, refusal::Refusal},
};
use whimbrel_store::{RuleDirection, SecurityGroupRow, SecurityGroupRuleRow, Store, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::{Ask, id},
    rules,
};
use crate::{
    app::{App, Shared},
    openstack::identity::has_project,
};

const DEFAULT_DESCRIPTION: &str = "Default security group";

fn record(row: SecurityGroupRow, rules: Vec<SecurityGroupRuleRow>) -> SecurityGroup {
    SecurityGroup {
        id: row.id.to_string(),
        project: row.project.into(),
        name: row.name,
        description: row.description,
        rules: rules.into_iter().map(rules::record).collect(),
        revision: row.generation,
        created_us: row.created_us,
        updated_us: row.updated_us,
    }
}

/// With the rules that every new group has: out is open.
fn new_group(project: ProjectId, name: String, description: String) -> (SecurityGroupRow, Vec<SecurityGroupRuleRow>) {
    let now_us = App::now_us();
    let group = SecurityGroupRow {
        id: SecurityGroupId(Uuid::now_v7()),
        project,
        name,
        description,
        is_default: false,
        generation: 1,
        created_us: now_us,
        updated_us: now_us,
    };
    let rules = [IpVersion::V4, IpVersion::V6].map(|version| open(&group, RuleDirection::Egress, version));
    (group, rules.into())
}

fn open(group: &SecurityGroupRow, direction: RuleDirection, version: IpVersion) -> SecurityGroupRuleRow {
    SecurityGroupRuleRow {
        id: SecurityGroupRuleId(Uuid::now_v7()),
        group: group.id,
        project: group.project.clone(),
        direction,
        version,
        protocol: None,
        port_min: None,
        port_max: None,
        remote_prefix: None,
        remote_group: None,
        description: String::new(),
        created_us: group.created_us,
    }
}

/// Made if it is not there yet: members of the group reach each other.
pub(super) async fn default_of(store: &Store, project: &ProjectId) -> Result<SecurityGroupRow, StoreError> {
    let (group, mut rules) = new_group(project.clone(), DEFAULT_NAME.to_owned(), DEFAULT_DESCRIPTION.to_owned());
    let group = SecurityGroupRow { is_default: true, ..group };
    for version in [IpVersion::V4, IpVersion::V6] {
        let inside = open(&group, RuleDirection::Ingress, version);
        rules.push(SecurityGroupRuleRow { remote_group: Some(group.id), ..inside });
    }
    store.default_security_group(&group, &rules).await
}

/// Whether all of them are the project's.
pub(super) async fn check_all(app: &App, project: &ProjectId, groups: &[SecurityGroupId]) -> Answer<()> {
    for group in groups {
        match app.store.security_group(*group).await {
            Ok(row) if row.project == *project => (),
            Ok(_) | Err(StoreError::NotFound { .. }) => return Err(Refusal::NoGroup(*group).into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// One of the caller's.
pub(super) async fn find(app: &App, ask: &Ask, text: &str) -> Answer<SecurityGroupRow> {
    let viewer = ask.viewer(Operation::ReadSecurityGroups)?;
    let row = app.store.security_group(id(&SECURITY_GROUP, text)?).await?;
    let own = viewer.is_none_or(|viewer| *viewer == row.project);
    if own { Ok(row) } else { Err(SECURITY_GROUP.no_such(text).into()) }
}

async fn whole(app: &App, row: SecurityGroupRow) -> Answer<SecurityGroup> {
    let rules = rules::all(app, Some(&row.project)).await?;
    let own = rules.into_iter().filter(|rule| rule.group == row.id).collect();
    Ok(record(row, own))
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let viewer = ask.viewer(Operation::ReadSecurityGroups)?;
    let query = ask.query(&SECURITY_GROUP)?;
    make_default(&app, &ask, &query).await?;
    let app = &app;
    let rows = every(|page| async move { app.store.list_security_groups(viewer, &page).await }).await?;
    let mut rules: HashMap<SecurityGroupId, Vec<SecurityGroupRuleRow>> = HashMap::new();
    for rule in rules::all(app, viewer).await? {
        rules.entry(rule.group).or_default().push(rule);
    }
    let bodies = rows.into_iter().map(|row| {
        let own = rules.remove(&row.id).unwrap_or_default();
        record(row, own).body()
    });
    Ok(Json(ask.list(&SECURITY_GROUP, &query, bodies)?))
}

/// For the project that the list is about: that of a filter, else the caller's own.
async fn make_default(app: &App, ask: &Ask, query: &Query) -> Answer<()> {
    let filtered = query.wanted("project_id").or_else(|| query.wanted("tenant_id")).and_then(|ids| ids.first());
    let project = match filtered {
        None => ask.own_project().cloned(),
        Some(id) => id.parse::<ProjectId>().ok(),
    };
    let Some(project) = project else { return Ok(()) };
    if ask.may(Operation::ReadSecurityGroups, Some(&project)).is_err() {
        return Ok(());
    }
    let own = ask.own_project() == Some(&project);
    if own || has_project(app, &project).await? {
        default_of(&app.store, &project).await?;
    }
    Ok(())
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = find(&app, &ask, &id).await?;
    Ok(Json(ask.one(&SECURITY_GROUP, whole(&app, row).await?.body())?))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<(StatusCode, Json<Value>)> {
    let new = security_group::parse_create(&body)?;
    let project = ask.owner(Operation::WriteSecurityGroups, new.project)?;
    let (row, rules) = new_group(project, new.name, new.description);
    app.store.create_security_group(&row, &rules).await?;
    Ok((StatusCode::CREATED, Json(ask.one(&SECURITY_GROUP, record(row, rules).body())?)))
}

pub(super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let mut row = find(&app, &ask, &id).await?;
    ask.may(Operation::WriteSecurityGroups, Some(&row.project))?;
    let change = security_group::parse_update(&body)?;
    if let Some(name) = change.name.filter(|name| *name != row.name) {
        if row.is_default {
            let told = "Updating default security group not allowed.";
            return Err(Fault::new(409, "SecurityGroupCannotUpdateDefault", told).into());
        }
        security_group::is_free(&name)?;
        row.name = name;
    }
    row.description = change.description.unwrap_or(row.description);
    row.updated_us = App::now_us();
    app.store.change_security_group(&row).await?;
    row.generation += 1;
    Ok(Json(ask.one(&SECURITY_GROUP, whole(&app, row).await?.body())?))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = find(&app, &ask, &id).await?;
    ask.may(Operation::WriteSecurityGroups, Some(&row.project))?;
    // An administrator may, so that a project can be cleared away.
    if row.is_default && !ask.is_admin() {
        let told = "Insufficient rights for removing default security group.";
        return Err(Fault::new(409, "SecurityGroupCannotRemoveDefault", told).into());
    }
    app.store.delete_security_group(row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
