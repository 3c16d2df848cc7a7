//! Security groups: `/v2.0/security-groups`. They are kept as clients make them; nothing here filters a guest's traffic.

use serde_json::{Value, json};
use whimbrel_core::identity::ProjectId;

use super::{
    super::compute::times::{self, Micros},
    fault::Fault,
    fields::{self, Input, Method},
    resource::{Attribute, Resource},
    security_group_rule::SecurityGroupRule,
};

/// Of the group that every project has.
pub const DEFAULT_NAME: &str = "default";

pub const SECURITY_GROUP: Resource = Resource::new(
    ["security_group", "security_groups", "security-groups"],
    ("SecurityGroupNotFound", "Security group", "does not exist"),
    &[
        Attribute::shown("id"),
        Attribute::changed("name"),
        Attribute::changed("description"),
        Attribute::made("tenant_id"),
        Attribute::made("project_id"),
        Attribute::shown("security_group_rules"),
        Attribute::shown("created_at"),
        Attribute::shown("updated_at"),
        Attribute::shown("revision_number"),
    ],
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    pub id: String,
    pub project: String,
    pub name: String,
    pub description: String,
    pub rules: Vec<SecurityGroupRule>,
    pub revision: i64,
    pub created_us: Micros,
    pub updated_us: Micros,
}

impl SecurityGroup {
    pub fn body(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "tenant_id": self.project,
            "project_id": self.project,
            "security_group_rules": self.rules.iter().map(SecurityGroupRule::body).collect::<Vec<_>>(),
            "created_at": times::zulu(self.created_us),
            "updated_at": times::zulu(self.updated_us),
            "revision_number": self.revision,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSecurityGroup {
    pub project: Option<ProjectId>,
    pub name: String,
    pub description: String,
}

/// `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityGroupChange {
    pub name: Option<String>,
    pub description: Option<String>,
}

pub fn parse_create(body: &Value) -> Result<NewSecurityGroup, Fault> {
    let fields = fields::open(body, &SECURITY_GROUP, Method::Post)?;
    let name = fields.text("name")?;
    is_free(&name)?;
    Ok(NewSecurityGroup { project: fields.project()?, name, description: fields.text("description")? })
}

pub fn parse_update(body: &Value) -> Result<SecurityGroupChange, Fault> {
    let fields = fields::open(body, &SECURITY_GROUP, Method::Put)?;
    Ok(SecurityGroupChange {
        name: fields.read("name", Input::text)?,
        description: fields.read("description", Input::text)?,
    })
}

/// The name of the default group is nobody else's.
pub fn is_free(name: &str) -> Result<(), Fault> {
    if name.eq_ignore_ascii_case(DEFAULT_NAME) {
        let told = "Default security group already exists.";
        return Err(Fault::new(409, "SecurityGroupDefaultAlreadyExists", told));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::resource::seen, *};

    #[test]
    fn a_group_is_read_and_shown() {
        let new = parse_create(&json!({"security_group": {"name": "web", "description": "d"}})).unwrap();
        let group = SecurityGroup {
            id: "g".to_owned(),
            project: "p".to_owned(),
            name: new.name,
            description: new.description,
            rules: vec![],
            revision: 1,
            created_us: 0,
            updated_us: 0,
        };
        seen::assert_shown(&SECURITY_GROUP, &group.body());
        assert_eq!((&group.body()["name"], &group.body()["security_group_rules"]), (&json!("web"), &json!([])));
        let refused = |fields: Value| parse_create(&json!({ "security_group": fields })).unwrap_err().status;
        assert_eq!(refused(json!({"name": "default"})), 409);
        assert_eq!(refused(json!({"name": 5})), 400);
        assert_eq!(refused(json!({"name": "a", "stateful": false})), 400);
        assert_eq!(refused(json!({"name": "a", "security_group_rules": []})), 400);
    }
}
