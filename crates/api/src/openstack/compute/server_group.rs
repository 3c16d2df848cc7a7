//! Server groups: servers that shall share a host, or shall not.
//!
//! Ground rules: a group has one policy. Until 2.63 it is told and asked for as a list of one, with metadata that is always empty.
//! Source: nova, api/openstack/compute/server_groups.py and its schema.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    shape::{self, Field, View},
    values::INTEGER_MAX,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGroup {
    pub id: Uuid,
    pub name: String,
    pub policy: Policy,
    /// Of anti-affinity: so many of its servers may share a host after all.
    pub max_server_per_host: Option<u32>,
    /// Those that still exist.
    pub members: Vec<Uuid>,
    pub project_id: String,
    pub user_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Affinity,
    AntiAffinity,
    SoftAffinity,
    SoftAntiAffinity,
}

/// What stands behind the question mark of a list. That `all_projects` is there is enough, whatever it says.
pub const LIST_QUERY: &[&str] = &["all_projects", "limit", "offset"];
pub const ALL_PROJECTS: &str = "all_projects";

type Row = Field<ServerGroup>;

const GROUP: &[Row] = &[
    Row::new("id", |group, _| json!(group.id)),
    Row::new("name", |group, _| json!(group.name)),
    Row::new("members", |group, _| json!(group.members)),
    Row::new("policies", |group, _| json!([group.policy.name()])).until(63),
    Row::new("metadata", |_, _| json!({})).until(63),
    Row::new("policy", |group, _| json!(group.policy.name())).since(64),
    Row::new("rules", |group, _| rules(group)).since(64),
    Row::new("project_id", |group, _| json!(group.project_id)).since(13),
    Row::new("user_id", |group, _| json!(group.user_id)).since(13),
];

/// `GET /os-server-groups`.
pub fn list(groups: &[ServerGroup], view: &View) -> Value {
    let items: Vec<Value> = groups.iter().map(|group| shape::object(&[GROUP], group, view)).collect();
    json!({ "server_groups": items })
}

/// `GET /os-server-groups/{id}`, and the answer to a create.
pub fn show(group: &ServerGroup, view: &View) -> Value {
    json!({ "server_group": shape::object(&[GROUP], group, view) })
}

fn rules(group: &ServerGroup) -> Value {
    group.max_server_per_host.map_or(json!({}), |most| json!({ "max_server_per_host": most }))
}

/// `POST /os-server-groups`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewServerGroup {
    pub name: String,
    pub policy: Policy,
    pub max_server_per_host: Option<u32>,
}

const CREATE: &[Key] = &[
    Key::new("name").needed(),
    Key::new("policies").until(63).needed(),
    Key::new("policy").since(64).needed(),
    Key::new("rules").since(64),
];
const RULES: &[Key] = &[Key::new("max_server_per_host")];

const HARD_POLICIES: &[(&str, Policy)] = &[("anti-affinity", Policy::AntiAffinity), ("affinity", Policy::Affinity)];
const POLICIES: &[(&str, Policy)] = &[
    ("anti-affinity", Policy::AntiAffinity),
    ("affinity", Policy::Affinity),
    ("soft-anti-affinity", Policy::SoftAntiAffinity),
    ("soft-affinity", Policy::SoftAffinity),
];
const SOFT_SINCE: u16 = 15;

pub fn parse_create(body: &Value, at: Microversion) -> Result<NewServerGroup, Fault> {
    let group = fields::wrapped(body, "server_group", CREATE, at)?;
    let name = group.need("name")?.name()?;
    let policy = match group.get("policies") {
        Some(policies) => only_policy(policies)?,
        None => policy(group.need("policy")?)?,
    };
    let max_server_per_host = group.read("rules", max_server_per_host)?.flatten();
    if max_server_per_host.is_some() && policy != Policy::AntiAffinity {
        return Err(Fault::new(400, "Only anti-affinity policy supports rules."));
    }
    Ok(NewServerGroup { name, policy, max_server_per_host })
}

fn only_policy(input: Input) -> Result<Policy, Fault> {
    match input.list(1)?.first() {
        Some(only) => policy(*only),
        None => Err(input.empty_list()),
    }
}

