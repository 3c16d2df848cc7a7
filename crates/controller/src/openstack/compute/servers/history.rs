//! What was done to a server: noted as it begins, read by whoever asked.
//!
//! Ground rules: an action has the id of the request that asked for it; where noting fails nothing else does.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::{
        instance_action::{self, Event, EventResult, InstanceAction},
        times,
    },
    fault::Fault,
    microversion::Microversion,
};
use whimbrel_core::{
    id::{HostName, InstanceId},
    identity::policy::Operation,
    lease::Work,
    server::Ownership,
};
use whimbrel_store::{self as store, ActionEventRow, ActionRow, StoreError};

use super::{
    super::{answer::Answer, ask::Ask},
    record::host_id,
};
use crate::app::{App, Shared};

const QUERY: &[&str] = &["limit", "marker", "changes-since", "changes-before"];
const ORPHANS_EVERY: Duration = Duration::from_secs(10);
/// Longer than any call takes that notes an event and then begins what it is about.
const ORPHAN_AGE_US: i64 = 120_000_000;
/// Those of a deleted server are told from here on.
const DELETED_SINCE: Microversion = Microversion::v2(21);
const PAGED_SINCE: Microversion = Microversion::v2(58);

/// Ends what a controller that died left open, until shutdown.
pub(crate) async fn end_orphans(app: Shared) {
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(ORPHANS_EVERY) => {}
        }
        if app.leases.turn(Work::Chores).is_none() {
            continue;
        }
        let now_us = App::now_us();
        match app.store.end_orphaned_events(now_us - ORPHAN_AGE_US, now_us).await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "events of actions that nobody was at any more were ended"),
            Err(error) => tracing::warn!(%error, "cannot look for events that nobody is at"),
        }
    }
}

/// Notes that an action begins.
pub(super) async fn begun(app: &App, ask: &Ask, instance: InstanceId, action: &str) -> Answer<()> {
    let row = ActionRow {
        request_id: ask.request_id.clone(),
        instance,
        action: action.to_owned(),
        asked_by: ask.ownership(),
        started_us: App::now_us(),
        updated_us: None,
        message: None,
    };
    match app.store.begin_action(&row).await {
        // The same request acts on one server once; a client that says its id twice is not our concern.
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn started(app: &App, ask: &Ask, instance: InstanceId, event: &str, host: &HostName) -> Answer<()> {
    Ok(app.store.start_event(instance, &ask.request_id, event, Some(host), App::now_us()).await?)
}

pub(super) async fn ended(app: &App, ask: &Ask, instance: InstanceId, event: &str, failed: Option<&str>) -> Answer<()> {
    app.store.end_event(instance, &ask.request_id, event, failed, App::now_us()).await?;
    Ok(())
}

/// The server's project, or that of its actions where the server is gone.
async fn readable(app: &App, ask: &Ask, id: &str) -> Answer<(InstanceId, Vec<ActionRow>)> {
    let missing = || Fault::new(404, format!("Instance {id} could not be found."));
    let instance: InstanceId = id.parse().map_err(|_| missing())?;
    let actions = app.store.list_actions(instance).await?;
    let project = match app.store.server(instance).await {
        Ok(row) => row.owner.project,
        Err(StoreError::NotFound { .. }) if ask.at >= DELETED_SINCE && !actions.is_empty() => {
            actions.last().and_then(|action| action.asked_by.project.clone())
        }
        Err(StoreError::NotFound { .. }) => return Err(missing().into()),
        Err(error) => return Err(error.into()),
    };
    if ask.may_in(Operation::ReadActions, project.as_ref()).is_err() {
        return Err(missing().into());
    }
    Ok((instance, actions))
}

pub(in super::super) async fn list(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let query = ask.query(if ask.at >= PAGED_SINCE { QUERY } else { &[] })?;
    let (instance, actions) = readable(&app, &ask, &id).await?;
    let time = |name: &str| {
        let bad = |text: &str| Fault::new(400, format!("Invalid input for query parameters {name}. Value: {text}."));
        query.get(name).map(|text| times::parse(text).ok_or_else(|| bad(text))).transpose()
    };
    let (mut actions, mut next) = (actions, None);
    if ask.at >= PAGED_SINCE {
        let (since, before) = (time("changes-since")?, time("changes-before")?);
        let changed = |action: &ActionRow| action.updated_us.unwrap_or(action.started_us);
        actions.retain(|action| since.is_none_or(|since| changed(action) >= since));
        actions.retain(|action| before.is_none_or(|before| changed(action) <= before));
        (actions, next) = query.page(actions, |action| &action.request_id)?;
    }
    let actions: Vec<InstanceAction> = actions.into_iter().map(|action| record(action, Vec::new())).collect();
    Ok(Json(instance_action::list(instance.0, &actions, next.as_deref(), &ask.view())))
}

pub(in super::super) async fn show(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, request_id)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let (instance, _) = readable(&app, &ask, &id).await?;
    let (action, events) = match app.store.action(instance, &request_id).await {
        Err(StoreError::NotFound { .. }) => {
            let why = format!("Action for request_id {request_id} on instance {id} not found");
            return Err(Fault::new(404, why).into());
        }
        other => other?,
    };
    Ok(Json(instance_action::show(&record(action, events), &ask.view())))
}

fn record(row: ActionRow, events: Vec<ActionEventRow>) -> InstanceAction {
    let Ownership { project, user } = row.asked_by;
    let project = project.map(String::from);
    let event = |event: ActionEventRow| Event {
        event: event.event,
        started: event.started_us,
        finished: event.finished_us,
        result: event.result.map(|result| match result {
            store::EventResult::Success => EventResult::Success,
            store::EventResult::Error => EventResult::Error,
        }),
        traceback: None,
        details: event.details,
        host_id: event
            .host
            .as_ref()
            .map_or_else(String::new, |host| host_id(project.as_deref().unwrap_or_default(), host)),
        host: event.host.map(|host| host.to_string()),
    };
    InstanceAction {
        events: events.into_iter().map(event).collect(),
        action: row.action,
        server_id: row.instance.0,
        request_id: row.request_id,
        user_id: user.map(String::from),
        project_id: project.clone(),
        started: row.started_us,
        updated: row.updated_us,
        message: row.message,
    }
}
