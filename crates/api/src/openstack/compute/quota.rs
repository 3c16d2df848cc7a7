//! Quotas: what a project may have, as quota sets, as the defaults of a class, and as the limits that users see.
//!
//! Ground rules: which quotas there are is `core`'s; here is in which versions each is told and taken. Those of what is no longer
//! there (Nova's own networks, injected files) are told until the version that dropped them, with what was said of them.
//! Sources: nova, api/openstack/compute/quota_sets.py, quota_classes.py, limits.py, views/limits.py and their schemas.

use serde_json::{Map, Value, json};
use whimbrel_core::quota::{Limits, ProjectUse, Quota, Said, UNLIMITED};

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    shape::{self, Field, View},
    values::INTEGER_MAX,
};

/// What a project or a user may have and what of it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    pub limits: Limits,
    pub servers: ProjectUse,
    pub server_groups: u64,
}

impl Quotas {
    fn limit(&self, quota: Quota) -> Value {
        json!(self.limits.of(quota))
    }

    /// Key pairs are a user's and members a group's: of neither is there a number to tell for a project.
    pub fn in_use(&self, quota: Quota) -> u64 {
        match quota {
            Quota::Cores => self.servers.cores,
            Quota::Instances => self.servers.instances,
            Quota::Ram => self.servers.ram_mb,
            Quota::ServerGroups => self.server_groups,
            Quota::KeyPairs
            | Quota::MetadataItems
            | Quota::ServerGroupMembers
            | Quota::FixedIps
            | Quota::FloatingIps
            | Quota::SecurityGroups
            | Quota::SecurityGroupRules
            | Quota::InjectedFiles
            | Quota::InjectedFileContentBytes
            | Quota::InjectedFilePathBytes => 0,
        }
    }
}

/// A quota, the versions of quota sets that have it, and the versions of a class set that have it.
struct Resource {
    quota: Quota,
    until: Option<Microversion>,
    class_since: Microversion,
    class_until: Option<Microversion>,
}

const fn kept(quota: Quota, class_since: u16) -> Resource {
    Resource { quota, until: None, class_since: Microversion::v2(class_since), class_until: None }
}

const fn retired(quota: Quota, until: u16, class_until: u16) -> Resource {
    let (until, class_until) = (Some(Microversion::v2(until)), Some(Microversion::v2(class_until)));
    Resource { quota, until, class_since: Microversion::FIRST, class_until }
}

const RESOURCES: &[Resource] = &[
    kept(Quota::Cores, 1),
    kept(Quota::Instances, 1),
    kept(Quota::Ram, 1),
    kept(Quota::KeyPairs, 1),
    kept(Quota::MetadataItems, 1),
    kept(Quota::ServerGroups, 50),
    kept(Quota::ServerGroupMembers, 50),
    retired(Quota::FixedIps, 35, 49),
    retired(Quota::FloatingIps, 35, 49),
    retired(Quota::SecurityGroups, 35, 49),
    retired(Quota::SecurityGroupRules, 35, 49),
    retired(Quota::InjectedFiles, 56, 56),
    retired(Quota::InjectedFileContentBytes, 56, 56),
    retired(Quota::InjectedFilePathBytes, 56, 56),
];

/// What stands behind the question mark of a call about a quota set.
pub const QUERY: &[&str] = &["user_id"];
/// And of one about limits.
pub const LIMITS_QUERY: &[&str] = &["tenant_id"];

/// `GET /os-quota-sets/{project}`.
pub fn show(project_id: &str, limits: &Limits, view: &View) -> Value {
    json!({ "quota_set": with_id(project_id, set(view, |quota| json!(limits.of(quota)))) })
}

/// `GET /os-quota-sets/{project}/detail`.
pub fn detail(project_id: &str, quotas: &Quotas, view: &View) -> Value {
    let told = |quota| json!({ "limit": quotas.limit(quota), "in_use": quotas.in_use(quota), "reserved": 0 });
    json!({ "quota_set": with_id(project_id, set(view, told)) })
}

/// The answer to `PUT /os-quota-sets/{project}`, which does not repeat whose they are.
pub fn updated(limits: &Limits, view: &View) -> Value {
    json!({ "quota_set": set(view, |quota| json!(limits.of(quota))) })
}

