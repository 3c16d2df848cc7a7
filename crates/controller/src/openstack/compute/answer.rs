//! Refusals of the Compute API, and its JSON bodies.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use whimbrel_api::openstack::fault::Fault;
use whimbrel_store::StoreError;

use crate::{answer::failure_of, app::Shared};

pub(super) type Answer<T> = Result<T, Refused>;

#[derive(Debug)]
pub(crate) struct Refused(Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused(fault)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused(match error {
            StoreError::NotFound { object, id } => {
                let mut object = object.to_owned();
                if let Some(first) = object.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                Fault::new(404, format!("{object} {id} could not be found."))
            }
            StoreError::Conflict { object, id, reason } => Fault::new(409, format!("{object} {id} {reason}.")),
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
                Fault::new(500, "Unexpected API Error: see the controller's log for the request's id.")
            }
        })
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
                413 => Fault::new(413, "The body is too large."),
                415 => Fault::new(415, "Unsupported Content-Type"),
                _ => Fault::new(400, "Malformed request body"),
            }
            .into()),
        }
    }
}
