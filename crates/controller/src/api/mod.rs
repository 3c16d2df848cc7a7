//! The handlers of the native API, one file per noun, and their router.
//!
//! Ground rules: a handler checks, writes what is wanted, and answers; nothing here waits for an agent to do work. Every
//! body is bounded, every refusal is problem JSON.
mod blobs;
mod bootstrap;
mod flavors;
mod hosts;
pub(crate) mod images;
mod join;
mod migrations;
mod openapi;
mod servers;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
    routing::{get, post, put},
};
use whimbrel_api::native::{Page, Version};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{answer::ApiError, app::Shared, openstack};

const BODY_BYTES_MAX: usize = 1 << 20;
/// A host with thousands of instances.
const HEARTBEAT_BYTES_MAX: usize = 16 << 20;
const PRODUCT: &str = "whimbrel";
const API_VERSION: &str = "v1";

pub fn router(app: Shared) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/openapi.json", get(openapi::serve))
        .route("/v1/flavors", get(flavors::list).post(flavors::create))
        .route("/v1/flavors/{flavor}", get(flavors::show).delete(flavors::delete))
        .route("/v1/images", get(images::list).post(images::create))
        .route("/v1/images/{image}", get(images::show).delete(images::delete))
        .route("/v1/images/{image}/content/{part}", put(images::upload).layer(DefaultBodyLimit::disable()))
        .route("/v1/blobs/{digest}", get(blobs::download))
        .route("/v1/servers", get(servers::list).post(servers::create))
        .route("/v1/servers/{server}", get(servers::show).delete(servers::delete))
        .route("/v1/servers/{server}/start", post(servers::start))
        .route("/v1/servers/{server}/stop", post(servers::stop))
        .route("/v1/servers/{server}/plan", post(migrations::plan))
        .route("/v1/servers/{server}/migrations", post(migrations::create))
        .route("/v1/migrations", get(migrations::list))
        .route("/v1/migrations/{migration}", get(migrations::show))
        .route("/v1/migrations/{migration}/cancel", post(migrations::cancel))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/hosts/{host}", get(hosts::show))
        .route("/v1/hosts/{host}/heartbeat", put(hosts::heartbeat).layer(DefaultBodyLimit::max(HEARTBEAT_BYTES_MAX)))
        .route("/v1/join-tokens", post(join::create_token))
        .route("/v1/join", post(join::join))
        .route("/v1/renew", post(join::renew))
        .route("/v1/bootstrap", post(bootstrap::bootstrap))
        .merge(openstack::router(&app))
        .fallback(no_such_call)
        .method_not_allowed_fallback(no_such_call)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

/// What this is; answers anyone.
#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version {
        product: PRODUCT.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: API_VERSION.to_owned(),
    })
}

async fn no_such_call(method: Method, uri: Uri) -> ApiError {
    Failure::new(FailureCode::NotFound, format!("there is no call {method} {}", uri.path()))
        .hint("see GET /v1/openapi.json for the calls")
        .into()
}

fn page<Row, Item>(rows: whimbrel_store::Page<Row>, item: impl FnMut(Row) -> Item) -> Json<Page<Item>> {
    Json(Page { items: rows.items.into_iter().map(item).collect(), next: rows.next })
}

/// Names are shown in errors and tables, and given on command lines.
const NAME_CHARS_MAX: usize = 255;

fn check_name(object: &str, name: &str) -> Result<(), Failure> {
    let good = !name.trim().is_empty()
        && name.trim() == name
        && name.chars().count() <= NAME_CHARS_MAX
        && !name.chars().any(char::is_control);
    if good {
        return Ok(());
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    Err(Failure::new(FailureCode::BadRequest, format!("'{shown}' is no {object} name"))
        .hint(format!("use 1 to {NAME_CHARS_MAX} printable characters, with no space at either end")))
}
