//! Refusals of the Image API, and its JSON bodies.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use whimbrel_api::openstack::image::fault::{Fault, Form};
use whimbrel_store::StoreError;

use crate::{
    answer::{ApiError, failure_of},
    app::Shared,
    image::VaultError,
};

pub(super) type Answer<T> = Result<T, Refused>;

#[derive(Debug)]
pub(crate) struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused(fault)
    }
}

fn unexpected() -> Fault {
    Fault::new(500, "The server has either erred or is incapable of performing the requested operation.")
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused(match error {
            StoreError::NotFound { id, .. } => Fault::no_image(&id),
            StoreError::Conflict { object, id, reason } => Fault::new(409, format!("The {object} {id} {reason}.")),
            StoreError::Busy { .. } => {
                failure_of(error);
                Fault::new(503, "The database is busy: try again in a moment.")
            }
            StoreError::Refused { .. }
            | StoreError::Corrupt { .. }
            | StoreError::BadUrl { .. }
            | StoreError::TooNew { .. }
            | StoreError::Db { .. } => {
                // Logged with its cause, of which nobody outside is told.
                failure_of(error);
                unexpected()
            }
        })
    }
}

impl From<VaultError> for Refused {
    fn from(error: VaultError) -> Self {
        let told = error.to_string();
        Refused(match error {
            VaultError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                tracing::error!(error = told, "there is no room for an image");
                Fault::new(413, "Image storage media is full.")
            }
            VaultError::File { source, .. } => {
                tracing::error!(error = told, %source, "image content cannot be read or written");
                unexpected()
            }
            VaultError::Missing { .. } => {
                tracing::error!(error = told, "image content is gone");
                unexpected()
            }
            VaultError::Stalled => Fault::new(408, told),
            VaultError::BrokeOff { .. } | VaultError::OtherSize { .. } => Fault::new(400, told),
            VaultError::TooLarge => Fault::new(413, told),
            VaultError::Unfit { hint, .. } => Fault::new(400, format!("{told} (hint: {hint})")),
        })
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        tracing::error!(?error, "a call of the Image API failed");
        Refused(unexpected())
    }
}

impl IntoResponse for Refused {
    /// The body is written by [`in_the_form_asked_for`].
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// Around all calls: what a refusal looks like depends on what the client reads.
pub(super) async fn in_the_form_asked_for(request: Request, next: Next) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let form = Form::accepted(accept);
    let mut response = next.run(request).await;
    let Some(fault) = response.extensions_mut().remove::<Fault>() else { return response };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    Response::from_parts(parts, fault.body(form).into())
}

/// A JSON body, whatever its type is called: patches have one of their own.
pub(super) struct Body(pub Value);

impl FromRequest<Shared> for Body {
    type Rejection = Refused;
    async fn from_request(request: Request, app: &Shared) -> Answer<Self> {
        let bytes = bytes::Bytes::from_request(request, app).await.map_err(|rejection| {
            let status = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { 413 } else { 400 };
            Fault::new(status, rejection.body_text())
        })?;
        let Json(body) =
            Json::<Value>::from_bytes(&bytes).map_err(|_| Fault::new(400, "Malformed JSON in request body."))?;
        Ok(Body(body))
    }
}
