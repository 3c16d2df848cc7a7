//! Servers: made, listed, started, stopped, deleted. The reconciler brings what is wanted to the agents.

use std::collections::HashMap;

use axum::{Json, extract::State, http::StatusCode};
use uuid::Uuid;
use whimbrel_api::{
    native::{NewServer, Page, Server},
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::{HostName, InstanceId},
    quota::UNLIMITED,
    schedule::Wishes,
    server::{Ownership, ServerDetails},
};
use whimbrel_store::{Desired, HostState, InstanceRow, StoreError, TaskState};

use super::{check_name, flavors, images};
use crate::{
    answer::{Answer, failure_of},
    app::{App, Shared, names_ask, unknown},
    auth::{Member, Reader},
    books::usable,
    config_drive,
    extract::{At, Body, PageOf},
    openstack::image::bootable,
    placement, server_view, spec,
};

const TASK_TRIES: u32 = 8;

#[utoipa::path(post, path = "/v1/servers", request_body = NewServer,
    responses((status = 202, body = Server), (status = "default", body = Problem)))]
pub(super) async fn create(
    _: Member,
    State(app): State<Shared>,
    Body(new): Body<NewServer>,
) -> Answer<(StatusCode, Json<Server>)> {
    check_name("server", &new.name)?;
    images::check_command_line(new.os_command_line.as_deref())?;
    let flavor = flavors::find(&app, &new.flavor).await?;
    let image = images::find(&app, &new.image).await?;
    let image = bootable(&app, app.store.image_entry(image.id).await?, |_| true).await?.image;
    let hosts = app.all_hosts().await?;
    let up: Vec<HostFacts> = hosts.iter().filter_map(|host| usable(host).ok().cloned()).collect();
    let taken = placement::taken_macs(&app).await?;
    let mut spec = spec::build(InstanceId(Uuid::now_v7()), &new, &flavor, &image, &up, &taken)?;
    if let Some(drive) = config_drive::of_new_server(&new, spec.id, &flavor)? {
        spec.disks.push(config_drive::build(&app, &drive).await?);
    }
    let candidates = placement::candidates(&app, new.host.as_deref()).await?;
    let extra_specs = app.store.extra_specs(Some(flavor.id)).await?.remove(&flavor.id).unwrap_or_default();
    let wanted = placement::NewServer {
        spec,
        flavor: flavor.id,
        image: image.id,
        owner: Ownership::default(),
        details: ServerDetails::default(),
        wishes: Wishes { extra_specs, ..Wishes::default() },
        limits: None,
        group_members_max: UNLIMITED,
    };
    let spec = wanted.spec.clone();
    let created = match placement::place(&app, wanted, &candidates).await {
        Ok(created) => created,
        Err(refused) => {
            config_drive::forget(&app, &spec).await?;
            return Err(refused);
        }
    };
    let row = find(&app, &created.to_string()).await?;
    Ok((StatusCode::ACCEPTED, Json(one_view(&app, row).await?)))
}

#[utoipa::path(get, path = "/v1/servers", params(("limit" = Option<u32>, Query), ("marker" = Option<String>, Query)),
    responses((status = 200, body = Page<Server>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Reader, State(app): State<Shared>, PageOf(ask): PageOf) -> Answer<Json<Page<Server>>> {
    let rows = app.store.list_instances(None, &ask).await?;
    let states: HashMap<HostName, HostState> =
        app.all_hosts().await?.into_iter().map(|host| (host.name, host.state)).collect();
    let mut items = Vec::new();
    for row in rows.items {
        let state = states.get(&row.host).copied().unwrap_or(HostState::Down);
        items.push(server_view::view(&app, row, state).await?);
    }
    Ok(Json(Page { items, next: rows.next }))
}

#[utoipa::path(get, path = "/v1/servers/{server}", params(("server" = String, Path, description = "id or name")),
    responses((status = 200, body = Server), (status = "default", body = Problem)))]
pub(super) async fn show(_: Reader, State(app): State<Shared>, At(server): At<String>) -> Answer<Json<Server>> {
    let row = find(&app, &server).await?;
    Ok(Json(one_view(&app, row).await?))
}

