//! Quotas: what a project may have, as quota sets, as the defaults of a class, and as the limits that users see.
//!
//! Ground rules: seven quotas are kept. The others belonged to what is no longer there (Nova's own networks, injected files); they
//! are told with the number that Nova gives, until the version that dropped them, and setting them is taken and does nothing.
//! Sources: nova, api/openstack/compute/quota_sets.py, quota_classes.py, limits.py, views/limits.py and their schemas.

use serde_json::{Map, Value, json};

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    shape::{self, Field, View},
    values::INTEGER_MAX,
};

pub const UNLIMITED: i64 = -1;

/// What a project may have and what of it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    pub cores: Allowance,
    pub instances: Allowance,
    pub ram_mb: Allowance,
    pub key_pairs: Allowance,
    pub metadata_items: Allowance,
    pub server_groups: Allowance,
    pub server_group_members: Allowance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// [`UNLIMITED`] for as much as there is.
    pub limit: i64,
    pub in_use: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Cores,
    Instances,
    Ram,
    KeyPairs,
    MetadataItems,
    ServerGroups,
    ServerGroupMembers,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Kept(Quota),
    Retired(i64),
}

/// A name that quota sets have, the versions that have it, and the versions of a class set that have it.
struct Resource {
    name: &'static str,
    known: Known,
    until: Option<Microversion>,
    class_since: Microversion,
    class_until: Option<Microversion>,
}

const fn kept(name: &'static str, quota: Quota, class_since: u16) -> Resource {
    let known = Known::Kept(quota);
    Resource { name, known, until: None, class_since: Microversion::v2(class_since), class_until: None }
}

const fn retired(name: &'static str, value: i64, until: u16, class_until: u16) -> Resource {
    let (until, class_until) = (Some(Microversion::v2(until)), Some(Microversion::v2(class_until)));
    Resource { name, known: Known::Retired(value), until, class_since: Microversion::FIRST, class_until }
}

const RESOURCES: &[Resource] = &[
    kept("cores", Quota::Cores, 1),
    kept("instances", Quota::Instances, 1),
    kept("ram", Quota::Ram, 1),
    kept("key_pairs", Quota::KeyPairs, 1),
    kept("metadata_items", Quota::MetadataItems, 1),
    kept("server_groups", Quota::ServerGroups, 50),
    kept("server_group_members", Quota::ServerGroupMembers, 50),
    retired("fixed_ips", UNLIMITED, 35, 49),
    retired("floating_ips", UNLIMITED, 35, 49),
    retired("security_groups", UNLIMITED, 35, 49),
    retired("security_group_rules", UNLIMITED, 35, 49),
    retired("injected_files", INJECTED_FILES, 56, 56),
    retired("injected_file_content_bytes", INJECTED_BYTES, 56, 56),
    retired("injected_file_path_bytes", 255, 56, 56),
];
const INJECTED_FILES: i64 = 5;
const INJECTED_BYTES: i64 = 10_240;

/// `GET /os-quota-sets/{project}` and `…/defaults`.
pub fn show(project_id: &str, quotas: &Quotas, view: &View) -> Value {
    json!({ "quota_set": with_id(project_id, set(quotas, view, limit)) })
}

/// `GET /os-quota-sets/{project}/detail`.
pub fn detail(project_id: &str, quotas: &Quotas, view: &View) -> Value {
    let told = |allowance: Allowance| json!({ "limit": allowance.limit, "in_use": allowance.in_use, "reserved": 0 });
    json!({ "quota_set": with_id(project_id, set(quotas, view, told)) })
}

/// The answer to `PUT /os-quota-sets/{project}`, which does not repeat whose they are.
pub fn updated(quotas: &Quotas, view: &View) -> Value {
    json!({ "quota_set": set(quotas, view, limit) })
}

/// `GET /os-quota-class-sets/{class}`; the one class is `default`.
pub fn show_class(class: &str, quotas: &Quotas, view: &View) -> Value {
    json!({ "quota_class_set": with_id(class, class_set(quotas, view)) })
}

/// The answer to `PUT /os-quota-class-sets/{class}`.
pub fn updated_class(quotas: &Quotas, view: &View) -> Value {
    json!({ "quota_class_set": class_set(quotas, view) })
}

fn set(quotas: &Quotas, view: &View, told: fn(Allowance) -> Value) -> Map<String, Value> {
    let there = RESOURCES.iter().filter(|resource| resource.until.is_none_or(|until| view.at <= until));
    there.map(|resource| (resource.name.to_owned(), told(quotas.of(resource.known)))).collect()
}

fn class_set(quotas: &Quotas, view: &View) -> Map<String, Value> {
    let there = |resource: &&Resource| {
        resource.class_since <= view.at && resource.class_until.is_none_or(|until| view.at <= until)
    };
    let named = |resource: &Resource| (resource.name.to_owned(), limit(quotas.of(resource.known)));
    RESOURCES.iter().filter(there).map(named).collect()
}

fn with_id(id: &str, mut set: Map<String, Value>) -> Map<String, Value> {
    set.insert("id".to_owned(), json!(id));
    set
}

fn limit(allowance: Allowance) -> Value {
    json!(allowance.limit)
}

