//! The table of good calls, `calls.txt`: read, matched with the routes that are served, and made.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use whimbrel_controller::Route;

use crate::world::{Made, World, names};

const TABLE: &str = include_str!("calls.txt");
const AT: &str = "2.96";
const PATCH_TYPE: &str = "application/openstack-images-v2.1-json-patch";

#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// With its query; `$name` stands for something that is there.
    pub path: String,
    pub at: String,
    pub body: Option<String>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: Method,
    pub path: String,
    pub at: String,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    None,
    Json(Value),
    /// With a type that says JSON.
    Text(String),
    Bytes(Vec<u8>),
}

pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

/// Who makes a call.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    None,
    /// Of OpenStack's APIs.
    Token(&'a str),
    /// Of the native API.
    Bearer(&'a str),
    /// An agent's certificate.
    Host(&'a str),
}

pub fn all() -> Vec<Call> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(parse).collect()
}

fn parse(line: &str) -> Call {
    let (method, rest) = line.split_once(' ').unwrap();
    let (path, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (at, body) = match rest.strip_prefix('@') {
        Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
        None => (AT, rest),
    };
    Call {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        at: at.to_owned(),
        body: Some(body.to_owned()).filter(|body| !body.is_empty()),
    }
}

impl Call {
    /// The line of the table, as far as it tells one call from another.
    pub fn title(&self) -> String {
        let at = if self.at == AT { String::new() } else { format!(" @{}", self.at) };
        let action = match self.body.as_deref().and_then(|body| body.strip_prefix("{\"")) {
            Some(body) if self.path.ends_with("/action") => format!(" {}", body.split('"').next().unwrap_or_default()),
            Some(_) | None => String::new(),
        };
        format!("{:<6} {}{at}{action}", self.method.as_str(), self.path)
    }

    pub fn is_native(&self) -> bool {
        self.path.starts_with("/v1/")
    }

    /// What it names and may use up.
    pub fn names(&self) -> Vec<&str> {
        names(&self.path).into_iter().chain(names(self.body.as_deref().unwrap_or_default())).collect()
    }

    /// The most literal of the routes that take it.
    pub fn route<'a>(&self, routes: &'a [Route]) -> Option<&'a Route> {
        let path = self.path.split('?').next().unwrap_or_default();
        let fits = routes.iter().filter(|route| route.method == self.method);
        let fits = fits.filter_map(|route| literal_segments(&route.path, path).map(|count| (count, route)));
        fits.max_by_key(|(count, _)| *count).map(|(_, route)| route)
    }
}

fn literal_segments(route: &str, path: &str) -> Option<usize> {
    let (route, path): (Vec<&str>, Vec<&str>) = (route.split('/').collect(), path.split('/').collect());
    let matches = |(wanted, is): (&&str, &&str)| wanted == is || (wanted.starts_with('{') && !is.is_empty());
    let fits = route.len() == path.len() && route.iter().zip(&path).all(matches);
    fits.then(|| route.iter().filter(|segment| !segment.starts_with('{')).count())
}

impl World {
    /// The call with what its names stand for.
    pub async fn fill(&mut self, call: &Call) -> Made<Sent> {
        let path = self.text(&call.path).await?;
        let payload = match call.body.as_deref() {
            None => Payload::None,
            Some(bytes) if bytes.starts_with("bytes:") => Payload::Bytes(vec![0; bytes[6..].parse().unwrap()]),
            Some(body) => {
                let body = self.text(body).await?;
                Payload::Json(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
            }
        };
        Ok(Sent { method: call.method.clone(), path, at: call.at.clone(), payload })
    }

    pub async fn send(&self, sent: &Sent, credential: Credential<'_>) -> Made<Answered> {
        let client = match credential {
            Credential::Host(host) => &self.agents[host],
            Credential::None | Credential::Token(_) | Credential::Bearer(_) => &self.cloud.http,
        };
        let mut ask = client.request(sent.method.clone(), format!("{}{}", self.cloud.place.url, sent.path));
        ask = match credential {
            Credential::Token(token) => ask.header("X-Auth-Token", token),
            Credential::Bearer(token) => ask.bearer_auth(token),
            Credential::None | Credential::Host(_) => ask,
        };
        if sent.path.starts_with("/compute/") {
            ask = ask.header("OpenStack-API-Version", format!("compute {}", sent.at));
        }
        ask = ask.header("X-Subject-Token", &self.subject).header("Accept", "application/json");
        let is_patch = sent.method == Method::PATCH && sent.path.starts_with("/image");
        let json = if is_patch { PATCH_TYPE } else { "application/json" };
        ask = match &sent.payload {
            Payload::None => ask,
            Payload::Json(body) => ask.header("Content-Type", json).body(body.to_string()),
            Payload::Text(text) => ask.header("Content-Type", json).body(text.clone()),
            Payload::Bytes(bytes) => ask.header("Content-Type", "application/octet-stream").body(bytes.clone()),
        };
        let reply = ask.send().await.map_err(|error| format!("it was not answered: {error:?}"))?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let bytes = reply.bytes().await.map_err(|error| format!("the answer broke off: {error:?}"))?;
        Ok(Answered { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

#[test]
fn every_route_has_a_good_call_and_every_call_a_route() {
    let (routes, calls) = (whimbrel_controller::routes(), all());
    assert!(routes.len() > 150, "{}", routes.len());
    for call in &calls {
        assert!(call.route(&routes).is_some(), "there is no route for {}", call.title());
    }
    let called = |route: &Route| calls.iter().any(|call| call.route(&routes) == Some(route));
    let missing: Vec<String> =
        routes.iter().filter(|route| !called(route)).map(|route| format!("{} {}", route.method, route.path)).collect();
    assert!(missing.is_empty(), "calls.txt has no call of {missing:#?}");
}
