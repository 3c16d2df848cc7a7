//! Keystone's API, version 3: log-ins, tokens, and who there is.
//!
//! | call | in | out |
//! |---|---|---|
//! | `POST /v3/auth/tokens` | `auth::AuthRequest` | `token::body`, the token itself in `X-Subject-Token` |
//! | `GET /v3/users`, `/v3/projects`, `/v3/domains`, `/v3/roles` | | `records` |
//! | `POST`, `PATCH` of these | `changes` | `records` |
//! | `GET /v3/auth/tokens` of a site's own Keystone | | `vouched::Vouched` |
//!
//! Source: Keystone's API reference, version 3.14; keystone, keystone/api/*.py.

pub mod auth;
pub mod changes;
pub mod fault;
pub mod records;
pub mod token;
pub mod versions;
pub mod vouched;

/// Header with the token of who asks.
pub const AUTH_TOKEN: &str = "x-auth-token";
/// Header with the token that is asked about, and with the one that was made.
pub const SUBJECT_TOKEN: &str = "x-subject-token";
