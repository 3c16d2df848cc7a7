//! A controller with its first administrator, and calls of OpenStack's APIs over HTTPS as clients make them.

use std::path::Path;

use reqwest::{Method, StatusCode, header::HeaderMap};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use whimbrel_api::native::Bootstrap;

use crate::place::Place;

pub const PASSWORD: &str = "correct horse";

pub struct Cloud {
    pub place: Place,
    http: reqwest::Client,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub token: Option<String>,
    pub body: Value,
}

/// Trusts the CA of that state directory alone.
pub fn https(state_dir: &Path) -> reqwest::Client {
    let ca = std::fs::read(state_dir.join("ca.crt")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}

impl Cloud {
    pub async fn new() -> Self {
        let place = Place::new().await;
        place.client.bootstrap(&Bootstrap { password: PASSWORD.to_owned() }).await.unwrap();
        Cloud::of(place)
    }

    /// As it is.
    pub fn of(place: Place) -> Self {
        let http = https(place.dir.path());
        Cloud { place, http }
    }

    /// Of the identity API.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Reply {
        self.ask(method, &format!("/identity{path}"), token, None, body).await
    }

    /// Of the Compute API, at a microversion.
    pub async fn compute(&self, method: Method, path: &str, token: &str, at: &str, body: Option<Value>) -> Reply {
        let reply = self.ask(method, &format!("/compute/v2.1{path}"), Some(token), Some(at), body).await;
        let told = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert!(told("openstack-api-version").is_some_and(|value| value.starts_with("compute 2.")), "{path}");
        assert!(told("x-openstack-nova-api-version").is_some_and(|value| value.starts_with("2.")), "{path}");
        reply
    }

    /// For what is no JSON.
    pub fn request(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.place.url)).header("X-Auth-Token", token)
    }

    /// Of the Network API.
    pub async fn network(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Reply {
        self.ask(method, &format!("/network{path}"), Some(token), None, body).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        at: Option<&str>,
        body: Option<Value>,
    ) -> Reply {
        let mut ask = self.http.request(method, format!("{}{path}", self.place.url));
        if let Some(token) = token {
            ask = ask.header("X-Auth-Token", token).header("X-Subject-Token", token);
        }
        if let Some(at) = at {
            ask = ask.header("OpenStack-API-Version", format!("compute {at}"));
        }
        if let Some(body) = body {
            ask = ask.json(&body);
        }
        let reply = ask.send().await.unwrap();
        let (status, headers) = (reply.status(), reply.headers().clone());
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert!(header("x-openstack-request-id").unwrap().starts_with("req-"));
        assert_eq!(status == 401, header("www-authenticate").is_some());
        let token = header("x-subject-token");
        Reply { status, token, body: reply.json().await.unwrap_or(Value::Null), headers }
    }

    pub async fn log_in(&self, user: &str, password: &str, scope: Value) -> Reply {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": password});
        let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}});
        self.call(Method::POST, "/v3/auth/tokens", None, Some(auth)).await
    }

    pub async fn admin(&self) -> String {
        self.log_in("admin", PASSWORD, on_project("admin")).await.token.unwrap()
    }

    /// Its id.
    pub async fn make(&self, token: &str, kind: &str, fields: Value) -> String {
        let reply = self.call(Method::POST, &format!("/v3/{kind}s"), Some(token), Some(json!({ kind: fields }))).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.body[kind]["id"].as_str().unwrap().to_owned()
    }

    pub async fn role(&self, token: &str, name: &str) -> String {
        let found = self.call(Method::GET, &format!("/v3/roles?name={name}"), Some(token), None).await;
        found.body["roles"][0]["id"].as_str().unwrap().to_owned()
    }

    /// A token of a new user with this role on a project, which is made if there is none of the name.
    pub async fn someone(&self, admin: &str, project: &str, user: &str, role: &str) -> String {
        let found = self.call(Method::GET, &format!("/v3/projects?name={project}"), Some(admin), None).await;
        let project_id = match found.body["projects"][0]["id"].as_str() {
            Some(id) => id.to_owned(),
            None => self.make(admin, "project", json!({ "name": project })).await,
        };
        let user_id = self.make(admin, "user", json!({"name": user, "password": PASSWORD})).await;
        let role = self.role(admin, role).await;
        let grant = format!("/v3/projects/{project_id}/users/{user_id}/roles/{role}");
        assert_eq!(self.status(Method::PUT, &grant, admin).await, 204);
        self.log_in(user, PASSWORD, on_project(project)).await.token.unwrap()
    }

    /// A new project with a new user who has that role on it: the user's token, the project's id, the user's id.
    pub async fn user_on(&self, admin: &str, project: &str, user: &str, role: &str) -> (String, String, String) {
        let project_id = self.make(admin, "project", json!({"name": project})).await;
        let user_id = self.make(admin, "user", json!({"name": user, "password": "secret-u"})).await;
        let role = self.role(admin, role).await;
        let grant = format!("/v3/projects/{project_id}/users/{user_id}/roles/{role}");
        assert_eq!(self.status(Method::PUT, &grant, admin).await, 204);
        (self.log_in(user, "secret-u", on_project(project)).await.token.unwrap(), project_id, user_id)
    }

    pub async fn status(&self, method: Method, path: &str, token: &str) -> u16 {
        self.call(method, path, Some(token), None).await.status.as_u16()
    }
}

pub fn on_project(name: &str) -> Value {
    json!({"project": {"name": name, "domain": {"name": "Default"}}})
}
