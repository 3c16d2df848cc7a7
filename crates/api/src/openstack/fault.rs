//! The error body of the Compute API: one object, named after the kind of fault.
//!
//! Source: nova, api/openstack/wsgi.py, `Fault`.

use serde_json::{Map, Value, json};

/// A refusal as a client sees it. The message is shown to people and names the object and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// HTTP status, repeated in the body.
    pub status: u16,
    pub message: String,
    /// Only of those that may be asked again: 413 and 429.
    pub retry_after_s: Option<u32>,
}

impl Fault {
    pub fn new(status: u16, message: impl Into<String>) -> Fault {
        Fault { status, message: message.into(), retry_after_s: None }
    }

    pub fn body(&self) -> Value {
        let mut fault = json!({ "code": self.status, "message": self.message });
        if let Some(seconds) = self.retry_after_s {
            fault["retryAfter"] = json!(seconds.to_string());
        }
        Value::Object(Map::from_iter([(name(self.status).to_owned(), fault)]))
    }
}

fn name(status: u16) -> &'static str {
    match status {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        // 406 and 500 among them.
        _ => "computeFault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_named_after_the_status() {
        let check = |fault: Fault, want: Value| assert_eq!(fault.body(), want);
        let of = |status| Fault::new(status, "why");
        check(of(400), json!({"badRequest": {"code": 400, "message": "why"}}));
        check(of(404), json!({"itemNotFound": {"code": 404, "message": "why"}}));
        check(of(406), json!({"computeFault": {"code": 406, "message": "why"}}));
        check(of(409), json!({"conflictingRequest": {"code": 409, "message": "why"}}));
        let limited = Fault { retry_after_s: Some(3), ..of(413) };
        check(limited, json!({"overLimit": {"code": 413, "message": "why", "retryAfter": "3"}}));
    }
}
