//! Refusals of the Network API, and its JSON bodies.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use whimbrel_api::openstack::network::{
    fault::{BAD_REQUEST, Fault},
    networks::NETWORK,
    port::PORT,
    security_group::SECURITY_GROUP,
    security_group_rule::SECURITY_GROUP_RULE,
    subnet::SUBNET,
};
use whimbrel_core::network::refusal::Refusal;
use whimbrel_store::{NetworkError, StoreError};

use crate::{answer::failure_of, app::Shared};

pub(super) type Answer<T> = Result<T, Refused>;

#[derive(Debug)]
pub(crate) struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused(fault)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused(refusal.into())
    }
}

impl From<NetworkError> for Refused {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Refused(refusal) => refusal.into(),
            NetworkError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused(match error {
            StoreError::NotFound { object, id } => not_found(object, &id),
            StoreError::Conflict { object, id, reason } => {
                Fault::new(409, "Conflict", format!("There was a conflict: {object} {id} {reason}."))
            }
            StoreError::Busy { .. } => {
                failure_of(error);
                Fault::new(503, "ServiceUnavailable", "The database is busy: try again in a moment.")
            }
            StoreError::Refused { .. }
            | StoreError::Corrupt { .. }
            | StoreError::BadUrl { .. }
            | StoreError::TooNew { .. }
            | StoreError::Db { .. } => {
                // Logged with its cause, of which nobody outside is told.
                failure_of(error);
                let told = "Request Failed: internal server error while processing your request.";
                Fault::new(500, "HTTPInternalServerError", told)
            }
        })
    }
}

fn not_found(object: &str, id: &str) -> Fault {
    let all = [&NETWORK, &SUBNET, &PORT, &SECURITY_GROUP, &SECURITY_GROUP_RULE];
    match all.into_iter().find(|resource| resource.name.replace('_', " ") == object) {
        Some(resource) => resource.no_such(id),
        None => Fault::new(404, "HTTPNotFound", format!("{object} {id} could not be found.")),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.0.body())).into_response()
    }
}

/// A JSON body.
pub(super) struct Body(pub Value);

impl FromRequest<Shared> for Body {
    type Rejection = Refused;
    async fn from_request(request: Request, app: &Shared) -> Answer<Self> {
        match Json::<Value>::from_request(request, app).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(match rejection.status().as_u16() {
                413 => Fault::new(413, "HTTPRequestEntityTooLarge", "The body is too large."),
                415 => Fault::new(415, "HTTPUnsupportedMediaType", "Unsupported Content-Type"),
                _ => Fault::new(400, BAD_REQUEST, "Malformed request body"),
            }
            .into()),
        }
    }
}
