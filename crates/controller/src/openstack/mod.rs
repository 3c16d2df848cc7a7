//! OpenStack's front door: the same port as the native API, for the tools that speak Keystone, Nova, Glance and Neutron.
//!
//! ```text
//! X-Auth-Token -> identity::caller -> core::identity::policy -> handler -> store -> api::openstack (body)
//! ```
//!
//! Ground rules: shapes are `api`'s and decisions `core`'s; every answer carries a request id, that of a log line and, later,
//! of an instance action; addresses in answers are those by which the client came.
pub mod compute;
pub mod identity;
pub mod image;
pub mod network;

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    http::{HeaderName, HeaderValue, Uri, header::HOST, request::Parts},
    middleware::{self, Next},
    response::Response,
};
use tracing::Instrument;
use uuid::Uuid;

use crate::app::{App, Shared};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
/// Nova's older name of it, which tempest still reads.
const COMPUTE_REQUEST_ID: HeaderName = HeaderName::from_static("x-compute-request-id");

pub fn router(app: &App) -> Router<Shared> {
    Router::new()
        .merge(if app.keystone.is_some() { identity::elsewhere() } else { identity::router() })
        .merge(compute::router())
        .merge(image::router())
        .merge(network::router())
        .layer(middleware::from_fn(with_request_id))
}

/// In the extensions of every request.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

async fn with_request_id(mut request: Request, next: Next) -> Response {
    let id = format!("req-{}", Uuid::now_v7());
    let span = tracing::info_span!("request", id);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(COMPUTE_REQUEST_ID, value.clone());
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// `https://HOST:PORT` as the client wrote it, without a slash at its end.
pub struct BaseUrl(pub String);

impl<S: Sync> FromRequestParts<S> for BaseUrl {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // HTTP/2 has it in the request's own address, HTTP/1.1 in a header.
        let named = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
        let authority = parts.uri.authority().map(|authority| authority.as_str()).or(named);
        // What is no authority would make links of the client's choosing.
        let plain = authority.filter(|authority| {
            authority
                .parse::<Uri>()
                .is_ok_and(|uri| uri.authority().is_some_and(|parsed| parsed.as_str() == *authority))
        });
        Ok(BaseUrl(plain.map(|authority| format!("https://{authority}")).unwrap_or_default()))
    }
}
