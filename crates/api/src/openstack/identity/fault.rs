//! The error body of the identity API.

use serde_json::{Value, json};

/// A refusal as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub message: String,
}

impl Fault {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Fault { status, message: message.into() }
    }

    pub fn unauthorized() -> Self {
        // One text for every reason: who guesses learns nothing.
        Fault::new(401, "The request you have made requires authentication.")
    }

    pub fn not_found(object: &str, id: &str) -> Self {
        Fault::new(404, format!("Could not find {object}: {id}."))
    }

    pub fn body(&self) -> Value {
        json!({ "error": { "code": self.status, "message": self.message, "title": title(self.status) } })
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        413 => "Request Entity Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_repeats_the_status() {
        let body = Fault::not_found("user", "u1").body();
        let want = json!({"error": {"code": 404, "message": "Could not find user: u1.", "title": "Not Found"}});
        assert_eq!(body, want);
        assert_eq!(Fault::unauthorized().body()["error"]["title"], "Unauthorized");
    }
}
