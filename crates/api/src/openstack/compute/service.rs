//! Compute services: which hosts take part, and taking one out.
//!
//! Ground rules: until 2.52 a change names its host in the body and its purpose in the path, from 2.53 it names neither: both parse
//! to the same [`Change`]. Only compute services can be changed.
//! Source: nova, api/openstack/compute/services.py and its schema.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{Input, Key},
    host_id::{self, HostId},
    shape::{self, Field, View},
    times::{self, Micros},
    values::SHORT,
};

pub const COMPUTE: &str = "nova-compute";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub id: u64,
    pub uuid: Uuid,
    pub binary: String,
    pub host: String,
    /// `internal` for all but compute services.
    pub zone: String,
    pub enabled: bool,
    pub disabled_reason: Option<String>,
    pub up: bool,
    pub forced_down: bool,
    /// When it was last heard of.
    pub updated: Option<Micros>,
}

type Row = Field<Service>;

const SERVICE: &[Row] = &[
    Row::new("id", |service, _| json!(service.id)).until(52),
    Row::new("id", |service, _| json!(service.uuid)).since(53),
    Row::new("binary", |service, _| json!(service.binary)),
    Row::new("host", |service, _| json!(service.host)),
    Row::new("zone", |service, _| json!(service.zone)),
    Row::new("status", |service, _| json!(status(service.enabled))),
    Row::new("state", |service, _| json!(if service.up { "up" } else { "down" })),
    Row::new("updated_at", |service, _| times::fraction_or_null(service.updated)),
    Row::new("disabled_reason", |service, _| json!(service.disabled_reason)),
    Row::new("forced_down", |service, _| json!(service.forced_down)).since(11),
];

/// `GET /os-services`.
pub fn list(services: &[Service], view: &View) -> Value {
    let items: Vec<Value> = services.iter().map(|service| shape::object(&[SERVICE], service, view)).collect();
    json!({ "services": items })
}

/// The answer to `PUT /os-services/{id}`, from 2.53.
pub fn show(service: &Service, view: &View) -> Value {
    json!({ "service": shape::object(&[SERVICE], service, view) })
}

/// What of a service shall change.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Change {
    pub enabled: Option<bool>,
    pub disabled_reason: Option<String>,
    pub forced_down: Option<bool>,
}

const UPDATE: &[Key] = &[Key::new("status"), Key::new("disabled_reason"), Key::new("forced_down")];
const STATUSES: &[(&str, bool)] = &[("enabled", true), ("disabled", false)];

/// `PUT /os-services/{id}`, from 2.53.
pub fn parse_update(body: &Value, at: Microversion) -> Result<Change, Fault> {
    let update = Input::body(body, at).object(UPDATE)?;
    let change = Change {
        enabled: update.read("status", |input| input.choice(STATUSES))?,
        disabled_reason: update.read("disabled_reason", reason)?,
        forced_down: update.read("forced_down", Input::boolean)?,
    };
    match change {
        Change { enabled: Some(true), disabled_reason: Some(_), .. } => {
            Err(Fault::new(400, "Specifying 'disabled_reason' with status 'enabled' is invalid."))
        }
        Change { enabled: None, forced_down: None, .. } => {
            let why = "No updates were requested. Fields 'status' or 'forced_down' should be specified.";
            Err(Fault::new(400, why))
        }
        Change { .. } => Ok(change),
    }
}

/// A service as a path names it.
pub fn parse_id(id: &str, at: Microversion) -> Result<HostId, Fault> {
    let why = if host_id::is_uuid(at) { "Invalid uuid" } else { "id must be an integer, not" };
    HostId::parse(id, at).ok_or_else(|| Fault::new(400, format!("{why} {id}")))
}

/// `PUT /os-services/{id}` as it is meant at any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Named(NamedChange),
    ById(HostId, Change),
}

/// `last` is the path's end: a purpose until 2.52, then an id.
pub fn parse_change(last: &str, body: &Value, at: Microversion) -> Result<Asked, Fault> {
    match host_id::is_uuid(at) {
        true => Ok(Asked::ById(parse_id(last, at)?, parse_update(body, at)?)),
        false => parse_named(last, body, at).map(Asked::Named),
    }
}

/// A change as it is asked for until 2.52, with the host that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedChange {
    pub host: String,
    pub change: Change,
}

const NAMED: &[Key] = &[
    Key::new("host").needed(),
    Key::new("binary").needed(),
    Key::new("disabled_reason"),
    Key::new("forced_down").since(11),
];

const FORCE_DOWN_SINCE: u16 = 11;

/// `PUT /os-services/{purpose}`, until 2.52.
pub fn parse_named(purpose: &str, body: &Value, at: Microversion) -> Result<NamedChange, Fault> {
    let body = Input::body(body, at);
    let named = body.object(NAMED)?;
    let host = named.need("host")?.host()?;
    let binary = named.need("binary")?.text(SHORT)?;
    let disabled_reason = named.read("disabled_reason", reason)?;
    let forced_down = named.read("forced_down", Input::boolean)?;
    let missing = |what| Fault::new(400, format!("Missing {what} field"));
    let change = match purpose {
        "enable" => Change { enabled: Some(true), ..Change::default() },
        "disable" => Change { enabled: Some(false), ..Change::default() },
        "disable-log-reason" => {
            let disabled_reason = Some(disabled_reason.ok_or_else(|| missing("disabled reason"))?);
            Change { enabled: Some(false), disabled_reason, forced_down: None }
        }
        "force-down" if body.since(FORCE_DOWN_SINCE) => {
            Change { forced_down: Some(forced_down.ok_or_else(|| missing("forced_down"))?), ..Change::default() }
        }
        _ => return Err(Fault::new(404, "Unknown action")),
    };
    if binary != COMPUTE {
        let why = format!("Updating a {binary} service is not supported. Only {COMPUTE} services can be updated.");
        return Err(Fault::new(400, why));
    }
    Ok(NamedChange { host, change })
}

/// The answer to a change as it is asked for until 2.52.
pub fn changed(named: &NamedChange) -> Value {
    let mut service = json!({ "host": named.host, "binary": COMPUTE });
    if let Some(enabled) = named.change.enabled {
        service["status"] = json!(status(enabled));
    }
    if let Some(reason) = &named.change.disabled_reason {
        service["disabled_reason"] = json!(reason);
    }
    if let Some(forced_down) = named.change.forced_down {
        service["forced_down"] = json!(forced_down);
    }
    json!({ "service": service })
}

fn reason(input: Input) -> Result<String, Fault> {
    input.text(SHORT).map(str::to_owned)
}

fn status(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

#[cfg(test)]
mod tests;
