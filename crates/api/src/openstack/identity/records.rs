//! Bodies of who there is: domains, projects, users, roles, grants.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::token::Named;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRecord {
    pub id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRecord {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub description: String,
    pub enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub enabled: bool,
    pub default_project_id: Option<String>,
    pub extra: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRecord {
    pub id: String,
    pub name: String,
    pub description: String,
}

/// Where a role holds, as the list of grants shows it. Names are there with `?include_names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantPlace {
    Project { id: String, names: Option<(String, Named)> },
    Domain { id: String, name: Option<String> },
    System,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    pub role: Named,
    pub user_id: String,
    /// Name, and its domain.
    pub user_names: Option<(String, Named)>,
    pub place: GrantPlace,
}

impl DomainRecord {
    pub fn body(&self, base_url: &str) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "enabled": self.enabled,
            "tags": [],
            "options": {},
            "links": own(base_url, "domains", &self.id),
        })
    }
}

impl ProjectRecord {
    pub fn body(&self, base_url: &str) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "domain_id": self.domain_id,
            // A project at the top has its domain as its parent.
            "parent_id": self.domain_id,
            "is_domain": false,
            "description": self.description,
            "enabled": self.enabled,
            "tags": [],
            "options": {},
            "links": own(base_url, "projects", &self.id),
        })
    }
}

impl UserRecord {
    pub fn body(&self, base_url: &str) -> Value {
        let mut body: Map<String, Value> =
            self.extra.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
        body.insert("id".into(), json!(self.id));
        body.insert("name".into(), json!(self.name));
        body.insert("domain_id".into(), json!(self.domain_id));
        body.insert("enabled".into(), json!(self.enabled));
        body.insert("password_expires_at".into(), Value::Null);
        body.insert("options".into(), json!({}));
        body.insert("links".into(), own(base_url, "users", &self.id));
        if let Some(project) = &self.default_project_id {
            body.insert("default_project_id".into(), json!(project));
        }
        Value::Object(body)
    }
}

impl RoleRecord {
    pub fn body(&self, base_url: &str) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "domain_id": null,
            "description": self.description,
            "options": {},
            "links": own(base_url, "roles", &self.id),
        })
    }
}

impl GrantRecord {
    pub fn body(&self, base_url: &str) -> Value {
        let with_names = self.user_names.is_some();
        let named = |named: &Named| json!({ "id": named.id, "name": named.name });
        let role = if with_names { named(&self.role) } else { json!({ "id": self.role.id }) };
        let mut user = json!({ "id": self.user_id });
        if let Some((name, domain)) = &self.user_names {
            user["name"] = json!(name);
            user["domain"] = json!({ "id": domain.id, "name": domain.name });
        }
        let (scope, above) = match &self.place {
            GrantPlace::Project { id, names } => {
                let mut project = json!({ "id": id });
                if let Some((name, domain)) = names {
                    project["name"] = json!(name);
                    project["domain"] = json!({ "id": domain.id, "name": domain.name });
                }
                (json!({ "project": project }), format!("projects/{id}"))
            }
            GrantPlace::Domain { id, name } => {
                let domain = match name {
                    Some(name) => json!({ "id": id, "name": name }),
                    None => json!({ "id": id }),
                };
                (json!({ "domain": domain }), format!("domains/{id}"))
            }
            GrantPlace::System => (json!({ "system": { "all": true } }), "system".to_owned()),
        };
        let link = format!("{base_url}/identity/v3/{above}/users/{}/roles/{}", self.user_id, self.role.id);
        json!({ "role": role, "user": user, "scope": scope, "links": { "assignment": link } })
    }
}

fn own(base_url: &str, collection: &str, id: &str) -> Value {
    json!({ "self": format!("{base_url}/identity/v3/{collection}/{id}") })
}

/// `{"users": [...], "links": {...}}`; Keystone does not page.
pub fn list(base_url: &str, collection: &str, items: Vec<Value>) -> Value {
    list_of(base_url, collection, collection, Value::Array(items))
}

/// As [`list`], at another path than its key.
pub fn list_of(base_url: &str, path: &str, key: &str, items: Value) -> Value {
    let mut body = Map::new();
    body.insert(key.to_owned(), items);
    let own = format!("{base_url}/identity/v3/{path}");
    body.insert("links".to_owned(), json!({ "self": own, "next": null, "previous": null }));
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_what_clients_said_but_not_over_what_is_ours() {
        let extra = BTreeMap::from([("email".to_owned(), "a@b".to_owned()), ("id".to_owned(), "forged".to_owned())]);
        let user = UserRecord {
            id: "u".into(),
            name: "a".into(),
            domain_id: "default".into(),
            enabled: true,
            default_project_id: None,
            extra,
        };
        let body = user.body("https://c");
        assert_eq!((&body["email"], &body["id"]), (&json!("a@b"), &json!("u")));
        assert!(body.get("default_project_id").is_none() && body.get("password").is_none(), "{body}");
    }

    #[test]
    fn a_grant_names_only_what_was_asked_for() {
        let admin = Named { id: "r".into(), name: "admin".into() };
        let check = |place: GrantPlace, want_link: &str| {
            let grant = GrantRecord { role: admin.clone(), user_id: "u".into(), user_names: None, place };
            let body = grant.body("https://c");
            assert_eq!(body["links"]["assignment"], format!("https://c/identity/v3/{want_link}"));
            assert_eq!(body["role"], json!({"id": "r"}));
        };
        check(GrantPlace::Project { id: "p".into(), names: None }, "projects/p/users/u/roles/r");
        check(GrantPlace::Domain { id: "d".into(), name: None }, "domains/d/users/u/roles/r");
        check(GrantPlace::System, "system/users/u/roles/r");
    }
}
