//! What an owner changes of a server: its names and words, and whether it is there at all.
//!
//! Ground rules: a change names the generation that was read and is tried again where somebody was faster; who deletes ends
//! whatever is under way first, and a server that moves goes when its move has ended.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::{
        action::states,
        server::{answer, record::DiskConfig, update},
    },
    fault::Fault,
};
use whimbrel_core::{failure::FailureCode, identity::policy::Operation, server::ServerDetails};
use whimbrel_store::{InstanceRow, StoreError, TaskState};

use super::{
    super::{
        answer::{Answer, Body, Refused},
        ask::Ask,
    },
    find, history, record, seen,
};
use crate::{
    app::{App, Shared},
    migrate,
};

const TRIES: u32 = 10;

pub(in super::super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = seen(&app, &ask, &id).await?;
    Ok(Json(answer::show(&record::one(&app, row).await?, &ask.view())))
}

pub(in super::super) async fn update(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let row = find(&app, &ask, &id, Operation::WriteServers).await?;
    let wanted = update::parse(&body, ask.at)?;
    let row = described(&app, row, |name, details| {
        if let Some(new) = &wanted.name {
            *name = new.clone();
        }
        if let Some(description) = &wanted.description {
            details.description = description.clone();
        }
        if let Some(config) = wanted.disk_config {
            details.disk_config_manual = config == DiskConfig::Manual;
        }
        if let Some(ip) = wanted.access_ipv4 {
            details.access_ipv4 = Some(ip.to_string());
        }
        if let Some(ip) = wanted.access_ipv6 {
            details.access_ipv6 = Some(ip.to_string());
        }
        if let Some(hostname) = &wanted.hostname {
            details.hostname = hostname.clone();
        }
        Ok(())
    })
    .await?;
    Ok(Json(answer::updated(&record::one(&app, row).await?, &ask.view())))
}

/// Changes name and details, on what they are when the change is stored; returns the server as it is then.
pub(super) async fn described(
    app: &App,
    mut row: InstanceRow,
    change: impl Fn(&mut String, &mut ServerDetails) -> Result<(), Fault>,
) -> Answer<InstanceRow> {
    for _ in 0..TRIES {
        let (mut name, mut details) = (row.name.clone(), row.details.clone());
        change(&mut name, &mut details)?;
        match app.store.describe_server(row.id, row.generation, &name, &details, App::now_us()).await {
            Ok(()) => return Ok(app.store.server(row.id).await?),
            Err(StoreError::Conflict { .. }) => row = app.store.server(row.id).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Fault::new(409, format!("Instance {} changes too fast: try again.", row.id)).into())
}

/// Its move is cancelled where that can be; whatever its end, the server goes then. False if it does not move any more.
async fn delete_after_move(app: &Shared, row: &InstanceRow) -> Answer<bool> {
    // First, so that the move's end finds it.
    if !app.store.doom_server(row.id, App::now_us()).await? {
        return Ok(false);
    }
    if let Some(migration) = app.store.unfinished_migration_of(row.id).await? {
        match migrate::cancel(app, migration.id).await {
            Ok(_) => {}
            // Past its point of no return: it ends soon.
            Err(error) if error.failure().code == FailureCode::Conflict => {}
            Err(error) => return Err(Refused::from(error)),
        }
    }
    Ok(true)
}

pub(in super::super) async fn delete(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let mut row = find(&app, &ask, &id, Operation::WriteServers).await?;
    if row.details.lock.is_some() && !ask.is_admin() {
        return Err(states::locked(&id).into());
    }
    history::begun(&app, &ask, row.id, "delete").await?;
    for _ in 0..TRIES {
        match row.task {
            Some(TaskState::Deleting) => return Ok(StatusCode::NO_CONTENT),
            Some(TaskState::Migrating) => {
                if delete_after_move(&app, &row).await? {
                    return Ok(StatusCode::NO_CONTENT);
                }
                row = seen(&app, &ask, &id).await?;
                continue;
            }
            Some(_) | None => {}
        }
        match app.store.change_task(row.id, row.task, Some(TaskState::Deleting), App::now_us()).await {
            Err(StoreError::Conflict { .. }) => row = seen(&app, &ask, &id).await?,
            other => {
                other?;
                app.servers_changed.notify_one();
                return Ok(StatusCode::NO_CONTENT);
            }
        }
    }
    Err(Fault::new(409, format!("Instance {id} changes too fast: try again.")).into())
}
