//! axum's extractors with problem JSON for what they refuse.

use axum::{
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::request::Parts,
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_store::PageAsk;

use crate::{
    answer::{Answer, ApiError},
    app::Shared,
    openstack::answer::has_nul,
};

/// As JSON writes it.
const NUL: &[u8] = b"\\u0000";

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, app: &Shared) -> Answer<Self> {
        let refused =
            |why: String| Failure::new(FailureCode::BadRequest, why).hint("see GET /v1/openapi.json for the fields");
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| refused(rejection.body_text()))?;
        // What is read into a struct may come as a list too, and every field of a move has a default.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(refused("the body is no JSON object".to_owned()).into());
        }
        // Parsed twice only where there may be one: heartbeats are many.
        let may_have_nul = bytes.windows(NUL.len()).any(|part| part == NUL);
        if may_have_nul && serde_json::from_slice(&bytes).is_ok_and(|body| has_nul(&body)) {
            return Err(refused("a text in the body has a NUL character".to_owned()).into());
        }
        let parsed = axum::Json::<T>::from_request(Request::from_parts(parts, bytes.into()), app).await;
        let axum::Json(body) = parsed.map_err(|rejection: JsonRejection| refused(rejection.body_text()))?;
        Ok(Body(body))
    }
}

/// Path parameters.
pub struct At<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for At<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Answer<Self> {
        let parsed = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        let axum::extract::Path(at) = parsed.map_err(|rejection| {
            Failure::new(FailureCode::BadRequest, format!("{}: {}", parts.uri.path(), rejection.body_text()))
        })?;
        Ok(At(at))
    }
}

/// `?limit=&marker=`
pub struct PageOf(pub PageAsk);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<u32>,
    marker: Option<String>,
}

impl FromRequestParts<Shared> for PageOf {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Answer<Self> {
        let parsed = axum::extract::Query::<PageQuery>::from_request_parts(parts, app).await;
        let axum::extract::Query(query) = parsed.map_err(|rejection| {
            Failure::new(FailureCode::BadRequest, rejection.body_text())
                .hint(format!("lists take ?limit= (1 to {}) and ?marker=", whimbrel_store::PAGE_MAX))
        })?;
        Ok(PageOf(PageAsk { limit: query.limit, marker: query.marker }))
    }
}
