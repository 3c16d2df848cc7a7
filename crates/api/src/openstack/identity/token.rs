//! A token's body: who, for what, with which roles, and where everything is (the catalog).

use serde_json::{Map, Value, json};

/// Keystone's word for the three addresses of one service.
const INTERFACES: [&str; 3] = ["public", "internal", "admin"];
pub const REGION: &str = "RegionOne";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeRecord {
    Unscoped,
    Project { project: Named, domain: Named },
    Domain(Named),
    System,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    pub methods: Vec<String>,
    pub user: Named,
    pub user_domain: Named,
    pub scope: ScopeRecord,
    /// With those that are implied.
    pub roles: Vec<Named>,
    pub audit_ids: Vec<String>,
    /// RFC 3339 in UTC with microseconds.
    pub issued_at: String,
    pub expires_at: String,
}

/// One service of this controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// `compute`, `image`: what clients look for.
    pub kind: &'static str,
    /// The project's own name, for people.
    pub name: &'static str,
    /// Below the controller's address. Image and network without a version: novaclient adds it by itself.
    pub path: &'static str,
}

pub const SERVICES: [Service; 4] = [
    Service { kind: "compute", name: "nova", path: "/compute/v2.1" },
    Service { kind: "identity", name: "keystone", path: "/identity" },
    Service { kind: "image", name: "glance", path: "/image" },
    Service { kind: "network", name: "neutron", path: "/network" },
];

impl Service {
    /// Stable: clients keep it nowhere, but a list should not change between two calls.
    pub fn id(&self) -> String {
        format!("{:0>32}", self.name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    fn endpoint_id(&self, interface: &str) -> String {
        let text = format!("{interface}{}", self.name);
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex:0>32}").chars().take(32).collect()
    }

    pub fn endpoints(&self, base_url: &str) -> Vec<Value> {
        let endpoint = |interface: &str| {
            json!({
                "id": self.endpoint_id(interface),
                "interface": interface,
                "region": REGION,
                "region_id": REGION,
                "url": format!("{base_url}{}", self.path),
            })
        };
        INTERFACES.iter().map(|interface| endpoint(interface)).collect()
    }
}

pub fn catalog(base_url: &str) -> Value {
    let service = |service: &Service| {
        json!({
            "id": service.id(),
            "type": service.kind,
            "name": service.name,
            "endpoints": service.endpoints(base_url),
        })
    };
    SERVICES.iter().map(service).collect()
}

/// `base_url` without a slash at its end; `None` leaves the catalog out (`?nocatalog`).
pub fn body(token: &TokenRecord, base_url: Option<&str>) -> Value {
    let mut body = Map::new();
    body.insert("methods".into(), json!(token.methods));
    body.insert(
        "user".into(),
        json!({
            "id": token.user.id,
            "name": token.user.name,
            "domain": named(&token.user_domain),
            "password_expires_at": null,
        }),
    );
    body.insert("audit_ids".into(), json!(token.audit_ids));
    body.insert("issued_at".into(), json!(token.issued_at));
    body.insert("expires_at".into(), json!(token.expires_at));
    match &token.scope {
        ScopeRecord::Unscoped => return json!({ "token": body }),
        ScopeRecord::Project { project, domain } => {
            let project = json!({ "id": project.id, "name": project.name, "domain": named(domain) });
            body.insert("project".into(), project);
            body.insert("is_domain".into(), json!(false));
        }
        ScopeRecord::Domain(domain) => {
            body.insert("domain".into(), named(domain));
        }
        ScopeRecord::System => {
            body.insert("system".into(), json!({ "all": true }));
        }
    }
    body.insert("roles".into(), token.roles.iter().map(named).collect());
    if let Some(base_url) = base_url {
        body.insert("catalog".into(), catalog(base_url));
    }
    json!({ "token": body })
}

fn named(named: &Named) -> Value {
    json!({ "id": named.id, "name": named.name })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn named(name: &str) -> Named {
        Named { id: format!("{name}-id"), name: name.to_owned() }
    }

    fn token(scope: ScopeRecord) -> TokenRecord {
        TokenRecord {
            methods: vec!["password".to_owned()],
            user: named("a"),
            user_domain: named("Default"),
            scope,
            roles: vec![named("admin"), named("reader")],
            audit_ids: vec!["x".to_owned()],
            issued_at: "2026-01-02T03:04:05.000000Z".to_owned(),
            expires_at: "2026-01-02T04:04:05.000000Z".to_owned(),
        }
    }

    #[test]
    fn what_a_token_is_for_decides_what_it_tells() {
        let check = |scope: ScopeRecord, has: &[&str], lacks: &[&str]| {
            let body = body(&token(scope.clone()), Some("https://c:1"));
            for key in ["methods", "user", "audit_ids", "issued_at", "expires_at"].iter().chain(has) {
                assert!(body["token"].get(key).is_some(), "{scope:?} lacks {key}");
            }
            for key in lacks {
                assert!(body["token"].get(key).is_none(), "{scope:?} has {key}");
            }
        };
        let project = ScopeRecord::Project { project: named("p"), domain: named("Default") };
        check(project, &["project", "is_domain", "roles", "catalog"], &["domain", "system"]);
        check(ScopeRecord::Domain(named("d")), &["domain", "roles", "catalog"], &["project", "is_domain", "system"]);
        check(ScopeRecord::System, &["system", "roles", "catalog"], &["project", "domain"]);
        check(ScopeRecord::Unscoped, &[], &["project", "domain", "system", "roles", "catalog"]);
        assert!(body(&token(ScopeRecord::System), None)["token"].get("catalog").is_none());
    }

    #[test]
    fn the_catalog_has_every_service_at_every_interface() {
        let catalog = catalog("https://c:1");
        let mut ids = HashSet::new();
        for (service, expected) in catalog.as_array().unwrap().iter().zip(&SERVICES) {
            assert_eq!(service["endpoints"][0]["url"], format!("https://c:1{}", expected.path));
            assert_eq!(service["endpoints"].as_array().unwrap().len(), 3);
            ids.insert(service["id"].clone());
            ids.extend(service["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["id"].clone()));
        }
        assert_eq!(ids.len(), 16, "two things share an id: {ids:?}");
        assert!(ids.iter().all(|id| id.as_str().unwrap().len() == 32), "{ids:?}");
    }
}
