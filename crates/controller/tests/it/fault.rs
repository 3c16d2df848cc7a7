//! Whether a refusal has the form of its service, and a request's id.

use serde_json::Value;

use crate::calls::Answered;

/// Nova's names of faults, by status.
const COMPUTE: [(u16, &str); 11] = [
    (400, "badRequest"),
    (403, "forbidden"),
    (404, "itemNotFound"),
    (405, "badMethod"),
    (406, "computeFault"),
    (409, "conflictingRequest"),
    (413, "overLimit"),
    (415, "badMediaType"),
    (500, "computeFault"),
    (501, "notImplemented"),
    (503, "serviceUnavailable"),
];

/// What is wrong with the answer to a call of that path.
pub fn wrong(path: &str, answered: &Answered) -> Option<String> {
    let native = path.starts_with("/v1/");
    let id = answered.headers.get("x-openstack-request-id").and_then(|value| value.to_str().ok());
    if !native && !id.is_some_and(|id| id.starts_with("req-")) {
        return Some("it has no request id".to_owned());
    }
    let status = answered.status.as_u16();
    if status < 400 || answered.text.is_empty() && status == 404 && path.contains("/tags/") {
        return None;
    }
    let body = answered.json();
    let form = match path.split('/').nth(1) {
        Some("identity") => keystone(&body, status),
        // Whoever is not let in is told so by Keystone's own part of every service.
        Some("compute" | "image" | "network") if status == 401 => keystone(&body, status),
        Some("compute") => {
            let name = COMPUTE.iter().find(|(of, _)| *of == status).map_or("", |(_, name)| *name);
            body[name]["code"] == status && has_words(&body[name]["message"])
        }
        Some("network") => ["type", "message"].iter().all(|key| has_words(&body["NeutronError"][key])),
        Some("image") => has_words(&body["message"]) && has_words(&body["title"]) && code_begins(&body, status),
        _ => has_words(&body["detail"]) && has_words(&body["code"]) && body["status"] == status,
    };
    (!form).then(|| "it has not the form of a fault".to_owned())
}

fn keystone(body: &Value, status: u16) -> bool {
    let error = &body["error"];
    error["code"] == status && has_words(&error["message"]) && has_words(&error["title"])
}

fn code_begins(body: &Value, status: u16) -> bool {
    body["code"].as_str().is_some_and(|code| code.starts_with(&status.to_string()))
}

fn has_words(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
