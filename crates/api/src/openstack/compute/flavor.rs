//! Flavors: what a server may be made of. Answers of `/flavors`, its extra specs and its access list, and the requests there.
//!
//! Ground rules: RAM and swap are MiB, disks are GiB, as Nova counts them. `extra_specs` is shown to who may list them, which
//! is everyone here.
//! Sources: nova, api/openstack/compute/flavors.py, flavors_extraspecs.py, flavor_access.py, views/flavors.py and their schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    literal,
    shape::{self, Field, View},
    values::{Form, INTEGER_MAX, PRINTABLE, SHORT, only_of},
};

const COLLECTION: &str = "flavors";
const DESCRIPTION_MAX: usize = 65_535;
const RXTX_MAX: f64 = 3.402_82e38;

/// What the controller knows of a flavor.
#[derive(Clone, Debug, PartialEq)]
pub struct Flavor {
    pub id: String,
    pub name: String,
    pub ram_mb: u64,
    pub vcpus: u32,
    pub disk_gb: u64,
    pub ephemeral_gb: u64,
    pub swap_mb: u64,
    pub rxtx_factor: f64,
    pub disabled: bool,
    pub public: bool,
    pub description: Option<String>,
    pub extra_specs: BTreeMap<String, String>,
    /// Who may use one that is not public.
    pub projects: Vec<String>,
}

type Row = Field<Flavor>;

const BASIC: &[Row] = &[
    Row::new("id", |flavor, _| json!(flavor.id)),
    Row::new("name", |flavor, _| json!(flavor.name)),
    Row::new("links", |flavor, view| view.links(COLLECTION, &flavor.id)),
    Row::new("description", |flavor, _| json!(flavor.description)).since(55),
];

const DETAIL: &[Row] = &[
    Row::new("ram", |flavor, _| json!(flavor.ram_mb)),
    Row::new("vcpus", |flavor, _| json!(flavor.vcpus)),
    Row::new("disk", |flavor, _| json!(flavor.disk_gb)),
    Row::new("OS-FLV-EXT-DATA:ephemeral", |flavor, _| json!(flavor.ephemeral_gb)),
    Row::new("swap", |flavor, _| if flavor.swap_mb == 0 { json!("") } else { json!(flavor.swap_mb) }).until(74),
    Row::new("swap", |flavor, _| json!(flavor.swap_mb)).since(75),
    Row::new("rxtx_factor", |flavor, _| json!(flavor.rxtx_factor)),
    Row::new("OS-FLV-DISABLED:disabled", |flavor, _| json!(flavor.disabled)),
    Row::new("os-flavor-access:is_public", |flavor, _| json!(flavor.public)),
    Row::new("extra_specs", |flavor, _| json!(flavor.extra_specs)).since(61),
];

/// `GET /flavors`. `next` is the query of the following page.
pub fn list(flavors: &[Flavor], next: Option<&str>, view: &View) -> Value {
    let items = flavors.iter().map(|flavor| shape::object(&[BASIC], flavor, view)).collect();
    view.page(COLLECTION, COLLECTION, items, next)
}

/// `GET /flavors/detail`.
pub fn detail(flavors: &[Flavor], next: Option<&str>, view: &View) -> Value {
    let items = flavors.iter().map(|flavor| object(flavor, view)).collect();
    view.page(COLLECTION, "flavors/detail", items, next)
}

/// `GET /flavors/{id}`, and the answers to a create and an update.
pub fn show(flavor: &Flavor, view: &View) -> Value {
    json!({ "flavor": object(flavor, view) })
}

fn object(flavor: &Flavor, view: &View) -> Value {
    shape::object(&[BASIC, DETAIL], flavor, view)
}

/// `GET /flavors/{id}/os-flavor-access`, and the answers to its actions.
pub fn access(flavor: &Flavor) -> Value {
    let entry = |project: &String| json!({ "flavor_id": flavor.id, "tenant_id": project });
    json!({ "flavor_access": flavor.projects.iter().map(entry).collect::<Vec<_>>() })
}

/// `GET /flavors/{id}/os-extra_specs`, and the answer to a create there.
pub fn extra_specs(specs: &BTreeMap<String, String>) -> Value {
    json!({ "extra_specs": specs })
}

/// `GET /flavors/{id}/os-extra_specs/{key}`, and the answer to an update there.
pub fn extra_spec(key: &str, value: &str) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), json!(value))]))
}

/// `POST /flavors`.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFlavor {
    pub name: String,
    /// `None` has one made.
    pub id: Option<String>,
    pub ram_mb: u64,
    pub vcpus: u32,
    pub disk_gb: u64,
    pub ephemeral_gb: u64,
    pub swap_mb: u64,
    pub rxtx_factor: f64,
    pub public: bool,
    pub description: Option<String>,
}

