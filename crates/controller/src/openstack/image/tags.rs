//! Tags of an image, one by one.

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use whimbrel_api::openstack::image::{fault::Fault, fields::Said};

use super::{answer::Answer, ask::Ask, entry};
use crate::app::{App, Shared};

pub(super) async fn add(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, tag)): Path<(String, String)>,
) -> Answer<StatusCode> {
    change(&ask, &app, &id, |said| said.add_tag(&tag)).await
}

pub(super) async fn remove(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, tag)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let missing = || Fault::new(404, format!("Image {id} has no tag {tag}."));
    change(&ask, &app, &id, |said| if said.tags.remove(&tag) { Ok(()) } else { Err(missing()) }).await
}

async fn change(
    ask: &Ask,
    app: &App,
    id: &str,
    change: impl FnOnce(&mut Said) -> Result<(), Fault>,
) -> Answer<StatusCode> {
    let mut found = ask.writable(app, id).await?;
    let mut said = entry::said(&found);
    change(&mut said)?;
    entry::say(&mut found, said)?;
    app.store.change_image(&found, App::now_us()).await?;
    Ok(StatusCode::NO_CONTENT)
}