impl Quotas {
    fn of(&self, known: Known) -> Allowance {
        match known {
            Known::Retired(limit) => Allowance { limit, in_use: 0 },
            Known::Kept(quota) => match quota {
                Quota::Cores => self.cores,
                Quota::Instances => self.instances,
                Quota::Ram => self.ram_mb,
                Quota::KeyPairs => self.key_pairs,
                Quota::MetadataItems => self.metadata_items,
                Quota::ServerGroups => self.server_groups,
                Quota::ServerGroupMembers => self.server_group_members,
            },
        }
    }
}

type Row = Field<Quotas>;

const LIMITS: &[Row] = &[
    Row::new("maxTotalCores", |quotas, _| json!(quotas.cores.limit)),
    Row::new("maxTotalInstances", |quotas, _| json!(quotas.instances.limit)),
    Row::new("maxTotalRAMSize", |quotas, _| json!(quotas.ram_mb.limit)),
    Row::new("maxTotalKeypairs", |quotas, _| json!(quotas.key_pairs.limit)),
    Row::new("maxServerMeta", |quotas, _| json!(quotas.metadata_items.limit)),
    Row::new("maxServerGroups", |quotas, _| json!(quotas.server_groups.limit)),
    Row::new("maxServerGroupMembers", |quotas, _| json!(quotas.server_group_members.limit)),
    Row::new("totalCoresUsed", |quotas, _| json!(quotas.cores.in_use)),
    Row::new("totalInstancesUsed", |quotas, _| json!(quotas.instances.in_use)),
    Row::new("totalRAMUsed", |quotas, _| json!(quotas.ram_mb.in_use)),
    Row::new("totalServerGroupsUsed", |quotas, _| json!(quotas.server_groups.in_use)),
    Row::new("maxSecurityGroups", |_, _| json!(UNLIMITED)).until(35),
    Row::new("maxSecurityGroupRules", |_, _| json!(UNLIMITED)).until(35),
    Row::new("maxTotalFloatingIps", |_, _| json!(UNLIMITED)).until(35),
    Row::new("totalSecurityGroupsUsed", |_, _| json!(0)).until(35),
    Row::new("totalFloatingIpsUsed", |_, _| json!(0)).until(35),
    Row::new("maxImageMeta", |quotas, _| json!(quotas.metadata_items.limit)).until(38),
    Row::new("maxPersonality", |_, _| json!(INJECTED_FILES)).until(56),
    Row::new("maxPersonalitySize", |_, _| json!(INJECTED_BYTES)).until(56),
];

/// `GET /limits`.
pub fn limits(quotas: &Quotas, view: &View) -> Value {
    json!({ "limits": { "rate": [], "absolute": shape::object(&[LIMITS], quotas, view) } })
}

/// `PUT /os-quota-sets/{project}` and `PUT /os-quota-class-sets/{class}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUpdate {
    pub limits: Vec<(Quota, i64)>,
    /// Below what is in use too.
    pub force: bool,
}

const UPDATE: &[Key] = &[
    Key::new("cores"),
    Key::new("instances"),
    Key::new("ram"),
    Key::new("key_pairs"),
    Key::new("metadata_items"),
    Key::new("server_groups"),
    Key::new("server_group_members"),
    Key::new("fixed_ips").until(35),
    Key::new("floating_ips").until(35),
    Key::new("security_groups").until(35),
    Key::new("security_group_rules").until(35),
    Key::new("injected_files").until(56),
    Key::new("injected_file_content_bytes").until(56),
    Key::new("injected_file_path_bytes").until(56),
    Key::new("force"),
];

const UPDATE_CLASS: &[Key] = &[
    Key::new("cores"),
    Key::new("instances"),
    Key::new("ram"),
    Key::new("key_pairs"),
    Key::new("metadata_items"),
    Key::new("server_groups"),
    Key::new("server_group_members"),
    Key::new("fixed_ips").until(49),
    Key::new("floating_ips").until(49),
    Key::new("security_groups").until(49),
    Key::new("security_group_rules").until(49),
    Key::new("injected_files").until(56),
    Key::new("injected_file_content_bytes").until(56),
    Key::new("injected_file_path_bytes").until(56),
];

pub fn parse_update(body: &Value, at: Microversion) -> Result<QuotaUpdate, Fault> {
    read_update(fields::wrapped(body, "quota_set", UPDATE, at)?)
}

pub fn parse_update_class(body: &Value, at: Microversion) -> Result<QuotaUpdate, Fault> {
    read_update(fields::wrapped(body, "quota_class_set", UPDATE_CLASS, at)?)
}

fn read_update(set: fields::Object) -> Result<QuotaUpdate, Fault> {
    let mut limits = Vec::new();
    for resource in RESOURCES {
        let limit = set.read(resource.name, |input| input.integer(UNLIMITED..=INTEGER_MAX))?;
        match (resource.known, limit) {
            (Known::Kept(quota), Some(limit)) => limits.push((quota, limit)),
            (Known::Retired(_), Some(_)) | (Known::Kept(_) | Known::Retired(_), None) => (),
        }
    }
    Ok(QuotaUpdate { limits, force: set.read("force", Input::boolean)?.unwrap_or(false) })
}

#[cfg(test)]
mod tests;
