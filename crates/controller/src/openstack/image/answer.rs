//! Refusals of the Image API.

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::image::fault::{Fault, Form};

pub(super) use super::super::answer::UntypedBody as Body;
use super::super::answer::{self, Voice};
use crate::{answer::ApiError, image::VaultError};

pub(super) type Answer<T> = Result<T, Refused>;
pub(crate) type Refused = answer::Refused<Fault>;

impl Voice for Fault {
    const UNEXPECTED: &'static str =
        "The server has either erred or is incapable of performing the requested operation.";

    fn say(status: u16, message: String) -> Self {
        Fault::new(status, message)
    }

    fn no_such(_: &'static str, id: &str) -> Self {
        Fault::no_image(id)
    }

    fn conflict(object: &str, id: &str, reason: &str) -> Self {
        Fault::new(409, format!("The {object} {id} {reason}."))
    }

    /// The body is written by [`in_the_form_asked_for`].
    fn answer(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn unexpected() -> Fault {
    Fault::new(500, Fault::UNEXPECTED)
}

impl From<VaultError> for Refused {
    fn from(error: VaultError) -> Self {
        let told = error.to_string();
        answer::Refused(match error {
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
        answer::Refused(unexpected())
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
