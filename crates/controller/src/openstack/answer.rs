//! How the services say no, and how they read what they are sent: the same for all four, each in its own words.
//!
//! ```text
//! StoreError, Fault -> Refused<Fault> -> the service's body
//! Unreadable (a body, a query, an address that says nothing) -> readable::<Refused<Fault>> -> the service's body
//! ```
//!
//! Ground rules: causes within the controller are logged and not told; no text with a NUL goes further than here, since not
//! every database keeps one.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use whimbrel_store::StoreError;

use crate::{answer::failure_of, app::Shared};

/// A service's faults, for what is no matter of that service alone.
pub(crate) trait Voice: Sized {
    /// To whoever hit upon a mistake of ours.
    const UNEXPECTED: &'static str;

    fn say(status: u16, message: String) -> Self;
    fn no_such(object: &'static str, id: &str) -> Self;
    fn conflict(object: &str, id: &str, reason: &str) -> Self;
    fn answer(self) -> Response;
}

#[derive(Debug)]
pub(crate) struct Refused<F>(pub F);

impl<F: Voice> From<F> for Refused<F> {
    fn from(fault: F) -> Self {
        Refused(fault)
    }
}

impl<F: Voice> From<StoreError> for Refused<F> {
    fn from(error: StoreError) -> Self {
        Refused(match error {
            StoreError::NotFound { object, id } => F::no_such(object, &id),
            StoreError::Conflict { object, id, reason } => F::conflict(object, &id, &reason),
            StoreError::Busy { .. } => {
                failure_of(error);
                F::say(503, "The database is busy: try again in a moment.".to_owned())
            }
            StoreError::Refused { .. }
            | StoreError::Corrupt { .. }
            | StoreError::BadUrl { .. }
            | StoreError::TooNew { .. }
            | StoreError::Db { .. } => {
                // Logged with its cause, of which nobody outside is told.
                failure_of(error);
                F::say(500, F::UNEXPECTED.to_owned())
            }
        })
    }
}

impl<F: Voice> From<Unreadable> for Refused<F> {
    fn from(unreadable: Unreadable) -> Self {
        Refused(F::say(unreadable.status, unreadable.why))
    }
}

impl<F: Voice> IntoResponse for Refused<F> {
    fn into_response(self) -> Response {
        self.0.answer()
    }
}

/// A part of a request that says nothing to us; told by [`readable`].
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub status: u16,
    pub why: String,
}

impl Unreadable {
    fn new(status: u16, why: impl Into<String>) -> Self {
        Unreadable { status, why: why.into() }
    }
}

impl IntoResponse for Unreadable {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Around every call: what cannot be read is refused, as `R` tells it.
pub(crate) async fn readable<R: From<Unreadable> + IntoResponse>(request: Request, next: Next) -> Response {
    let uri = request.uri();
    let is_text = |coded: &str| percent_decode_str(coded).decode_utf8().is_ok_and(|text| !text.contains('\0'));
    if !is_text(uri.path()) {
        return R::from(Unreadable::new(404, "The resource could not be found.")).into_response();
    }
    if uri.query().is_some_and(|query| percent_decode_str(query).any(|byte| byte == 0)) {
        return R::from(Unreadable::new(400, "The query has a NUL character in it.")).into_response();
    }
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Unreadable>() {
        Some(unreadable) => R::from(unreadable).into_response(),
        None => response,
    }
}

/// A JSON body.
pub(crate) struct Body(pub Value);

impl FromRequest<Shared> for Body {
    type Rejection = Unreadable;
    async fn from_request(request: Request, app: &Shared) -> Result<Self, Unreadable> {
        match Json::<Value>::from_request(request, app).await {
            Ok(Json(body)) => without_nul(body).map(Body),
            Err(rejection) => Err(match rejection.status().as_u16() {
                413 => Unreadable::new(413, "The body is too large."),
                415 => Unreadable::new(415, "Unsupported Content-Type"),
                _ => malformed(),
            }),
        }
    }
}

/// A JSON body, whatever its type is called.
pub(crate) struct UntypedBody(pub Value);

impl FromRequest<Shared> for UntypedBody {
    type Rejection = Unreadable;
    async fn from_request(request: Request, app: &Shared) -> Result<Self, Unreadable> {
        let bytes =
            bytes::Bytes::from_request(request, app).await.map_err(|rejection| match rejection.status().as_u16() {
                413 => Unreadable::new(413, "The body is too large."),
                _ => malformed(),
            })?;
        let Json(body) = Json::<Value>::from_bytes(&bytes).map_err(|_| malformed())?;
        without_nul(body).map(UntypedBody)
    }
}

fn malformed() -> Unreadable {
    Unreadable::new(400, "Malformed request body")
}

fn without_nul(body: Value) -> Result<Value, Unreadable> {
    match has_nul(&body) {
        true => Err(Unreadable::new(400, "Malformed request body: a text in it has a NUL character.")),
        false => Ok(body),
    }
}

/// As deep as the parser lets a body be.
pub(crate) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The parameters of a list.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Unreadable;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Unreadable> {
        let parsed = axum::extract::Query::<T>::from_request_parts(parts, app).await;
        let axum::extract::Query(query) = parsed.map_err(|rejection| Unreadable::new(400, rejection.body_text()))?;
        Ok(Query(query))
    }
}
