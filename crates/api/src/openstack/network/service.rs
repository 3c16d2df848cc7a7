//! What the service says of itself: versions, extensions, availability zones, quotas.
//!
//! Ground rules: an extension is named only where what clients use of it is there, since they decide by it what they ask for;
//! routers and floating IPs are not, so their lists are empty and their extensions unnamed, and so is that of quotas, which can
//! only be read.

use serde_json::{Map, Value, json};

use super::fault::Fault;

const UPDATED: &str = "2026-01-01T00:00:00-00:00";
const VERSION: &str = "v2.0";

struct Extension {
    alias: &'static str,
    name: &'static str,
    description: &'static str,
}

const fn extension(alias: &'static str, name: &'static str, description: &'static str) -> Extension {
    Extension { alias, name, description }
}

const EXTENSIONS: &[Extension] = &[
    extension("availability_zone", "Availability Zone", "The availability zones of networks."),
    extension("binding", "Port Binding", "On which host a port is."),
    extension("external-net", "Neutron external network", "Networks that lead outside."),
    extension("filter-validation", "Filter parameters validation", "A filter that is no attribute is refused."),
    extension("net-mtu", "Network MTU", "The MTU of a network."),
    extension("net-mtu-writable", "Network MTU (writable)", "The MTU of a network can be changed."),
    extension("pagination", "Pagination support", "Lists come in pages."),
    extension("project-id", "project_id field enabled", "project_id beside tenant_id."),
    extension("provider", "Provider Network", "On which wire a network is: flat or vlan, on a bridge of the hosts."),
    extension("security-group", "security-group", "Security groups; kept, not enforced."),
    extension("sorting", "Sorting support", "Lists come in the order that is asked for."),
    extension("standard-attr-description", "standard-attr-description", "A description of everything."),
    extension("standard-attr-revisions", "Resource revision numbers", "A number that rises with every change."),
    extension("standard-attr-timestamp", "Resource timestamps", "When something was made and changed."),
];

impl Extension {
    fn body(&self) -> Value {
        json!({
            "alias": self.alias,
            "name": self.name,
            "description": self.description,
            "updated": UPDATED,
            "links": [],
        })
    }
}

pub fn extensions() -> Value {
    json!({ "extensions": EXTENSIONS.iter().map(Extension::body).collect::<Vec<_>>() })
}

pub fn extension_by(alias: &str) -> Result<Value, Fault> {
    let found = EXTENSIONS.iter().find(|extension| extension.alias == alias);
    let missing = || {
        let alias: String = alias.chars().filter(|c| !c.is_control()).take(64).collect();
        Fault::new(404, "HTTPNotFound", format!("Extension with alias {alias} does not exist"))
    };
    Ok(json!({ "extension": found.ok_or_else(missing)?.body() }))
}

/// The answer to `GET /`. `root` is where that is, without a slash at the end.
pub fn versions(root: &str) -> Value {
    let link = json!({ "rel": "self", "href": format!("{root}/{VERSION}/") });
    json!({ "versions": [{ "id": VERSION, "status": "CURRENT", "updated": UPDATED, "links": [link] }] })
}

/// The answer to `GET /v2.0`: which lists there are. Pairs of a thing's name and its collection.
pub fn resources(root: &str, names: &[(&str, &str)]) -> Value {
    let resource = |(name, collection): &(&str, &str)| {
        let link = json!({ "rel": "self", "href": format!("{root}/{VERSION}/{}", collection.replace('_', "-")) });
        json!({ "name": name, "collection": collection, "links": [link] })
    };
    json!({ "resources": names.iter().map(resource).collect::<Vec<_>>() })
}

/// One zone, as that of the hosts where nobody made others.
pub fn availability_zones(name: &str) -> Value {
    json!({ "availability_zones": [{ "name": name, "resource": "network", "state": "available" }] })
}

/// -1: as much as there is. What is not offered has none.
const QUOTAS: &[(&str, i64)] = &[
    ("network", -1),
    ("subnet", -1),
    ("port", -1),
    ("security_group", -1),
    ("security_group_rule", -1),
    ("router", 0),
    ("floatingip", 0),
    ("subnetpool", 0),
    ("rbac_policy", 0),
];

pub fn quota() -> Value {
    let quota: Map<String, Value> = QUOTAS.iter().map(|(name, limit)| ((*name).to_owned(), json!(limit))).collect();
    json!({ "quota": quota })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_names_what_it_has() {
        let listed = extensions();
        let aliases: Vec<&str> =
            listed["extensions"].as_array().unwrap().iter().map(|each| each["alias"].as_str().unwrap()).collect();
        assert!(aliases.is_sorted(), "{aliases:?}");
        for absent in ["router", "agent", "qos", "trunk", "dns-integration", "port-security", "address-scope"] {
            assert!(!aliases.contains(&absent), "{absent}");
            assert_eq!(extension_by(absent).unwrap_err().status, 404);
        }
        assert_eq!(extension_by("provider").unwrap()["extension"]["name"], "Provider Network");
        assert_eq!(extension_by("Provider Network").unwrap_err().kind, "HTTPNotFound");
        assert_eq!(versions("https://h/network")["versions"][0]["links"][0]["href"], "https://h/network/v2.0/");
        assert_eq!(quota()["quota"]["router"], 0);
        let listed = resources("https://h/network", &[("security_group", "security_groups")]);
        assert_eq!(listed["resources"][0]["links"][0]["href"], "https://h/network/v2.0/security-groups");
    }
}
