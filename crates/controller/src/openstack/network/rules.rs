//! Rules of security groups: made and deleted, never changed.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::network::security_group_rule::{self, Direction, SECURITY_GROUP_RULE, SecurityGroupRule};
use whimbrel_core::{
    id::SecurityGroupRuleId,
    identity::{ProjectId, policy::Operation},
};
use whimbrel_store::{RuleDirection, SecurityGroupRuleRow, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::{Ask, id},
    security_groups,
};
use crate::app::{App, Shared};

pub(super) fn record(row: SecurityGroupRuleRow) -> SecurityGroupRule {
    SecurityGroupRule {
        id: row.id.to_string(),
        group: row.group.to_string(),
        project: row.project.into(),
        direction: match row.direction {
            RuleDirection::Ingress => Direction::Ingress,
            RuleDirection::Egress => Direction::Egress,
        },
        version: row.version,
        protocol: row.protocol,
        port_min: row.port_min,
        port_max: row.port_max,
        remote_prefix: row.remote_prefix,
        remote_group: row.remote_group.map(|group| group.to_string()),
        description: row.description,
        created_us: row.created_us,
    }
}

/// Of one project's groups, or of all.
pub(super) async fn all(app: &App, project: Option<&ProjectId>) -> Result<Vec<SecurityGroupRuleRow>, StoreError> {
    every(|ask| async move { app.store.list_security_group_rules(project, &ask).await }).await
}

/// One of the caller's.
async fn find(app: &App, ask: &Ask, text: &str) -> Answer<SecurityGroupRuleRow> {
    let viewer = ask.viewer(Operation::ReadSecurityGroups)?;
    let row = app.store.security_group_rule(id(&SECURITY_GROUP_RULE, text)?).await?;
    let own = viewer.is_none_or(|viewer| *viewer == row.project);
    if own { Ok(row) } else { Err(SECURITY_GROUP_RULE.no_such(text).into()) }
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let viewer = ask.viewer(Operation::ReadSecurityGroups)?;
    let query = ask.query(&SECURITY_GROUP_RULE)?;
    let rows = all(&app, viewer).await?;
    Ok(Json(ask.list(&SECURITY_GROUP_RULE, &query, rows.into_iter().map(|row| record(row).body()))?))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = find(&app, &ask, &id).await?;
    Ok(Json(ask.one(&SECURITY_GROUP_RULE, record(row).body())?))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<(StatusCode, Json<Value>)> {
    ask.query(&SECURITY_GROUP_RULE)?;
    let new = security_group_rule::parse_create(&body)?;
    let group = security_groups::find(&app, &ask, &new.group.to_string()).await?;
    ask.may(Operation::WriteSecurityGroups, Some(&group.project))?;
    if let Some(remote) = new.remote_group {
        security_groups::check_all(&app, &group.project, &[remote]).await?;
    }
    let row = SecurityGroupRuleRow {
        id: SecurityGroupRuleId(Uuid::now_v7()),
        group: group.id,
        // A rule is its group's, whoever makes it.
        project: group.project,
        direction: match new.direction {
            Direction::Ingress => RuleDirection::Ingress,
            Direction::Egress => RuleDirection::Egress,
        },
        version: new.version,
        protocol: new.protocol,
        port_min: new.port_min,
        port_max: new.port_max,
        remote_prefix: new.remote_prefix,
        remote_group: new.remote_group,
        description: new.description,
        created_us: App::now_us(),
    };
    app.store.create_security_group_rule(&row).await?;
    Ok((StatusCode::CREATED, Json(ask.one(&SECURITY_GROUP_RULE, record(row).body())?)))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = find(&app, &ask, &id).await?;
    ask.may(Operation::WriteSecurityGroups, Some(&row.project))?;
    app.store.delete_security_group_rule(row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
