//! Refusals of the identity API, and its JSON bodies.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::{
        HeaderValue, StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde_json::Value;
use whimbrel_api::openstack::identity::fault::Fault;
use whimbrel_store::StoreError;

use super::site::SiteKeystone;
use crate::{answer::failure_of, app::Shared};

pub(super) type Answer<T> = Result<T, Refused>;

#[derive(Debug)]
pub(crate) struct Refused(pub Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Refused(fault)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refused(match error {
            StoreError::NotFound { object, id } => Fault::not_found(object, &id),
            StoreError::Conflict { object, id, reason } => {
                Fault::new(409, format!("Conflict occurred attempting to store {object} - '{id}' {reason}."))
            }
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
                Fault::new(500, "An unexpected error prevented the server from fulfilling your request.")
            }
        })
    }
}

/// Where clients log in, for those who have not.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Keystone uri=\"/identity\"");
/// Of a service that could not be asked.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        respond(&self.0, CHALLENGE)
    }
}

fn respond(fault: &Fault, challenge: HeaderValue) -> Response {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(fault.body())).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    } else if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    }
    response
}

/// The answer to whoever showed no token, none that is good, or one of which nobody can tell.
pub(crate) struct TurnedAway {
    refused: Refused,
    challenge: HeaderValue,
}

impl TurnedAway {
    pub(super) fn new(refused: Refused, keystone: Option<&SiteKeystone>) -> Self {
        let of_site =
            keystone.and_then(|site| HeaderValue::try_from(format!("Keystone uri=\"{}\"", site.public_url())).ok());
        TurnedAway { refused, challenge: of_site.unwrap_or(CHALLENGE) }
    }
}

impl IntoResponse for TurnedAway {
    fn into_response(self) -> Response {
        respond(&self.refused.0, self.challenge)
    }
}

/// A JSON body.
pub(super) struct Body(pub Value);

impl FromRequest<Shared> for Body {
    type Rejection = Refused;
    async fn from_request(request: Request, app: &Shared) -> Answer<Self> {
        // The rejection's own status tells what is too large from what is no JSON.
        match Json::<Value>::from_request(request, app).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => {
                let status = match rejection.status().as_u16() {
                    413 => 413,
                    _ => 400,
                };
                Err(Fault::new(status, format!("The body cannot be read: {}.", rejection.body_text())).into())
            }
        }
    }
}
