//! Nova's Compute API.
//!
//! ```text
//! request -> version (microversion chosen, echoed) -> caller (token) -> handler -> store
//!                                                                        `-> api::openstack::compute (body at that version)
//! ```
//!
//! Ground rules: a handler never asks for a version: it hands its record and the `View` to `api`; every answer says at which
//! version it was made, refusals too.
mod aggregates;
mod answer;
mod ask;
mod flavor_extras;
mod flavors;
mod host_sizes;
mod hosts;
mod hypervisors;
mod keypairs;
mod made_key;
mod public_key;
mod quotas;
mod server_groups;
pub(crate) mod servers;
mod services;
mod usage;
mod version;
mod zones;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::{compute::versions, fault::Fault};

use self::answer::Refused;
use super::{BaseUrl, answer::readable};
use crate::{
    app::Shared,
    routes::{Routes, get, post},
};

/// Of the whole service, and of its versioned part.
const ROOT: &str = "/compute";
const VERSIONED: &str = "/compute/v2.1";

pub fn router() -> Routes {
    let versioned = Routes::new()
        .route("/flavors", get(flavors::list).post(flavors::create))
        .route("/flavors/detail", get(flavors::detail))
        .route("/flavors/{id}", get(flavors::show).put(flavors::update).delete(flavors::delete))
        .route("/flavors/{id}/action", post(flavor_extras::change_access))
        .route("/flavors/{id}/os-flavor-access", get(flavor_extras::access))
        .route("/flavors/{id}/os-extra_specs", get(flavor_extras::specs).post(flavor_extras::set))
        .route(
            "/flavors/{id}/os-extra_specs/{key}",
            get(flavor_extras::spec).put(flavor_extras::set_one).delete(flavor_extras::remove),
        )
        .merge(servers())
        .merge(hosts::routes())
        .merge(tenancy())
        .fallback(no_such_call)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(readable::<Refused>))
        .layer(middleware::from_fn(version::negotiate));
    Routes::new()
        .route(ROOT, get(all_versions))
        .route("/compute/", get(all_versions))
        .route("/compute/v2", get(legacy_version))
        .route("/compute/v2/", get(legacy_version))
        .route(VERSIONED, get(this_version))
        .route("/compute/v2.1/", get(this_version))
        .nest(VERSIONED, versioned)
}

fn servers() -> Routes {
    use servers::{action, change, create, history, interfaces, list, metadata, migrations};
    Routes::new()
        .route("/servers", get(list::list).post(create::create))
        .route("/servers/detail", get(list::detail))
        .route("/servers/{id}", get(change::show).put(change::update).delete(change::delete))
        .route("/servers/{id}/action", post(action::act))
        .route("/servers/{id}/metadata", get(metadata::all).post(metadata::add).put(metadata::replace))
        .route("/servers/{id}/metadata/{key}", get(metadata::one).put(metadata::set_one).delete(metadata::remove_one))
        .route("/servers/{id}/tags", get(metadata::all_tags).put(metadata::set_tags).delete(metadata::remove_tags))
        .route("/servers/{id}/tags/{tag}", get(metadata::has_tag).put(metadata::add_tag).delete(metadata::remove_tag))
        .route("/servers/{id}/ips", get(metadata::ips))
        .route("/servers/{id}/ips/{network}", get(metadata::ips_of))
        .route("/servers/{id}/os-interface", get(interfaces::list))
        .route("/servers/{id}/os-interface/{port}", get(interfaces::show))
        .route("/servers/{id}/os-instance-actions", get(history::list))
        .route("/servers/{id}/os-instance-actions/{request_id}", get(history::show))
        .route("/servers/{id}/migrations", get(migrations::of_server))
        .route("/servers/{id}/migrations/{number}", get(migrations::show).delete(migrations::abort))
        .route("/servers/{id}/migrations/{number}/action", post(migrations::act))
        .route("/os-migrations", get(migrations::list))
}

/// What users have besides servers, and how much of it they may have.
fn tenancy() -> Routes {
    Routes::new()
        .route("/os-keypairs", get(keypairs::list).post(keypairs::create))
        .route("/os-keypairs/{name}", get(keypairs::show).delete(keypairs::delete))
        .route("/limits", get(quotas::show_limits))
        .route("/os-quota-sets/{project}", get(quotas::show).put(quotas::update).delete(quotas::delete))
        .route("/os-quota-sets/{project}/detail", get(quotas::detail))
        .route("/os-quota-sets/{project}/defaults", get(quotas::defaults))
        .route("/os-quota-class-sets/{class}", get(quotas::show_class).put(quotas::update_class))
        .route("/os-simple-tenant-usage", get(usage::list))
        .route("/os-simple-tenant-usage/{project}", get(usage::show))
        .route("/os-server-groups", get(server_groups::list).post(server_groups::create))
        .route("/os-server-groups/{id}", get(server_groups::show).delete(server_groups::delete))
}

async fn all_versions(State(app): State<Shared>, BaseUrl(base): BaseUrl) -> Response {
    Json(versions::list(&format!("{base}{ROOT}"), app.microversions)).into_response()
}

async fn this_version(State(app): State<Shared>, BaseUrl(base): BaseUrl) -> Response {
    Json(versions::show(&format!("{base}{ROOT}"), app.microversions)).into_response()
}

async fn legacy_version(State(app): State<Shared>, BaseUrl(base): BaseUrl) -> Response {
    Json(versions::show_legacy(&format!("{base}{ROOT}"), app.microversions)).into_response()
}

async fn no_such_call(uri: Uri) -> Response {
    tracing::debug!(path = uri.path(), "there is no such call");
    Refused::from(Fault::new(StatusCode::NOT_FOUND.as_u16(), "The resource could not be found.")).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    tracing::debug!(path = uri.path(), "it does not take this method");
    Refused::from(Fault::new(StatusCode::METHOD_NOT_ALLOWED.as_u16(), "The method is not allowed for this resource."))
        .into_response()
}
