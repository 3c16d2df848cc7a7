//! Where everything is: the catalog, and the lists of services, endpoints and regions behind it. They are what this
//! controller serves, and nobody can change them.

use axum::{Json, extract::Path};
use serde::Deserialize;
use serde_json::{Value, json};
use whimbrel_api::openstack::identity::{
    fault::Fault,
    records,
    token::{self, REGION, SERVICES, Service},
};
use whimbrel_core::identity::policy::{Operation, Target};

use super::{
    answer::{Answer, Query},
    caller::Caller,
};
use crate::openstack::BaseUrl;

pub(super) async fn show(caller: Caller, BaseUrl(base): BaseUrl) -> Answer<Json<Value>> {
    caller.may(Operation::ReadOneself, Target::default())?;
    Ok(Json(records::list_of(&base, "auth/catalog", "catalog", token::catalog(&base))))
}

#[derive(Deserialize)]
pub(super) struct ServiceFilter {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
}

pub(super) async fn services(
    caller: Caller,
    BaseUrl(base): BaseUrl,
    Query(filter): Query<ServiceFilter>,
) -> Answer<Json<Value>> {
    caller.may(Operation::ReadServices, Target::default())?;
    let matches = |service: &&Service| {
        filter.kind.as_ref().is_none_or(|kind| kind == service.kind)
            && filter.name.as_ref().is_none_or(|name| name == service.name)
    };
    let items = SERVICES.iter().filter(matches).map(service_body).collect();
    Ok(Json(records::list(&base, "services", items)))
}

pub(super) async fn service(caller: Caller, Path(id): Path<String>) -> Answer<Json<Value>> {
    caller.may(Operation::ReadServices, Target::default())?;
    let found = SERVICES.iter().find(|service| service.id() == id);
    let service = found.ok_or_else(|| Fault::not_found("service", &id))?;
    Ok(Json(json!({ "service": service_body(service) })))
}

fn service_body(service: &Service) -> Value {
    json!({ "id": service.id(), "type": service.kind, "name": service.name, "enabled": true, "description": "" })
}

pub(super) async fn endpoints(caller: Caller, BaseUrl(base): BaseUrl) -> Answer<Json<Value>> {
    caller.may(Operation::ReadServices, Target::default())?;
    let mut items = Vec::new();
    for service in &SERVICES {
        for mut endpoint in service.endpoints(&base) {
            endpoint["service_id"] = json!(service.id());
            endpoint["enabled"] = json!(true);
            items.push(endpoint);
        }
    }
    Ok(Json(records::list(&base, "endpoints", items)))
}

pub(super) async fn regions(caller: Caller, BaseUrl(base): BaseUrl) -> Answer<Json<Value>> {
    caller.may(Operation::ReadOneself, Target::default())?;
    let region = json!({ "id": REGION, "description": "", "parent_region_id": null });
    Ok(Json(records::list(&base, "regions", vec![region])))
}