/// `GET /os-quota-class-sets/{class}`; the one class that counts is `default`.
pub fn show_class(class: &str, limits: &Limits, view: &View) -> Value {
    json!({ "quota_class_set": with_id(class, class_set(limits, view)) })
}

/// The answer to `PUT /os-quota-class-sets/{class}`.
pub fn updated_class(limits: &Limits, view: &View) -> Value {
    json!({ "quota_class_set": class_set(limits, view) })
}

fn set(view: &View, told: impl Fn(Quota) -> Value) -> Map<String, Value> {
    let there = RESOURCES.iter().filter(|resource| resource.until.is_none_or(|until| view.at <= until));
    there.map(|resource| (resource.quota.name().to_owned(), told(resource.quota))).collect()
}

fn class_set(limits: &Limits, view: &View) -> Map<String, Value> {
    let there = |resource: &&Resource| {
        resource.class_since <= view.at && resource.class_until.is_none_or(|until| view.at <= until)
    };
    let named = |resource: &Resource| (resource.quota.name().to_owned(), json!(limits.of(resource.quota)));
    RESOURCES.iter().filter(there).map(named).collect()
}

fn with_id(id: &str, mut set: Map<String, Value>) -> Map<String, Value> {
    set.insert("id".to_owned(), json!(id));
    set
}

type Row = Field<Quotas>;

const LIMITS: &[Row] = &[
    Row::new("maxTotalCores", |quotas, _| quotas.limit(Quota::Cores)),
    Row::new("maxTotalInstances", |quotas, _| quotas.limit(Quota::Instances)),
    Row::new("maxTotalRAMSize", |quotas, _| quotas.limit(Quota::Ram)),
    Row::new("maxTotalKeypairs", |quotas, _| quotas.limit(Quota::KeyPairs)),
    Row::new("maxServerMeta", |quotas, _| quotas.limit(Quota::MetadataItems)),
    Row::new("maxServerGroups", |quotas, _| quotas.limit(Quota::ServerGroups)),
    Row::new("maxServerGroupMembers", |quotas, _| quotas.limit(Quota::ServerGroupMembers)),
    Row::new("totalCoresUsed", |quotas, _| json!(quotas.in_use(Quota::Cores))),
    Row::new("totalInstancesUsed", |quotas, _| json!(quotas.in_use(Quota::Instances))),
    Row::new("totalRAMUsed", |quotas, _| json!(quotas.in_use(Quota::Ram))),
    Row::new("totalServerGroupsUsed", |quotas, _| json!(quotas.in_use(Quota::ServerGroups))),
    Row::new("maxSecurityGroups", |quotas, _| quotas.limit(Quota::SecurityGroups)).until(35),
    Row::new("maxSecurityGroupRules", |quotas, _| quotas.limit(Quota::SecurityGroupRules)).until(35),
    Row::new("maxTotalFloatingIps", |quotas, _| quotas.limit(Quota::FloatingIps)).until(35),
    Row::new("totalSecurityGroupsUsed", |quotas, _| json!(quotas.in_use(Quota::SecurityGroups))).until(35),
    Row::new("totalFloatingIpsUsed", |quotas, _| json!(quotas.in_use(Quota::FloatingIps))).until(35),
    Row::new("maxImageMeta", |quotas, _| quotas.limit(Quota::MetadataItems)).until(38),
    Row::new("maxPersonality", |quotas, _| quotas.limit(Quota::InjectedFiles)).until(56),
    Row::new("maxPersonalitySize", |quotas, _| quotas.limit(Quota::InjectedFileContentBytes)).until(56),
];

/// `GET /limits`.
pub fn limits(quotas: &Quotas, view: &View) -> Value {
    json!({ "limits": { "rate": [], "absolute": shape::object(&[LIMITS], quotas, view) } })
}

/// `PUT /os-quota-sets/{project}` and `PUT /os-quota-class-sets/{class}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUpdate {
    pub limits: Said,
    /// Below what is in use too, and above what there is.
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
    let mut limits = Said::new();
    for quota in Quota::ALL {
        if let Some(limit) = set.read(quota.name(), |input| input.integer(UNLIMITED..=INTEGER_MAX))? {
            limits.insert(*quota, limit);
        }
    }
    Ok(QuotaUpdate { limits, force: set.read("force", Input::boolean)?.unwrap_or(false) })
}

#[cfg(test)]
mod tests;
