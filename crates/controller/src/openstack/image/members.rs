//! Members of an image: there are none. What others shall use is public or community.

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::Value;
use whimbrel_api::openstack::image::{fault::Fault, record};
use whimbrel_core::image::Visibility;

use super::{answer::Answer, ask::Ask};
use crate::app::Shared;

pub(super) async fn list(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.image(&app, &id).await?;
    Ok(Json(record::no_members()))
}

pub(super) async fn add(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let found = ask.writable(&app, &id).await?;
    Err(match found.visibility {
        Visibility::Shared => Fault::new(
            409,
            format!(
                "Image {id} cannot be shared with single projects here: set its visibility to community or public."
            ),
        ),
        Visibility::Public | Visibility::Community | Visibility::Private => {
            Fault::new(403, "Only shared images have members.")
        }
    }
    .into())
}

/// Also what changes or removes one.
pub(super) async fn show(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, member)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    ask.image(&app, &id).await?;
    Err(Fault::new(404, format!("{member} not found in the member list of the image {id}.")).into())
}
