//! Errors as answers: problem JSON, always with a stable code and, wherever something can be done, a hint.
//!
//! Internal causes (SQL, files) are logged here and not told outside.

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use whimbrel_api::problem::Problem;
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_daemon::pki::PkiError;
use whimbrel_store::StoreError;

use crate::{image::VaultError, openstack::answer::Unreadable};

pub type Answer<T> = Result<T, ApiError>;

#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// Several reasons against one thing; the first one's code rules.
    pub fn of_reasons(what: &str, reasons: Vec<Failure>) -> Self {
        let Some(first) = reasons.first() else {
            return Failure::new(FailureCode::Internal, format!("{what}: refused for no reason")).into();
        };
        let details: Vec<&str> = reasons.iter().map(|reason| reason.detail.as_str()).collect();
        let mut problem = Problem::of(Failure::new(first.code, format!("{what}: {}", details.join("; "))));
        problem.hint = first.hint.clone();
        problem.reasons = reasons;
        ApiError(Box::new(problem))
    }
}

impl ApiError {
    /// Without the single reasons, which `detail` has in words.
    pub fn failure(&self) -> Failure {
        Failure { code: self.0.code, detail: self.0.detail.clone(), hint: self.0.hint.clone() }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        ApiError(Box::new(Problem::of(failure)))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { reasons } => ApiError::of_reasons("refused", reasons),
            other => failure_of(other).into(),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        Failure::from(error).into()
    }
}

impl From<PkiError> for ApiError {
    fn from(error: PkiError) -> Self {
        let detail = error.to_string();
        match error {
            PkiError::BadRequest { .. } | PkiError::BadPem { .. } | PkiError::TooLarge { .. } => {
                Failure::new(FailureCode::BadRequest, detail)
                    .hint("send a PKCS#10 request in PEM with an ECDSA P-256 key")
            }
            PkiError::BadJoinToken => Failure::new(FailureCode::Unauthorized, detail),
            PkiError::File { .. }
            | PkiError::KeyMismatch { .. }
            | PkiError::KeyMissing { .. }
            | PkiError::Make { .. }
            | PkiError::Unusable { .. }
            | PkiError::BadIdentity { .. }
            | PkiError::NoIdentity
            | PkiError::NoRandomness => {
                tracing::error!(error = detail, "the CA failed");
                Failure::new(FailureCode::Internal, detail).hint("see the controller's log")
            }
        }
        .into()
    }
}

impl From<Unreadable> for ApiError {
    fn from(unreadable: Unreadable) -> Self {
        let code = if unreadable.status == 404 { FailureCode::NotFound } else { FailureCode::BadRequest };
        Failure::new(code, unreadable.why).hint("see GET /v1/openapi.json for the calls").into()
    }
}

/// What a failed call of the store means to the one who asked.
pub fn failure_of(error: StoreError) -> Failure {
    let detail = error.to_string();
    match error {
        StoreError::NotFound { object, .. } => {
            Failure::new(FailureCode::NotFound, detail).hint(format!("see `whimbrel {} list`", command_of(object)))
        }
        StoreError::Conflict { object, .. } => Failure::new(FailureCode::Conflict, detail)
            .hint(format!("see `whimbrel {} list`, then try again", command_of(object))),
        StoreError::Refused { reasons } => {
            let first = reasons.into_iter().next();
            Failure { detail, ..first.unwrap_or_else(|| Failure::new(FailureCode::Conflict, "refused")) }
        }
        StoreError::Busy { operation, source } => {
            tracing::warn!(operation, error = %source, "the database is busy");
            Failure::new(FailureCode::Internal, detail).hint("try again in a moment")
        }
        StoreError::Corrupt { .. } | StoreError::BadUrl { .. } | StoreError::TooNew { .. } => {
            tracing::error!(error = detail, "the database cannot be used");
            Failure::new(FailureCode::Internal, detail).hint("see the controller's log")
        }
        StoreError::Db { operation, source } => {
            tracing::error!(operation, error = %source, "the database failed");
            Failure::new(FailureCode::Internal, detail).hint("see the controller's log")
        }
    }
}

fn command_of(object: &str) -> &str {
    match object {
        "join token" | "API token" => "host",
        other => other,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(*self.0)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
