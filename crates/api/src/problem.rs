//! The error body of both APIs: RFC 9457 problem JSON with our stable code and a hint for the operator.

use serde::{Deserialize, Serialize};
use whimbrel_core::failure::{Failure, FailureCode};

/// `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// HTTP status, repeated.
    pub status: u16,
    /// Stable name; see `FailureCode`.
    #[schema(value_type = String)]
    pub code: FailureCode,
    /// What failed, on which object, with numbers.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Every reason, where there are several (prechecks).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub reasons: Vec<Failure>,
}

impl Problem {
    pub fn of(failure: Failure) -> Self {
        Problem {
            status: status_of(failure.code),
            code: failure.code,
            detail: failure.detail,
            hint: failure.hint,
            reasons: Vec::new(),
        }
    }
}

/// HTTP status of a failure; total on purpose.
pub fn status_of(code: FailureCode) -> u16 {
    match code {
        FailureCode::NotFound => 404,
        FailureCode::Conflict => 409,
        FailureCode::BadRequest | FailureCode::SameHost | FailureCode::BadImage => 400,
        FailureCode::Unauthorized => 401,
        FailureCode::Forbidden => 403,
        FailureCode::NoRam
        | FailureCode::NoDisk
        | FailureCode::NoHost
        | FailureCode::Incompatible
        | FailureCode::Excluded => 409,
        FailureCode::HostDown => 503,
        FailureCode::Cancelled
        | FailureCode::PeerLost
        | FailureCode::Corrupt
        | FailureCode::QemuFailed
        | FailureCode::NoProgress
        | FailureCode::DeadlinePassed
        | FailureCode::Internal => 500,
    }
}
