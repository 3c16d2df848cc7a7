//! Why something was refused or failed, in a form that every edge (CLI, native API, Nova's API) can render.

use serde::{Deserialize, Serialize};

/// Stable names; a client may match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    NotFound,
    Conflict,
    BadRequest,
    Unauthorized,
    Forbidden,
    /// A host's agent does not answer.
    HostDown,
    SameHost,
    NoRam,
    NoDisk,
    NoHost,
    Incompatible,
    /// A host that an operator's or the user's wish rules out.
    Excluded,
    BadImage,
    Cancelled,
    /// The peer agent of a migration was lost before COMMIT.
    PeerLost,
    /// Digests of source and target differ.
    Corrupt,
    QemuFailed,
    NoProgress,
    DeadlinePassed,
    Internal,
}

/// One failure. `detail` names the object and the numbers; `hint` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    pub code: FailureCode,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Failure { code, detail: detail.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
