//! The error body of the Image API, in the form that the client takes.
//!
//! Whoever asks for JSON gets an object; everybody else gets a page of HTML, out of which python-glanceclient reads the
//! message (of JSON it takes only nested objects, and fails on this one).
//! Source: webob, exc.py, `WSGIHTTPException`; python-glanceclient, exc.py; openstacksdk, exceptions.py.

use serde_json::json;

/// A refusal as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub message: String,
}

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Html,
}

impl Form {
    /// By the header `Accept`. openstacksdk sends an empty one with some calls, and reads JSON.
    pub fn accepted(accept: Option<&str>) -> Form {
        match accept {
            Some(accept) if accept.trim().is_empty() || accept.contains("application/json") => Form::Json,
            Some(_) | None => Form::Html,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Html => "text/html; charset=UTF-8",
        }
    }
}

impl Fault {
    pub fn new(status: u16, message: impl Into<String>) -> Fault {
        Fault { status, message: message.into() }
    }

    pub fn no_image(id: &str) -> Fault {
        Fault::new(404, format!("Failed to find image {id}"))
    }

    pub fn body(&self, form: Form) -> String {
        let title = title(self.status);
        let code = format!("{} {title}", self.status);
        match form {
            Form::Json => json!({ "message": self.message, "code": code, "title": title }).to_string(),
            Form::Html => format!(
                "<html>\n <head>\n  <title>{code}</title>\n </head>\n <body>\n  <h1>{code}</h1>\n  {}<br /><br />\n </body>\n</html>",
                escaped(&self.message)
            ),
        }
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            plain => safe.push(plain),
        }
    }
    safe
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_what_it_reads() {
        let check = |accept, want| assert_eq!(Form::accepted(accept), want, "{accept:?}");
        check(Some("application/json"), Form::Json);
        check(Some(""), Form::Json);
        check(Some("*/*"), Form::Html);
        check(Some("text/html,application/xhtml+xml"), Form::Html);
        check(None, Form::Html);
        let fault = Fault::no_image("<b>'1'");
        let want = json!({"message": "Failed to find image <b>'1'", "code": "404 Not Found", "title": "Not Found"});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&fault.body(Form::Json)).unwrap(), want);
        let html = fault.body(Form::Html);
        assert!(html.contains("<h1>404 Not Found</h1>\n  Failed to find image &lt;b&gt;&#39;1&#39;<br />"), "{html}");
    }
}
