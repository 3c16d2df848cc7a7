//! Refusals of the Compute API.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::fault::Fault;
use whimbrel_core::failure::{Failure, FailureCode};

pub(super) use super::super::answer::Body;
use super::super::answer::{self, Voice};
use crate::answer::ApiError;

pub(super) type Answer<T> = Result<T, Refused>;
pub(crate) type Refused = answer::Refused<Fault>;

impl Voice for Fault {
    const UNEXPECTED: &'static str = "Unexpected API Error: see the controller's log for the request's id.";

    fn say(status: u16, message: String) -> Self {
        Fault::new(status, message)
    }

    fn no_such(object: &'static str, id: &str) -> Self {
        let mut object = object.to_owned();
        if let Some(first) = object.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Fault::new(404, format!("{object} {id} could not be found."))
    }

    fn conflict(object: &str, id: &str, reason: &str) -> Self {
        Fault::new(409, format!("{object} {id} {reason}."))
    }

    fn answer(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body())).into_response()
    }
}

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
        answer::Refused(Fault::new(status, told(failure.code, failure.detail, failure.hint.as_deref())))
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
