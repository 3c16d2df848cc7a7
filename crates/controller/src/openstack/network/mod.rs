//! Neutron's Network API, as much of it as networks on the hosts' own bridges need.
//!
//! ```text
//! request -> caller (token) -> policy -> handler -> store (turn of the network) -> api::openstack::network (body)
//! server is made -> allocate -> ports with MAC, addresses, bridge and VLAN -> instance's NICs
//! ```
//!
//! Ground rules: a network is a wire that an administrator names; who may not see a thing is told that it is not there, who may
//! see and not change it is told so; routers and floating IPs are not offered, which their empty lists say.
pub(crate) mod allocate;
mod answer;
mod ask;
mod networks;
mod orphans;
mod ports;
mod rules;
mod security_groups;
mod service;
mod subnets;

use axum::{
    http::Uri,
    middleware,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::network::fault::Fault;

use self::answer::Refused;
pub use self::orphans::release_orphans;
use super::answer::readable;
use crate::routes::{Routes, get};

/// Of the whole service, and of its versioned part.
const ROOT: &str = "/network";
const VERSIONED: &str = "/network/v2.0";

pub fn router() -> Routes {
    let versioned = Routes::new()
        .route("/networks", get(networks::list).post(networks::create))
        .route("/networks/{id}", get(networks::show).put(networks::update).delete(networks::delete))
        .route("/subnets", get(subnets::list).post(subnets::create))
        .route("/subnets/{id}", get(subnets::show).put(subnets::update).delete(subnets::delete))
        .route("/ports", get(ports::list).post(ports::create))
        .route("/ports/{id}", get(ports::show).put(ports::update).delete(ports::delete))
        .route("/security-groups", get(security_groups::list).post(security_groups::create))
        .route(
            "/security-groups/{id}",
            get(security_groups::show).put(security_groups::update).delete(security_groups::delete),
        )
        .route("/security-group-rules", get(rules::list).post(rules::create))
        .route("/security-group-rules/{id}", get(rules::show).delete(rules::delete))
        .route("/routers", get(service::no_routers))
        .route("/floatingips", get(service::no_floating_ips))
        .route("/extensions", get(service::extensions))
        .route("/extensions/{alias}", get(service::extension))
        .route("/availability_zones", get(service::availability_zones))
        .route("/quotas/{project}", get(service::quota))
        .route("/quotas/{project}/default", get(service::quota))
        .fallback(no_such_call)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(readable::<Refused>));
    Routes::new()
        .route(ROOT, get(service::versions))
        .route("/network/", get(service::versions))
        .route(VERSIONED, get(service::resources))
        .route("/network/v2.0/", get(service::resources))
        .nest(VERSIONED, versioned)
}

async fn no_such_call(uri: Uri) -> Response {
    tracing::debug!(path = uri.path(), "there is no such call");
    Refused::from(Fault::new(404, "HTTPNotFound", "The resource could not be found.")).into_response()
}

async fn wrong_method(uri: Uri) -> Response {
    tracing::debug!(path = uri.path(), "it does not take this method");
    let told = "The method is not allowed for this resource.";
    Refused::from(Fault::new(405, "HTTPMethodNotAllowed", told)).into_response()
}
