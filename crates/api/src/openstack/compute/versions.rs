//! The documents by which clients find the API and its range of versions: `GET /` and `GET /v2.1/`.
//!
//! Ground rules: these two are read before any version is negotiated, so they look the same at every one; the range in them is
//! the only place where clients learn it. v2.0 is named as deprecated, as Nova still does, since some look for it.
//! Source: nova, api/openstack/compute/versions.py and views/versions.py.

use serde_json::{Value, json};

use super::super::microversion::{Microversion, Offer};

struct Known {
    id: &'static str,
    /// Below the root.
    path: &'static str,
    status: &'static str,
    updated: &'static str,
    media: &'static str,
    negotiates: bool,
}

const LEGACY: Known = Known {
    id: "v2.0",
    path: "v2",
    status: "DEPRECATED",
    updated: "2025-07-04T12:00:00Z",
    media: "application/vnd.openstack.compute+json;version=2",
    negotiates: false,
};

const CURRENT: Known = Known {
    id: "v2.1",
    path: "v2.1",
    status: "CURRENT",
    updated: "2013-07-23T11:33:21Z",
    media: "application/vnd.openstack.compute+json;version=2.1",
    negotiates: true,
};

/// The answer to `GET /`. `root` is where that is, without a slash at the end.
pub fn list(root: &str, offer: Offer) -> Value {
    let entry = |known: &Known| entry(known, offer, json!([own_link(known, root)]));
    json!({ "versions": [entry(&LEGACY), entry(&CURRENT)] })
}

/// The answer to `GET /v2.1/`.
pub fn show(root: &str, offer: Offer) -> Value {
    described(&CURRENT, root, offer)
}

/// The answer to `GET /v2/`, below which nothing else is.
pub fn show_legacy(root: &str, offer: Offer) -> Value {
    described(&LEGACY, root, offer)
}

fn described(known: &Known, root: &str, offer: Offer) -> Value {
    let described = json!({ "rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/" });
    let mut version = entry(known, offer, json!([own_link(known, root), described]));
    version["media-types"] = json!([{ "base": "application/json", "type": known.media }]);
    json!({ "version": version })
}

/// The answer, with status 300, to a path that names no version.
pub fn choices(root: &str, path: &str) -> Value {
    let choice = |known: &Known| {
        let href = format!("{root}/{}/{}", known.path, path.trim_start_matches('/'));
        let media = json!([{ "base": "application/json", "type": known.media }]);
        json!({ "id": known.id, "status": known.status, "links": [{ "rel": "self", "href": href }], "media-types": media })
    };
    json!({ "choices": [choice(&LEGACY), choice(&CURRENT)] })
}

fn entry(known: &Known, offer: Offer, links: Value) -> Value {
    let range = known.negotiates.then(|| (offer.max().to_string(), Microversion::FIRST.to_string()));
    let (max, min) = range.unwrap_or_default();
    json!({
        "id": known.id,
        "status": known.status,
        "version": max,
        "min_version": min,
        "updated": known.updated,
        "links": links,
    })
}

fn own_link(known: &Known, root: &str) -> Value {
    json!({ "rel": "self", "href": format!("{root}/{}/", known.path) })
}

#[cfg(test)]
mod tests {
    use super::{super::shape::seen::names, *};

    const ROOT: &str = "https://h:1/compute";

    #[test]
    fn the_list_names_both_and_the_range_of_the_one() {
        let body = list(ROOT, Offer::default());
        let fields = ["id", "links", "min_version", "status", "updated", "version"];
        assert_eq!(names(&body["versions"][0]), fields);
        assert_eq!(names(&body["versions"][1]), fields);
        assert_eq!((&body["versions"][0]["version"], &body["versions"][0]["min_version"]), (&json!(""), &json!("")));
        assert_eq!(body["versions"][0]["status"], "DEPRECATED");
        assert_eq!(body["versions"][1]["version"], "2.96");
        assert_eq!(body["versions"][1]["min_version"], "2.1");
        assert_eq!(body["versions"][1]["links"], json!([{"rel": "self", "href": "https://h:1/compute/v2.1/"}]));
        assert_eq!(body["versions"][2], Value::Null);
    }

    #[test]
    fn one_version_has_media_types_and_an_operators_cap() {
        let body = show(ROOT, "2.87".parse().expect("a version"));
        let fields = ["id", "links", "media-types", "min_version", "status", "updated", "version"];
        assert_eq!(names(&body["version"]), fields);
        assert_eq!(body["version"]["version"], "2.87");
        assert_eq!(body["version"]["links"][0]["href"], "https://h:1/compute/v2.1/");
        assert_eq!(body["version"]["links"][1]["rel"], "describedby");
    }

    #[test]
    fn a_path_without_a_version_is_offered_both() {
        let body = choices(ROOT, "/servers");
        assert_eq!(names(&body["choices"][0]), ["id", "links", "media-types", "status"]);
        assert_eq!(body["choices"][1]["links"][0]["href"], "https://h:1/compute/v2.1/servers");
    }
}
