//! Where the identity API is: clients ask before they log in.

use serde_json::{Value, json};

const ID: &str = "v3.14";
const UPDATED: &str = "2020-04-07T00:00:00Z";
const MEDIA_TYPE: &str = "application/vnd.openstack.identity-v3+json";

fn version(base_url: &str) -> Value {
    json!({
        "id": ID,
        "status": "stable",
        "updated": UPDATED,
        "links": [{ "rel": "self", "href": format!("{base_url}/identity/v3/") }],
        "media-types": [{ "base": "application/json", "type": MEDIA_TYPE }],
    })
}

/// Of `/identity`, which answers 300.
pub fn list(base_url: &str) -> Value {
    json!({ "versions": { "values": [version(base_url)] } })
}

/// Of `/identity/v3`.
pub fn show(base_url: &str) -> Value {
    json!({ "version": version(base_url) })
}
