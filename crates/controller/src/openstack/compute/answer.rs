//! Refusals of the Compute API, and its JSON bodies.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use whimbrel_api::openstack::fault::Fault;
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_store::StoreError;

use crate::{
    answer::{ApiError, failure_of},
    app::Shared,
};

pub(super) type Answer<T> = Result<T, Refused>;

#[derive(Debug)]
pub(crate) struct Refused(Fault);

impl Refused {
    pub(super) fn status(&self) -> u16 {
        self.0.status
    }

    pub(super) fn message(&self) -> &str {
        &self.0.message
    }
}

/// What the controller's own parts say, in the words of this API: what is wrong with the request is 400, a conflict 409, a
/// host that does not answer 503.
impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            FailureCode::NoRam
            | FailureCode::NoDisk
            | FailureCode::NoHost
            | FailureCode::Incompatible
            | FailureCode::Excluded => 400,
            FailureCode::NotFound => 404,
            FailureCode::Conflict => 409,
            FailureCode::BadRequest | FailureCode::SameHost | FailureCode::BadImage => 400,
            FailureCode::Unauthorized => 401,
            FailureCode::Forbidden => 403,
            FailureCode::HostDown => 503,
            FailureCode::Cancelled
            | FailureCode::PeerLost
            | FailureCode::Corrupt
            | FailureCode::QemuFailed
            | FailureCode::NoProgress
            | FailureCode::DeadlinePassed
            | FailureCode::Internal => 500,
        };
        Refused(Fault::new(status, told(failure.code, failure.detail, failure.hint.as_deref())))
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Refused::from(error.failure())
    }
}

/// Nova's sentence first, since clients and people know it, then what is so here.
fn told(code: FailureCode, detail: String, hint: Option<&str>) -> String {
    let begin = if code == FailureCode::NoHost { "No valid host was found. " } else { "" };
    let hint = hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
    format!("{begin}{detail}{hint}")
}

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
