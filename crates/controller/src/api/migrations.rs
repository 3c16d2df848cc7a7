//! Migrations: planned, begun, looked at, cancelled.

use axum::{Json, extract::State, http::StatusCode};
use whimbrel_api::{
    native::{Migration, NewMigration, Page, Plan},
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::MigrationId,
};
use whimbrel_store::{MigrationRow, StoreError};

use super::{page, servers};
use crate::{
    answer::{Answer, failure_of},
    app::{App, Shared},
    auth::{Admin, Reader},
    extract::{At, Body, PageOf},
    migrate,
};

/// What a move would do; nothing is touched.
#[utoipa::path(post, path = "/v1/servers/{server}/plan", params(("server" = String, Path, description = "id or name")),
    request_body = NewMigration, responses((status = 200, body = Plan), (status = "default", body = Problem)))]
pub(super) async fn plan(
    _: Admin,
    State(app): State<Shared>,
    At(server): At<String>,
    Body(new): Body<NewMigration>,
) -> Answer<Json<Plan>> {
    let row = servers::find(&app, &server).await?;
    Ok(Json(migrate::plan(&app, &row, &new).await?))
}

#[utoipa::path(post, path = "/v1/servers/{server}/migrations", params(("server" = String, Path, description = "id or name")),
    request_body = NewMigration, responses((status = 202, body = Migration), (status = "default", body = Problem)))]
pub(super) async fn create(
    _: Admin,
    State(app): State<Shared>,
    At(server): At<String>,
    Body(new): Body<NewMigration>,
) -> Answer<(StatusCode, Json<Migration>)> {
    let row = servers::find(&app, &server).await?;
    let created = migrate::create(&app, &row, &new, migrate::Wish::default()).await?;
    Ok((StatusCode::ACCEPTED, Json(migrate::view(&app, created))))
}

/// Oldest first.
#[utoipa::path(get, path = "/v1/migrations", params(("limit" = Option<u32>, Query), ("marker" = Option<String>, Query)),
    responses((status = 200, body = Page<Migration>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Reader, State(app): State<Shared>, PageOf(ask): PageOf) -> Answer<Json<Page<Migration>>> {
    Ok(page(app.store.list_migrations(None, &ask).await?, |row| migrate::view(&app, row)))
}

#[utoipa::path(get, path = "/v1/migrations/{migration}", params(("migration" = String, Path)),
    responses((status = 200, body = Migration), (status = "default", body = Problem)))]
pub(super) async fn show(_: Reader, State(app): State<Shared>, At(migration): At<String>) -> Answer<Json<Migration>> {
    let row = find(&app, &migration).await?;
    Ok(Json(migrate::view(&app, row)))
}

/// Before the switchover is committed the guest stays where it is; after that it is too late.
#[utoipa::path(post, path = "/v1/migrations/{migration}/cancel", params(("migration" = String, Path)),
    responses((status = 202, body = Migration), (status = "default", body = Problem)))]
pub(super) async fn cancel(
    _: Admin,
    State(app): State<Shared>,
    At(migration): At<String>,
) -> Answer<(StatusCode, Json<Migration>)> {
    let row = find(&app, &migration).await?;
    let row = migrate::cancel(&app, row.id).await?;
    Ok((StatusCode::ACCEPTED, Json(migrate::view(&app, row))))
}

async fn find(app: &App, id: &str) -> Result<MigrationRow, Failure> {
    let unknown =
        || Failure::new(FailureCode::NotFound, format!("no migration '{id}'")).hint("see `whimbrel migration list`");
    let parsed: MigrationId = id.parse().map_err(|_| unknown())?;
    match app.store.migration(parsed).await {
        Err(StoreError::NotFound { .. }) => Err(unknown()),
        other => other.map_err(failure_of),
    }
}
