//! Server groups: listed, shown, made, deleted.
//!
//! Ground rules: a group is its project's; who asks for another project's is refused and not told that there is none, as Nova does.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::{
    compute::server_group::{self, Policy, ServerGroup},
    fault::Fault,
};
use whimbrel_core::{
    identity::policy::{Operation, Target},
    quota::Quota,
};
use whimbrel_store::{GroupLimits, GroupPolicy, GroupRules, ServerGroupRow, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::Ask,
    quotas,
};
use crate::app::{App, Shared};

fn told(policy: GroupPolicy) -> Policy {
    match policy {
        GroupPolicy::Affinity => Policy::Affinity,
        GroupPolicy::AntiAffinity => Policy::AntiAffinity,
        GroupPolicy::SoftAffinity => Policy::SoftAffinity,
        GroupPolicy::SoftAntiAffinity => Policy::SoftAntiAffinity,
    }
}

fn kept(policy: Policy) -> GroupPolicy {
    match policy {
        Policy::Affinity => GroupPolicy::Affinity,
        Policy::AntiAffinity => GroupPolicy::AntiAffinity,
        Policy::SoftAffinity => GroupPolicy::SoftAffinity,
        Policy::SoftAntiAffinity => GroupPolicy::SoftAntiAffinity,
    }
}

fn record(row: ServerGroupRow) -> ServerGroup {
    ServerGroup {
        id: row.id,
        name: row.name,
        policy: told(row.policy),
        max_server_per_host: row.rules.max_server_per_host,
        members: row.members.into_iter().map(|member| member.0).collect(),
        project_id: row.project.into(),
        user_id: row.user.into(),
    }
}

/// One that is there, if the caller may do that with it.
async fn find(ask: &Ask, app: &App, id: &str, operation: Operation) -> Answer<ServerGroupRow> {
    let missing = || Fault::new(404, format!("Instance group {id} could not be found."));
    let uuid = id.parse::<Uuid>().map_err(|_| missing())?;
    let row = match app.store.server_group(uuid).await {
        Err(StoreError::NotFound { .. }) => return Err(missing().into()),
        other => other?,
    };
    ask.may_on(operation, Target { project: Some(&row.project), ..Target::default() })?;
    Ok(row)
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let own = ask.requester().project();
    ask.may_on(Operation::ReadServerGroups, Target { project: own, ..Target::default() })?;
    let query = ask.query(server_group::LIST_QUERY)?;
    let all = query.get(server_group::ALL_PROJECTS).is_some() && ask.may(Operation::ReadServerGroupsOfAll).is_ok();
    let store = &app.store;
    let rows = match (all, own) {
        (true, _) => every(|page| async move { store.list_server_groups(None, &page).await }).await?,
        (false, Some(_)) => every(|page| async move { store.list_server_groups(own, &page).await }).await?,
        (false, None) => Vec::new(),
    };
    let groups: Vec<ServerGroup> = query.slice(rows)?.into_iter().map(record).collect();
    Ok(Json(server_group::list(&groups, &ask.view())))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = find(&ask, &app, &id, Operation::ReadServerGroups).await?;
    Ok(Json(server_group::show(&record(row), &ask.view())))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<Json<Value>> {
    let new = server_group::parse_create(&body, ask.at)?;
    let requester = ask.requester();
    let own = requester.project();
    ask.may_on(Operation::WriteServerGroups, Target { project: own, ..Target::default() })?;
    let unowned = || Fault::new(403, "A server group is a project's: log in to one to make it.");
    let project = own.cloned().ok_or_else(unowned)?;
    let of = async |user| Ok::<_, StoreError>(quotas::limits(&app, own, user).await?.of(Quota::ServerGroups));
    let limits = GroupLimits { of_project: of(None).await?, of_user: of(Some(&requester.user)).await? };
    let row = ServerGroupRow {
        id: Uuid::now_v7(),
        project,
        user: requester.user.clone(),
        name: new.name,
        policy: kept(new.policy),
        rules: GroupRules { max_server_per_host: new.max_server_per_host },
        members: Vec::new(),
        created_us: App::now_us(),
    };
    if !app.store.create_server_group(&row, limits).await? {
        return Err(Fault::new(403, "Quota exceeded, too many server groups.").into());
    }
    Ok(Json(server_group::show(&record(row), &ask.view())))
}

pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let row = find(&ask, &app, &id, Operation::WriteServerGroups).await?;
    match app.store.delete_server_group(row.id).await {
        // Somebody was faster.
        Err(StoreError::NotFound { .. }) | Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(error.into()),
    }
}