const CREATE: &[Key] = &[
    Key::new("name").needed(),
    Key::new("id"),
    Key::new("ram").needed(),
    Key::new("vcpus").needed(),
    Key::new("disk").needed(),
    Key::new("OS-FLV-EXT-DATA:ephemeral"),
    Key::new("swap"),
    Key::new("rxtx_factor"),
    Key::new("os-flavor-access:is_public"),
    Key::new("description").since(55),
];

const UPDATE_SINCE: Microversion = Microversion::v2(55);
const UPDATE: &[Key] = &[Key::new("description").needed()];
const TENANT: &[Key] = &[Key::new("tenant").needed()];
const EXTRA_SPECS: &[Key] = &[Key::new("extra_specs").needed()];

const ID: Form = Form {
    pattern: "^(?! )[a-zA-Z0-9. _-]+(?<! )$",
    fits: |text| !text.starts_with(' ') && !text.ends_with(' ') && only_of(text, ". _-"),
};

pub fn parse_create(body: &Value, at: Microversion) -> Result<NewFlavor, Fault> {
    let flavor = fields::wrapped(body, "flavor", CREATE, at)?;
    let size = |name, least: i64| {
        let read = flavor.read(name, |input| input.integer(least..=INTEGER_MAX));
        read.map(|number| number.unwrap_or(0).unsigned_abs())
    };
    Ok(NewFlavor {
        name: flavor.need("name")?.name()?,
        id: flavor.read("id", |input| input.or_null(flavor_id))?.flatten(),
        ram_mb: size("ram", 1)?,
        vcpus: u32::try_from(size("vcpus", 1)?).unwrap_or(u32::MAX),
        disk_gb: size("disk", 0)?,
        ephemeral_gb: size("OS-FLV-EXT-DATA:ephemeral", 0)?,
        swap_mb: size("swap", 0)?,
        rxtx_factor: flavor.read("rxtx_factor", rxtx_factor)?.unwrap_or(1.0),
        public: flavor.read("os-flavor-access:is_public", Input::boolean)?.unwrap_or(true),
        description: flavor.read("description", description)?.flatten(),
    })
}

/// `PUT /flavors/{id}`: the new description. Before 2.55 there is no such call.
pub fn parse_update(body: &Value, at: Microversion) -> Result<Option<String>, Fault> {
    if at < UPDATE_SINCE {
        return Err(Fault::new(404, "The resource could not be found."));
    }
    description(fields::wrapped(body, "flavor", UPDATE, at)?.need("description")?)
}

/// `POST /flavors/{id}/os-extra_specs`.
pub fn parse_extra_specs(body: &Value, at: Microversion) -> Result<BTreeMap<String, String>, Fault> {
    Input::body(body, at).object(EXTRA_SPECS)?.need("extra_specs")?.metadata_of(spec_value)
}

/// `PUT /flavors/{id}/os-extra_specs/{key}`: the new value of that key.
pub fn parse_extra_spec(body: &Value, key: &str, at: Microversion) -> Result<String, Fault> {
    let whole = Input::body(body, at);
    let specs = whole.metadata_of(spec_value)?;
    match specs.len() {
        0 => return Err(whole.refuse("{} does not have enough properties")),
        1 => (),
        2.. => return Err(whole.refuse(format_args!("{} has too many properties", literal::quoted(body)))),
    }
    specs.get(key).cloned().ok_or_else(|| Fault::new(400, "Request body and URI mismatch"))
}

/// What `POST /flavors/{id}/action` asks for, with the project that it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Add(String),
    Remove(String),
}

pub fn parse_access(body: &Value, at: Microversion) -> Result<Access, Fault> {
    let (name, input) = fields::action(body, at)?;
    let tenant = || input.object(TENANT)?.need("tenant")?.text(SHORT).map(str::to_owned);
    match name {
        "addTenantAccess" => tenant().map(Access::Add),
        "removeTenantAccess" => tenant().map(Access::Remove),
        other => Err(fields::no_such_action(other)),
    }
}

fn flavor_id(input: Input) -> Result<String, Fault> {
    match input.number() {
        Some(number) => Ok(number.to_string()),
        None => input.text_of(SHORT, &ID),
    }
}

fn description(input: Input) -> Result<Option<String>, Fault> {
    input.or_null(|input| input.text_of(0..=DESCRIPTION_MAX, &PRINTABLE))
}

fn spec_value(input: Input) -> Result<String, Fault> {
    match input.number() {
        Some(number) => Ok(number.to_string()),
        None => input.text(0..=255).map(str::to_owned),
    }
}

fn rxtx_factor(input: Input) -> Result<f64, Fault> {
    let factor = input.decimal()?;
    match factor {
        _ if factor <= 0.0 => Err(input.refuse(format_args!("{factor} is less than or equal to the minimum of 0"))),
        _ if factor > RXTX_MAX => {
            Err(input.refuse(format_args!("{factor} is greater than the maximum of 3.40282e+38")))
        }
        _ => Ok(factor),
    }
}

#[cfg(test)]
mod tests;
