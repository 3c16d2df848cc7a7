//! Where the Image API is: clients ask before they show a token.

use serde_json::{Value, json};

/// Without several stores, a cache or import: what of 2.x those brought is not served.
const CURRENT: &str = "v2.7";
const SUPPORTED: [&str; 7] = ["v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"];

/// Of `/image`, which answers 300, and of `/image/versions`, which answers 200. `base_url` ends in `/image`.
pub fn list(base_url: &str) -> Value {
    let version = |id: &str, status: &str| {
        let link = json!({ "rel": "self", "href": format!("{base_url}/v2/") });
        json!({ "id": id, "status": status, "links": [link] })
    };
    let supported = SUPPORTED.iter().map(|id| version(id, "SUPPORTED"));
    json!({ "versions": std::iter::once(version(CURRENT, "CURRENT")).chain(supported).collect::<Vec<_>>() })
}
