//! Flavors: size templates.

use axum::{Json, extract::State, http::StatusCode};
use uuid::Uuid;
use whimbrel_api::{
    native::{Flavor, NewFlavor, Page},
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::FlavorId,
};
use whimbrel_store::{FlavorRow, StoreError};

use super::{check_name, page};
use crate::{
    answer::{Answer, failure_of},
    app::{App, Shared, names_ask, unknown},
    auth::{Admin, Reader},
    extract::{At, Body, PageOf},
};

/// As QEMU's q35 takes.
const VCPUS_MAX: u32 = 288;
const RAM_MB_MIN: u64 = 16;
const RAM_MB_MAX: u64 = 16 << 20;
/// 1 PiB, in either unit.
const DISK_GB_MAX: u64 = 1 << 20;
const SWAP_MB_MAX: u64 = 1 << 30;

#[utoipa::path(post, path = "/v1/flavors", request_body = NewFlavor,
    responses((status = 201, body = Flavor), (status = "default", body = Problem)))]
pub(super) async fn create(
    _: Admin,
    State(app): State<Shared>,
    Body(new): Body<NewFlavor>,
) -> Answer<(StatusCode, Json<Flavor>)> {
    check(&new)?;
    let id = FlavorId(Uuid::now_v7());
    let row = FlavorRow {
        id,
        name: new.name,
        vcpus: new.vcpus,
        ram_mb: new.ram_mb,
        disk_gb: new.disk_gb,
        ephemeral_gb: new.ephemeral_gb,
        swap_mb: new.swap_mb,
        flavorid: new.flavorid.unwrap_or_else(|| id.to_string()),
        rxtx_factor: 1.0,
        public: true,
        description: None,
        created_us: App::now_us(),
    };
    app.store.create_flavor(&row).await?;
    Ok((StatusCode::CREATED, Json(view(row))))
}

#[utoipa::path(get, path = "/v1/flavors", params(("limit" = Option<u32>, Query), ("marker" = Option<String>, Query)),
    responses((status = 200, body = Page<Flavor>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Reader, State(app): State<Shared>, PageOf(ask): PageOf) -> Answer<Json<Page<Flavor>>> {
    Ok(page(app.store.list_flavors(&ask).await?, view))
}

#[utoipa::path(get, path = "/v1/flavors/{flavor}", params(("flavor" = String, Path, description = "id or name")),
    responses((status = 200, body = Flavor), (status = "default", body = Problem)))]
pub(super) async fn show(_: Reader, State(app): State<Shared>, At(flavor): At<String>) -> Answer<Json<Flavor>> {
    Ok(Json(view(find(&app, &flavor).await?)))
}

#[utoipa::path(delete, path = "/v1/flavors/{flavor}", params(("flavor" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(_: Admin, State(app): State<Shared>, At(flavor): At<String>) -> Answer<StatusCode> {
    let row = find(&app, &flavor).await?;
    app.store.delete_flavor(row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn find(app: &App, id_or_name: &str) -> Result<FlavorRow, Failure> {
    match app.store.flavor(id_or_name).await {
        Err(StoreError::NotFound { .. }) => {
            let known = app.store.list_flavors(&names_ask()).await.map(|page| page.items).unwrap_or_default();
            Err(unknown("flavor", id_or_name, known.into_iter().map(|flavor| flavor.name).collect()))
        }
        other => other.map_err(failure_of),
    }
}

fn check(new: &NewFlavor) -> Result<(), Failure> {
    check_name("flavor", &new.name)?;
    let within = |what: &str, value: u64, min: u64, max: u64| {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        let detail = format!("flavor '{}': {what} of {value} is not within {min} to {max}", new.name);
        Err(Failure::new(FailureCode::BadRequest, detail).hint("give a value within these bounds"))
    };
    within("vcpus", new.vcpus.into(), 1, VCPUS_MAX.into())?;
    within("ram_mb", new.ram_mb, RAM_MB_MIN, RAM_MB_MAX)?;
    within("disk_gb", new.disk_gb, 0, DISK_GB_MAX)?;
    within("ephemeral_gb", new.ephemeral_gb, 0, DISK_GB_MAX)?;
    within("swap_mb", new.swap_mb, 0, SWAP_MB_MAX)
}

fn view(row: FlavorRow) -> Flavor {
    Flavor {
        id: row.id,
        flavor: NewFlavor {
            name: row.name,
            flavorid: Some(row.flavorid),
            vcpus: row.vcpus,
            ram_mb: row.ram_mb,
            disk_gb: row.disk_gb,
            ephemeral_gb: row.ephemeral_gb,
            swap_mb: row.swap_mb,
        },
    }
}
