//! Client of OpenStack's front door, for setting a cloud up: logs in once, then posts.
//!
//! Ground rules: bodies are plain JSON, since their shapes are other people's; a refusal is told in the server's own words.

use reqwest::{Method, header::HeaderName};
use serde_json::{Value, json};
use whimbrel_core::failure::{Failure, FailureCode};

use super::{
    controller::trusting,
    transport::{CALL_TIME_MAX, Transport, http_client},
};
use crate::native::Bootstrapped;

const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
const TOKENS: &str = "/identity/v3/auth/tokens";

/// Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct OpenStackClient {
    transport: Transport,
}

impl OpenStackClient {
    /// As the administrator that `made` names, on his project. `url` is the controller's.
    pub async fn log_in(url: &str, ca_pem: &str, made: &Bootstrapped, password: &str) -> Result<Self, Failure> {
        let hint = format!("is `whimbrel controller` running at {url}?");
        let transport = Transport::new(http_client(trusting(ca_pem)?)?, url, "the controller".to_owned(), hint)?;
        let domain = json!({ "name": made.domain });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": made.user, "domain": domain, "password": password,
            } } },
            "scope": { "project": { "name": made.project, "domain": domain } },
        } });
        let request = transport.request(Method::POST, TOKENS).timeout(CALL_TIME_MAX).json(&body);
        let response = transport.send(request).await?;
        let token = response.headers().get(SUBJECT_TOKEN).and_then(|value| value.to_str().ok()).map(str::to_owned);
        transport.body_of(response, &Method::POST, TOKENS).await?;
        let token = token.ok_or_else(|| {
            Failure::new(FailureCode::Internal, format!("{url} answered a login without a token"))
                .hint("is that the controller's URL?")
        })?;
        Ok(OpenStackClient { transport: transport.with_keystone_token(&token) })
    }

    /// `path` with the service's own: `/network/v2.0/networks`.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.transport.post(path, Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.transport.get(path).await
    }
}
