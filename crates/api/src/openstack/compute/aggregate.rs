//! Host aggregates: hosts put together by an operator, for a zone or for the scheduler.
//!
//! Ground rules: the availability zone is an entry of the metadata with a field of its own, so it is written down only once. A new
//! aggregate is told without hosts and metadata, as it has none.
//! Source: nova, api/openstack/compute/aggregates.py, schemas/aggregates.py and schemas/aggregate_images.py.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    shape::{self, Field, View},
    times::{self, Micros},
};

const ZONE: &str = "availability_zone";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    pub id: u64,
    pub uuid: Uuid,
    pub name: String,
    pub hosts: Vec<String>,
    /// Its zone among it.
    pub metadata: BTreeMap<String, String>,
    pub created: Micros,
    pub updated: Option<Micros>,
}

type Row = Field<Aggregate>;

const NEW: &[Row] = &[
    Row::new("id", |aggregate, _| json!(aggregate.id)),
    Row::new("uuid", |aggregate, _| json!(aggregate.uuid)).since(41),
    Row::new("name", |aggregate, _| json!(aggregate.name)),
    Row::new(ZONE, |aggregate, _| json!(aggregate.metadata.get(ZONE))),
    Row::new("created_at", |aggregate, _| times::fraction(aggregate.created)),
    Row::new("updated_at", |aggregate, _| times::fraction_or_null(aggregate.updated)),
    Row::new("deleted", |_, _| json!(false)),
    Row::new("deleted_at", |_, _| Value::Null),
];

const CONTENT: &[Row] = &[
    Row::new("hosts", |aggregate, _| json!(aggregate.hosts)),
    Row::new("metadata", |aggregate, _| json!(aggregate.metadata)),
];

/// `GET /os-aggregates`.
pub fn list(aggregates: &[Aggregate], view: &View) -> Value {
    let items: Vec<Value> =
        aggregates.iter().map(|aggregate| shape::object(&[NEW, CONTENT], aggregate, view)).collect();
    json!({ "aggregates": items })
}

/// `GET /os-aggregates/{id}`, and the answers to an update and to the actions.
pub fn show(aggregate: &Aggregate, view: &View) -> Value {
    json!({ "aggregate": shape::object(&[NEW, CONTENT], aggregate, view) })
}

/// The answer to `POST /os-aggregates`.
pub fn created(aggregate: &Aggregate, view: &View) -> Value {
    json!({ "aggregate": shape::object(&[NEW], aggregate, view) })
}

/// `POST /os-aggregates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAggregate {
    pub name: String,
    pub availability_zone: Option<String>,
}

/// `PUT /os-aggregates/{id}`: what is left out stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateUpdate {
    pub name: Option<String>,
    pub availability_zone: Option<Option<String>>,
}

/// `POST /os-aggregates/{id}/action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AggregateAction {
    AddHost(String),
    RemoveHost(String),
    /// A key of `None` goes away.
    SetMetadata(BTreeMap<String, Option<String>>),
}

const CREATE: &[Key] = &[Key::new("name").needed(), Key::new(ZONE)];
const UPDATE: &[Key] = &[Key::new("name"), Key::new(ZONE)];
const HOST: &[Key] = &[Key::new("host").needed()];
const METADATA: &[Key] = &[Key::new("metadata").needed()];
const IMAGES: &[Key] = &[Key::new("cache").needed()];
const IMAGE: &[Key] = &[Key::new("id").needed()];

pub fn parse_create(body: &Value, at: Microversion) -> Result<NewAggregate, Fault> {
    let aggregate = fields::wrapped(body, "aggregate", CREATE, at)?;
    let availability_zone = aggregate.read(ZONE, |input| input.or_null(Input::zone_name))?.flatten();
    Ok(NewAggregate { name: aggregate.need("name")?.name()?, availability_zone })
}

pub fn parse_update(body: &Value, at: Microversion) -> Result<AggregateUpdate, Fault> {
    let aggregate = fields::wrapped(body, "aggregate", UPDATE, at)?;
    let name = aggregate.read("name", Input::trimmed_name)?;
    let availability_zone = aggregate.read(ZONE, |input| input.or_null(Input::zone_name))?;
    match name.is_none() && availability_zone.is_none() {
        true => Err(aggregate.whole().in_no_schema()),
        false => Ok(AggregateUpdate { name, availability_zone }),
    }
}

pub fn parse_action(body: &Value, at: Microversion) -> Result<AggregateAction, Fault> {
    let (name, input) = fields::action(body, at)?;
    let host = || input.object(HOST)?.need("host")?.host();
    match name {
        "add_host" => host().map(AggregateAction::AddHost),
        "remove_host" => host().map(AggregateAction::RemoveHost),
        "set_metadata" => {
            let metadata = input.object(METADATA)?.need("metadata")?;
            let value = |input: Input| input.or_null(|input| input.text(0..=255).map(str::to_owned));
            metadata.metadata_of(value).map(AggregateAction::SetMetadata)
        }
        other => Err(fields::no_such_action(other)),
    }
}

/// `POST /os-aggregates/{id}/images`, from 2.81: images that the hosts shall have before they need them.
pub fn parse_images(body: &Value, at: Microversion) -> Result<Vec<Uuid>, Fault> {
    let cache = Input::body(body, at).object(IMAGES)?.need("cache")?;
    let items = cache.list(usize::MAX)?;
    if items.is_empty() {
        return Err(cache.empty_list());
    }
    let read = |item: Input| item.object(IMAGE)?.need("id")?.uuid();
    let ids: Vec<Uuid> = items.into_iter().map(read).collect::<Result<_, _>>()?;
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() == ids.len() { Ok(ids) } else { Err(Fault::new(400, "Duplicate images in request")) }
}

#[cfg(test)]
mod tests;