fn policy(input: Input) -> Result<Policy, Fault> {
    input.choice(if input.since(SOFT_SINCE) { POLICIES } else { HARD_POLICIES })
}

fn max_server_per_host(input: Input) -> Result<Option<u32>, Fault> {
    let most = input.object(RULES)?.read("max_server_per_host", |input| input.integer(1..=INTEGER_MAX))?;
    Ok(most.and_then(|most| u32::try_from(most).ok()))
}

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Policy::Affinity => "affinity",
            Policy::AntiAffinity => "anti-affinity",
            Policy::SoftAffinity => "soft-affinity",
            Policy::SoftAntiAffinity => "soft-anti-affinity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::shape::seen::{member, names},
        *,
    };

    #[test]
    fn a_group_has_the_fields_of_its_version() {
        let group = ServerGroup {
            id: Uuid::from_u128(1),
            name: "g".into(),
            policy: Policy::AntiAffinity,
            max_server_per_host: Some(2),
            members: vec![Uuid::from_u128(2)],
            project_id: "p".into(),
            user_id: "u".into(),
        };
        let check = |minor, want: &[&str]| {
            let body = list(std::slice::from_ref(&group), &member(minor));
            assert_eq!(names(&body["server_groups"][0]), want, "2.{minor}");
            assert_eq!(show(&group, &member(minor))["server_group"], body["server_groups"][0]);
        };
        check(12, &["id", "members", "metadata", "name", "policies"]);
        check(13, &["id", "members", "metadata", "name", "policies", "project_id", "user_id"]);
        check(63, &["id", "members", "metadata", "name", "policies", "project_id", "user_id"]);
        check(64, &["id", "members", "name", "policy", "project_id", "rules", "user_id"]);
        let body = show(&group, &member(63));
        assert_eq!(
            (&body["server_group"]["policies"], &body["server_group"]["metadata"]),
            (&json!(["anti-affinity"]), &json!({}))
        );
        let body = show(&group, &member(64));
        assert_eq!(body["server_group"]["rules"], json!({"max_server_per_host": 2}));
        let free = ServerGroup { max_server_per_host: None, ..group };
        assert_eq!(show(&free, &member(64))["server_group"]["rules"], json!({}));
    }

    #[test]
    fn a_policy_is_asked_for_as_its_version_has_it() {
        let check = |group: Value, minor, want: Option<(Policy, Option<u32>)>| {
            let got = parse_create(&json!({ "server_group": group }), Microversion::v2(minor));
            let told = got.as_ref().ok().map(|new| (new.policy, new.max_server_per_host));
            assert_eq!(told, want, "{group} at 2.{minor}: {got:?}");
        };
        check(json!({"name": "g", "policies": ["affinity"]}), 1, Some((Policy::Affinity, None)));
        check(json!({"name": "g", "policies": []}), 1, None);
        check(json!({"name": "g", "policies": ["affinity", "anti-affinity"]}), 1, None);
        check(json!({"name": "g", "policies": "affinity"}), 1, None);
        check(json!({"name": "g", "policies": ["soft-affinity"]}), 14, None);
        check(json!({"name": "g", "policies": ["soft-affinity"]}), 15, Some((Policy::SoftAffinity, None)));
        check(json!({"name": "g", "policies": ["affinity"]}), 64, None);
        check(json!({"name": "g", "policy": "affinity"}), 63, None);
        check(json!({"name": "g", "policy": "soft-anti-affinity"}), 64, Some((Policy::SoftAntiAffinity, None)));
        let ruled = |policy: &str| json!({"name": "g", "policy": policy, "rules": {"max_server_per_host": "3"}});
        check(ruled("anti-affinity"), 64, Some((Policy::AntiAffinity, Some(3))));
        check(ruled("affinity"), 64, None);
        check(json!({"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 0}}), 64, None);
        check(json!({"name": "g", "policy": "anti-affinity", "rules": {"most": 1}}), 64, None);
        check(json!({"policy": "affinity"}), 64, None);
    }
}