#[utoipa::path(delete, path = "/v1/servers/{server}", params(("server" = String, Path, description = "id or name")),
    responses((status = 202, description = "it goes as soon as its hosts have let go of it"), (status = "default", body = Problem)))]
pub(super) async fn delete(_: Member, State(app): State<Shared>, At(server): At<String>) -> Answer<StatusCode> {
    let row = find(&app, &server).await?;
    begin(&app, &row, TaskState::Deleting).await?;
    app.servers_changed.notify_one();
    Ok(StatusCode::ACCEPTED)
}

#[utoipa::path(post, path = "/v1/servers/{server}/start", params(("server" = String, Path, description = "id or name")),
    responses((status = 202, body = Server), (status = "default", body = Problem)))]
pub(super) async fn start(
    _: Member,
    State(app): State<Shared>,
    At(server): At<String>,
) -> Answer<(StatusCode, Json<Server>)> {
    want(&app, &server, Desired::Running, TaskState::Starting).await
}

#[utoipa::path(post, path = "/v1/servers/{server}/stop", params(("server" = String, Path, description = "id or name")),
    responses((status = 202, body = Server), (status = "default", body = Problem)))]
pub(super) async fn stop(
    _: Member,
    State(app): State<Shared>,
    At(server): At<String>,
) -> Answer<(StatusCode, Json<Server>)> {
    want(&app, &server, Desired::Stopped, TaskState::Stopping).await
}

async fn want(app: &Shared, server: &str, desired: Desired, task: TaskState) -> Answer<(StatusCode, Json<Server>)> {
    let row = find(app, server).await?;
    begin(app, &row, task).await?;
    app.store.set_instance_failure(row.id, None, App::now_us()).await?;
    app.store.set_desired(row.id, desired, App::now_us()).await?;
    app.servers_changed.notify_one();
    let row = find(app, &row.id.to_string()).await?;
    Ok((StatusCode::ACCEPTED, Json(one_view(app, row).await?)))
}

/// The newest wish rules, but for a move or a deletion that is under way.
async fn begin(app: &App, row: &InstanceRow, task: TaskState) -> Answer<()> {
    let mut now = row.task;
    // The reconciler may end a task between our look and our change.
    for _ in 0..TASK_TRIES {
        match now {
            Some(TaskState::Migrating) => {
                return Err(Failure::new(FailureCode::Conflict, format!("server '{}' is migrating", row.name))
                    .hint("wait for the migration's end, or cancel it: see `whimbrel migration list`")
                    .into());
            }
            Some(TaskState::Deleting) if task != TaskState::Deleting => {
                return Err(Failure::new(FailureCode::Conflict, format!("server '{}' is being deleted", row.name))
                    .hint("make a new server")
                    .into());
            }
            Some(same) if same == task => return Ok(()),
            Some(
                TaskState::Building
                | TaskState::Starting
                | TaskState::Stopping
                | TaskState::Pausing
                | TaskState::Unpausing
                | TaskState::Rebooting
                | TaskState::RebootingHard
                | TaskState::Deleting,
            )
            | None => {}
        }
        match app.store.change_task(row.id, now, Some(task), App::now_us()).await {
            Err(StoreError::Conflict { .. }) => now = app.store.instance(&row.id.to_string()).await?.task,
            other => return Ok(other?),
        }
    }
    let detail = format!("server '{}' changes too fast to be {task} now", row.name);
    Err(Failure::new(FailureCode::Conflict, detail).hint("try again").into())
}

pub(super) async fn find(app: &App, id_or_name: &str) -> Result<InstanceRow, Failure> {
    match app.store.instance(id_or_name).await {
        Err(StoreError::NotFound { .. }) => {
            let known = app.store.list_instances(None, &names_ask()).await.map(|page| page.items).unwrap_or_default();
            Err(unknown("server", id_or_name, known.into_iter().map(|server| server.name).collect()))
        }
        other => other.map_err(failure_of),
    }
}

async fn one_view(app: &App, row: InstanceRow) -> Answer<Server> {
    let state = app.store.host(&row.host).await.map_or(HostState::Down, |host| host.state);
    Ok(server_view::view(app, row, state).await?)
}
