//! What an owner writes on a server for himself: metadata and tags; and its addresses, which he reads.
//!
//! Ground rules: sizes are bounded by the quotas that Nova has for them.
//! Source: nova, api/openstack/compute/server_metadata.py, server_tags.py, ips.py.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use whimbrel_api::openstack::{
    compute::{
        action::states::{self, Now},
        fields,
        server::{
            answer,
            state::VmState,
            tags::{self, TAGS_MAX},
        },
    },
    fault::Fault,
    microversion::Microversion,
};
use whimbrel_core::{
    identity::policy::Operation,
    quota::{Limits, Quota},
};
use whimbrel_store::InstanceRow;

use super::{
    super::{
        answer::{Answer, Body},
        ask::Ask,
        quotas,
    },
    change::described,
    find, record, seen,
};
use crate::app::Shared;

const TAGS_SINCE: Microversion = Microversion::v2(26);

pub(in super::super) async fn all(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = seen(&app, &ask, &id).await?;
    Ok(Json(json!({ "metadata": row.details.metadata })))
}

pub(in super::super) async fn one(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let row = seen(&app, &ask, &id).await?;
    let value = row.details.metadata.get(&key).ok_or_else(no_item)?;
    Ok(Json(json!({ "meta": { key: value } })))
}

/// Those that are named are set, others stay.
pub(in super::super) async fn add(
    ask: Ask,
    state: State<Shared>,
    id: Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let items = fields::only(&body, "metadata", ask.at)?.metadata()?;
    write(ask, state, id, move |metadata| metadata.extend(items.clone())).await
}

pub(in super::super) async fn replace(
    ask: Ask,
    state: State<Shared>,
    id: Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let items = fields::only(&body, "metadata", ask.at)?.metadata()?;
    write(ask, state, id, move |metadata| *metadata = items.clone()).await
}

async fn write(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    change: impl Fn(&mut BTreeMap<String, String>),
) -> Answer<Json<Value>> {
    let row = changeable(&app, &ask, &id, "update metadata").await?;
    let limits = quotas::limits(&app, row.owner.project.as_ref(), None).await?;
    let row = described(&app, row, |_, details| {
        change(&mut details.metadata);
        few_enough(&limits, &details.metadata)
    })
    .await?;
    Ok(Json(json!({ "metadata": row.details.metadata })))
}

pub(in super::super) async fn set_one(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, key)): Path<(String, String)>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let items = fields::only(&body, "meta", ask.at)?.metadata()?;
    let Some(value) = items.get(&key).filter(|_| items.len() == 1) else {
        return Err(Fault::new(400, "Request body and URI mismatch").into());
    };
    let row = changeable(&app, &ask, &id, "update metadata").await?;
    let limits = quotas::limits(&app, row.owner.project.as_ref(), None).await?;
    described(&app, row, |_, details| {
        details.metadata.insert(key.clone(), value.clone());
        few_enough(&limits, &details.metadata)
    })
    .await?;
    Ok(Json(json!({ "meta": items })))
}

pub(in super::super) async fn remove_one(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let row = changeable(&app, &ask, &id, "delete metadata").await?;
    described(&app, row, |_, details| details.metadata.remove(&key).map(drop).ok_or_else(no_item)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn changeable(app: &Shared, ask: &Ask, id: &str, what: &str) -> Answer<InstanceRow> {
    let row = find(app, ask, id, Operation::WriteServers).await?;
    let now = Now {
        id,
        vm_state: record::vm_state(&row),
        task_state: record::task_state(&row),
        locked: row.details.lock.is_some(),
    };
    if now.locked && !ask.is_admin() {
        return Err(states::locked(id).into());
    }
    let from = [VmState::Active, VmState::Paused, VmState::Suspended, VmState::Stopped];
    states::begins_from(what, &from, &now)?;
    Ok(row)
}

pub(super) fn few_enough(limits: &Limits, metadata: &BTreeMap<String, String>) -> Result<(), Fault> {
    let most = limits.of(Quota::MetadataItems);
    match usize::try_from(most).is_ok_and(|most| metadata.len() > most) {
        true => Err(Fault::new(403, format!("Maximum number of metadata items exceeds {most}"))),
        // Below zero is unlimited.
        false => Ok(()),
    }
}

fn no_item() -> Fault {
    Fault::new(404, "Metadata item was not found")
}

/// Tags exist from 2.26.
async fn tagged(app: &Shared, ask: &Ask, id: &str, operation: Operation) -> Answer<InstanceRow> {
    if ask.at < TAGS_SINCE {
        return Err(Fault::new(404, "The resource could not be found.").into());
    }
    find(app, ask, id, operation).await
}

pub(in super::super) async fn all_tags(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let row = tagged(&app, &ask, &id, Operation::ReadServers).await?;
    Ok(Json(json!({ "tags": row.details.tags })))
}

pub(in super::super) async fn set_tags(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer<Json<Value>> {
    let row = tagged(&app, &ask, &id, Operation::WriteServers).await?;
    let tags = tags::parse(&body, ask.at)?;
    let row = described(&app, row, |_, details| {
        details.tags = tags.clone();
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "tags": row.details.tags })))
}

pub(in super::super) async fn remove_tags(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let row = tagged(&app, &ask, &id, Operation::WriteServers).await?;
    described(&app, row, |_, details| {
        details.tags.clear();
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in super::super) async fn has_tag(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, tag)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let row = tagged(&app, &ask, &id, Operation::ReadServers).await?;
    match row.details.tags.contains(&tag) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_tag(&id, &tag).into()),
    }
}

pub(in super::super) async fn add_tag(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, tag)): Path<(String, String)>,
) -> Answer<Response> {
    let row = tagged(&app, &ask, &id, Operation::WriteServers).await?;
    tags::check(&tag)?;
    if row.details.tags.contains(&tag) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    described(&app, row, |_, details| {
        if details.tags.len() >= TAGS_MAX {
            return Err(Fault::new(400, format!("The number of tags exceeded the per-server limit {TAGS_MAX}")));
        }
        details.tags.push(tag.clone());
        details.tags.sort();
        details.tags.dedup();
        Ok(())
    })
    .await?;
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("{}/servers/{id}/tags/{tag}", ask.view().base)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(in super::super) async fn remove_tag(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, tag)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let row = tagged(&app, &ask, &id, Operation::WriteServers).await?;
    described(&app, row, |_, details| {
        let at = details.tags.iter().position(|known| *known == tag).ok_or_else(|| no_tag(&id, &tag))?;
        details.tags.remove(at);
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_tag(id: &str, tag: &str) -> Fault {
    Fault::new(404, format!("Server {id} has no tag '{tag}'"))
}

pub(in super::super) async fn ips(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let row = seen(&app, &ask, &id).await?;
    Ok(Json(answer::ips(&record::one(&app, row).await?)))
}

pub(in super::super) async fn ips_of(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, network)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let row = seen(&app, &ask, &id).await?;
    let of = answer::ips_of(&record::one(&app, row).await?, &network);
    Ok(Json(of.ok_or_else(|| Fault::new(404, "Network name not found"))?))
}
