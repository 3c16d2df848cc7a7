//! Refusals of the Network API.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::network::{
    fault::{BAD_REQUEST, Fault},
    networks::NETWORK,
    port::PORT,
    security_group::SECURITY_GROUP,
    security_group_rule::SECURITY_GROUP_RULE,
    subnet::SUBNET,
};
use whimbrel_core::network::refusal::Refusal;
use whimbrel_store::NetworkError;

pub(super) use super::super::answer::Body;
use super::super::answer::{self, Voice};

pub(super) type Answer<T> = Result<T, Refused>;
pub(crate) type Refused = answer::Refused<Fault>;

impl Voice for Fault {
    const UNEXPECTED: &'static str = "Request Failed: internal server error while processing your request.";

    fn say(status: u16, message: String) -> Self {
        let kind = match status {
            400 => BAD_REQUEST,
            404 => "HTTPNotFound",
            413 => "HTTPRequestEntityTooLarge",
            415 => "HTTPUnsupportedMediaType",
            503 => "ServiceUnavailable",
            _ => "HTTPInternalServerError",
        };
        Fault::new(status, kind, message)
    }

    fn no_such(object: &'static str, id: &str) -> Self {
        let all = [&NETWORK, &SUBNET, &PORT, &SECURITY_GROUP, &SECURITY_GROUP_RULE];
        match all.into_iter().find(|resource| resource.name.replace('_', " ") == object) {
            Some(resource) => resource.no_such(id),
            None => Fault::say(404, format!("{object} {id} could not be found.")),
        }
    }

    fn conflict(object: &str, id: &str, reason: &str) -> Self {
        Fault::new(409, "Conflict", format!("There was a conflict: {object} {id} {reason}."))
    }

    fn answer(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body())).into_response()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        answer::Refused(refusal.into())
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
