//! Keystone's records: domains, projects, users, roles, grants, tokens.
//!
//! Ground rules: a change names the generation that was read, so that two who change one row at once are told; what goes
//! takes its grants and tokens along in the same transaction; a secret is kept as a hash only.
mod domain;
mod grant;
mod project;
mod role;
mod token;
mod user;

pub use domain::DomainRow;
pub use grant::{GrantFilter, GrantRow, Grantee};
pub use project::ProjectRow;
pub use role::RoleRow;
pub use token::IdentityToken;
pub use user::UserRow;

use whimbrel_core::identity::{DomainId, ProjectId};

/// On what a role is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantScope {
    Project(ProjectId),
    Domain(DomainId),
    System,
}

/// Keystone's name for the only scope of its kind.
const SYSTEM: &str = "all";

impl GrantScope {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            GrantScope::Project(_) => "project",
            GrantScope::Domain(_) => "domain",
            GrantScope::System => "system",
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            GrantScope::Project(id) => id.as_str(),
            GrantScope::Domain(id) => id.as_str(),
            GrantScope::System => SYSTEM,
        }
    }

    pub(crate) fn read(kind: &str, id: &str) -> Result<Self, String> {
        let bad = |error: whimbrel_core::identity::BadId| error.to_string();
        match kind {
            "project" => id.parse().map(GrantScope::Project).map_err(bad),
            "domain" => id.parse().map(GrantScope::Domain).map_err(bad),
            "system" => Ok(GrantScope::System),
            other => Err(format!("'{other}' is no scope of a grant")),
        }
    }
}
