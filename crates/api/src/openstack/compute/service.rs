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
mod tests {
    use super::{
        super::shape::seen::{admin, names},
        *,
    };

    #[test]
    fn a_service_has_the_fields_of_its_version() {
        let service = Service {
            id: 1,
            uuid: Uuid::from_u128(1),
            binary: COMPUTE.into(),
            host: "cn1".into(),
            zone: "nova".into(),
            enabled: false,
            disabled_reason: Some("kernel".into()),
            up: true,
            forced_down: false,
            updated: Some(0),
        };
        let check = |minor, forced_down: bool, id: Value| {
            let body = list(std::slice::from_ref(&service), &admin(minor));
            let mut want =
                vec!["binary", "disabled_reason", "host", "id", "state", "status", "updated_at", "zone", "forced_down"];
            want.retain(|name| forced_down || *name != "forced_down");
            want.sort_unstable();
            assert_eq!((names(&body["services"][0]), &body["services"][0]["id"]), (want, &id), "2.{minor}");
        };
        check(1, false, json!(1));
        check(10, false, json!(1));
        check(11, true, json!(1));
        check(52, true, json!(1));
        check(53, true, json!(Uuid::from_u128(1)));
        let body = show(&service, &admin(53));
        assert_eq!((&body["service"]["status"], &body["service"]["state"]), (&json!("disabled"), &json!("up")));
        assert_eq!(body["service"]["updated_at"], "1970-01-01T00:00:00.000000");
    }

    #[test]
    fn a_change_from_2_53_is_in_the_body() {
        let check = |body: Value, want: Result<Change, &str>| {
            let got = parse_update(&body, Microversion::v2(53)).map_err(|fault| fault.message);
            match (&got, want) {
                (Ok(got), Ok(want)) => assert_eq!(*got, want, "{body}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{got} is not {want}"),
                (got, want) => panic!("{body}: {got:?} is not {want:?}"),
            }
        };
        check(json!({"status": "enabled"}), Ok(Change { enabled: Some(true), ..Change::default() }));
        let reason = Some("r".to_owned());
        let disabled = Change { enabled: Some(false), disabled_reason: reason, forced_down: None };
        check(json!({"status": "disabled", "disabled_reason": "r"}), Ok(disabled));
        check(json!({"forced_down": "true"}), Ok(Change { forced_down: Some(true), ..Change::default() }));
        check(json!({}), Err("No updates were requested."));
        check(json!({"disabled_reason": "r"}), Err("No updates were requested."));
        check(json!({"status": "enabled", "disabled_reason": "r"}), Err("with status 'enabled' is invalid"));
        check(json!({"status": "up"}), Err("'up' is not one of ['enabled', 'disabled']"));
        check(json!({"status": "enabled", "host": "cn1"}), Err("('host' was unexpected)"));
    }

    #[test]
    fn a_change_until_2_52_is_in_the_path() {
        let check = |purpose, more: Value, minor, want: Result<Value, u16>| {
            let mut body = json!({"host": "cn1", "binary": "nova-compute"});
            for (key, value) in more.as_object().into_iter().flatten() {
                body[key] = value.clone();
            }
            let got = parse_named(purpose, &body, Microversion::v2(minor));
            let got = got.map(|named| changed(&named)["service"].clone()).map_err(|fault| fault.status);
            assert_eq!(got, want, "{purpose} {more} at 2.{minor}");
        };
        let told = |more: (&str, Value)| json!({"host": "cn1", "binary": "nova-compute", more.0: more.1});
        check("enable", json!({}), 1, Ok(told(("status", json!("enabled")))));
        check("disable", json!({}), 1, Ok(told(("status", json!("disabled")))));
        let mut logged = told(("status", json!("disabled")));
        logged["disabled_reason"] = json!("r");
        check("disable-log-reason", json!({"disabled_reason": "r"}), 1, Ok(logged));
        check("disable-log-reason", json!({}), 1, Err(400));
        check("force-down", json!({"forced_down": true}), 11, Ok(told(("forced_down", json!(true)))));
        check("force-down", json!({"forced_down": true}), 10, Err(400));
        check("force-down", json!({}), 10, Err(404));
        check("force-down", json!({}), 11, Err(400));
        check("explode", json!({}), 1, Err(404));
        check("enable", json!({"binary": "nova-scheduler"}), 1, Err(400));
        check("enable", json!({"status": "x"}), 1, Err(400));
    }
}
