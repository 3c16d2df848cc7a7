//! What the service says of itself, and the lists of what it has not.

use axum::{Json, extract::Path};
use serde_json::{Value, json};
use whimbrel_api::openstack::network::{
    networks::NETWORK, port::PORT, security_group::SECURITY_GROUP, security_group_rule::SECURITY_GROUP_RULE, service,
    subnet::SUBNET,
};
use whimbrel_core::identity::{ProjectId, policy::Operation};

use super::{ROOT, answer::Answer, ask::Ask};
use crate::openstack::BaseUrl;

/// Where servers are too, as long as nobody makes other zones.
const ZONE: &str = "nova";

pub(super) async fn versions(BaseUrl(base): BaseUrl) -> Json<Value> {
    Json(service::versions(&format!("{base}{ROOT}")))
}

pub(super) async fn resources(ask: Ask, BaseUrl(base): BaseUrl) -> Answer<Json<Value>> {
    ask.may(Operation::ReadNetworkService, None)?;
    let names = [&NETWORK, &SUBNET, &PORT, &SECURITY_GROUP, &SECURITY_GROUP_RULE]
        .map(|resource| (resource.name, resource.collection));
    Ok(Json(service::resources(&format!("{base}{ROOT}"), &names)))
}

pub(super) async fn extensions(ask: Ask) -> Answer<Json<Value>> {
    ask.may(Operation::ReadNetworkService, None)?;
    Ok(Json(service::extensions()))
}

pub(super) async fn extension(ask: Ask, Path(alias): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadNetworkService, None)?;
    Ok(Json(service::extension_by(&alias)?))
}

pub(super) async fn availability_zones(ask: Ask) -> Answer<Json<Value>> {
    ask.may(Operation::ReadNetworkService, None)?;
    Ok(Json(service::availability_zones(ZONE)))
}

pub(super) async fn quota(ask: Ask, Path(project): Path<String>) -> Answer<Json<Value>> {
    let project = project.parse::<ProjectId>().ok();
    ask.may(Operation::ReadNetworkQuotas, project.as_ref())?;
    Ok(Json(service::quota()))
}

pub(super) async fn no_routers(ask: Ask) -> Answer<Json<Value>> {
    ask.may(Operation::ReadNetworkService, None)?;
    Ok(Json(json!({ "routers": [] })))
}

pub(super) async fn no_floating_ips(ask: Ask) -> Answer<Json<Value>> {
    ask.may(Operation::ReadNetworkService, None)?;
    Ok(Json(json!({ "floatingips": [] })))
}
