//! Images: made, listed, shown, changed, deleted.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use uuid::Uuid;
use whimbrel_api::openstack::image::{
    PATCH_TYPE, create as creation, fault::Fault, fields::Said, list as listing, patch,
};
use whimbrel_core::{
    id::ImageId,
    identity::policy::Operation,
    image::{ImageStatus, Visibility, is_seen},
};
use whimbrel_store::{ImageRow, StoreError, every};

use super::{
    answer::{Answer, Body},
    ask::Ask,
    entry,
};
use crate::{
    api::images::collect_content,
    app::{App, Shared},
};

const ACCEPT_PATCH: &str = "accept-patch";

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadImages)?;
    let wanted = listing::Ask::parse(ask.query.as_deref())?;
    let (app, now_us) = (&app, App::now_us());
    let entries = every(|page| async move { app.store.list_image_entries(&page).await }).await?;
    let seen = entries.iter().filter(|entry| is_seen(entry.visibility, entry.owner.as_ref(), ask.requester()));
    let records = seen.map(|entry| entry::record(entry, now_us)).collect();
    let chosen = wanted.choose(records, ask.own_project().map(|own| own.as_str()))?;
    Ok(Json(wanted.body(&chosen)))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let found = ask.image(&app, &id).await?;
    Ok(Json(entry::record(&found, App::now_us()).body()))
}

pub(super) async fn create(ask: Ask, State(app): State<Shared>, Body(body): Body) -> Answer<Response> {
    ask.may(Operation::WriteImages)?;
    let creation::NewImage { id, mut said, names_owner } = creation::parse(&body)?;
    let own = ask.own_project().map(ToString::to_string);
    if !names_owner {
        said.owner = own;
    } else if said.owner != own {
        ask.may(Operation::ChangeImageOwner)?;
    }
    may_publish(&ask, said.visibility)?;
    let image = ImageRow {
        id: ImageId(id.unwrap_or_else(Uuid::now_v7)),
        name: String::new(),
        os_command_line: None,
        disk: None,
        kernel: None,
        ramdisk: None,
        created_us: App::now_us(),
    };
    let mut made = entry::empty(image);
    entry::say(&mut made, said)?;
    match app.store.create_image_entry(&made).await {
        Err(StoreError::Conflict { id, .. }) => {
            return Err(Fault::new(409, format!("Image ID {id} already exists!")).into());
        }
        other => other?,
    }
    let record = entry::record(&made, App::now_us());
    Ok((StatusCode::CREATED, [(header::LOCATION, record.path())], Json(record.body())).into_response())
}

fn may_publish(ask: &Ask, visibility: Visibility) -> Result<(), Fault> {
    match visibility {
        Visibility::Public => ask.may(Operation::PublicizeImage),
        Visibility::Community | Visibility::Shared | Visibility::Private => Ok(()),
    }
}

pub(super) async fn change(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer<Response> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some(PATCH_TYPE) {
        let fault = Fault::new(415, format!("Image PATCH expects Content-Type one of: {PATCH_TYPE}"));
        let refused = super::answer::Refused::from(fault);
        return Ok(([(ACCEPT_PATCH, PATCH_TYPE)], refused).into_response());
    }
    let patch = patch::parse(&body)?;
    let mut found = ask.writable(&app, &id).await?;
    let now_us = App::now_us();
    if !patch.is_empty() {
        let before = entry::said(&found);
        let after = patch.apply(&before)?;
        may_change(&ask, found.status_at(now_us), &before, &after)?;
        entry::say(&mut found, after)?;
        app.store.change_image(&found, now_us).await?;
        found = ask.image(&app, &id).await?;
    }
    Ok(Json(entry::record(&found, now_us).body()).into_response())
}

fn may_change(ask: &Ask, status: ImageStatus, before: &Said, after: &Said) -> Result<(), Fault> {
    if before.owner != after.owner {
        ask.may(Operation::ChangeImageOwner)?;
    }
    if before.visibility != after.visibility {
        may_publish(ask, after.visibility)?;
    }
    let formats = [
        ("disk_format", before.disk_format != after.disk_format),
        ("container_format", before.container_format != after.container_format),
    ];
    match (status, formats.iter().find(|(_, changed)| *changed)) {
        (ImageStatus::Queued, _) | (ImageStatus::Saving | ImageStatus::Active, None) => Ok(()),
        (ImageStatus::Saving | ImageStatus::Active, Some((name, _))) => {
            Err(Fault::new(403, format!("Attribute {name} can be only replaced for a queued image.")))
        }
    }
}

/// Servers that were made of it keep what they need.
pub(super) async fn delete(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    let found = ask.writable(&app, &id).await?;
    let is_protected = || Fault::new(403, format!("Image {id} is protected and cannot be deleted."));
    if found.protected {
        return Err(is_protected().into());
    }
    match app.store.delete_image(found.image.id).await {
        Err(StoreError::Conflict { .. }) => return Err(is_protected().into()),
        other => other?,
    }
    collect_content(&app).await?;
    Ok(StatusCode::NO_CONTENT)
}
