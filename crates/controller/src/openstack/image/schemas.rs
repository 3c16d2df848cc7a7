//! What the API's objects look like.

use axum::{Json, extract::Path};
use serde_json::Value;
use whimbrel_api::openstack::image::{fault::Fault, schema};

use super::{answer::Answer, ask::Ask};

pub(super) async fn show(_: Ask, Path(name): Path<String>) -> Answer<Json<Value>> {
    let schema = match name.as_str() {
        "image" => schema::image(),
        "images" => schema::images(),
        "member" => schema::member(),
        "members" => schema::members(),
        _ => return Err(Fault::new(404, format!("There is no schema {name}.")).into()),
    };
    Ok(Json(schema))
}
