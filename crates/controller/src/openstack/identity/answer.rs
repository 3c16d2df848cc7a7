//! Refusals of the identity API.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::identity::fault::Fault;

use super::super::answer::{self, Voice};
pub(super) use super::super::answer::{Body, Query};

pub(super) type Answer<T> = Result<T, Refused>;
pub(crate) type Refused = answer::Refused<Fault>;

/// Where clients log in, for those who have not.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Keystone uri=\"/identity\"");

impl Voice for Fault {
    const UNEXPECTED: &'static str = "An unexpected error prevented the server from fulfilling your request.";

    fn say(status: u16, message: String) -> Self {
        // Keystone knows no other word for a body of another type.
        let status = if status == 415 { 400 } else { status };
        Fault::new(status, message)
    }

    fn no_such(object: &'static str, id: &str) -> Self {
        Fault::not_found(object, id)
    }

    fn conflict(object: &str, id: &str, reason: &str) -> Self {
        Fault::new(409, format!("Conflict occurred attempting to store {object} - '{id}' {reason}."))
    }

    fn answer(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}
