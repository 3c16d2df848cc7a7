//! What a site's own Keystone says of a token, and the log-in of whoever asks it.
//!
//! ```text
//! POST /v3/auth/tokens (log_in) -> the asker's own token (end of it: end_us)
//! GET /v3/auth/tokens -> judge (status) -> parse (body) -> Vouched
//! ```
//!
//! Ground rules: what cannot be read vouches for nobody; a token that is good for some calls only (an application credential
//! with access rules) is good for none here, since nothing here looks at such rules.
//! Sources: Keystone's API reference, version 3.14; keystone, common/render_token.py; keystonemiddleware, auth_token.

use serde_json::{Value, json};
use whimbrel_core::identity::{Requester, Scope};

use crate::openstack::compute::times::{self, Micros};

/// Who a token is of and what it opens, as Keystone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    pub requester: Requester,
    pub expires_us: Micros,
}

/// By which the controller shows itself to the site's Keystone.
#[derive(Clone)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub user_domain_name: String,
    pub project_name: String,
    pub project_domain_name: String,
}

/// Why Keystone's answer is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("'{0}' is not there or is no such thing")]
    Field(&'static str),
    #[error("it is for a project, a domain and the system at once")]
    ManyScopes,
    #[error("it is of an application credential with access rules, which are not looked at here")]
    AccessRules,
}

/// What an answer about a token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The body tells whose it is.
    Good,
    /// It was never given out, has expired, or was revoked.
    NoToken,
    /// The asker's own token is not taken (any more).
    AskerUnknown,
    /// The asker may not ask.
    AskerForbidden,
    /// Nothing can be said now.
    Unavailable,
}

pub fn judge(status: u16) -> Verdict {
    match status {
        200 => Verdict::Good,
        404 => Verdict::NoToken,
        401 => Verdict::AskerUnknown,
        403 => Verdict::AskerForbidden,
        _ => Verdict::Unavailable,
    }
}

pub fn log_in(credentials: &Credentials) -> Value {
    let user = json!({
        "name": credentials.username,
        "domain": { "name": credentials.user_domain_name },
        "password": credentials.password,
    });
    let project = json!({ "name": credentials.project_name, "domain": { "name": credentials.project_domain_name } });
    json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": user } },
        "scope": { "project": project },
    } })
}

pub fn end_us(body: &Value) -> Result<Micros, Unreadable> {
    let end = body.pointer("/token/expires_at").and_then(Value::as_str).and_then(times::parse);
    end.ok_or(Unreadable::Field("expires_at"))
}

pub fn parse(body: &Value) -> Result<Vouched, Unreadable> {
    let token = body.get("token").and_then(Value::as_object).ok_or(Unreadable::Field("token"))?;
    let rules = body.pointer("/token/application_credential/access_rules");
    if rules.is_some_and(|rules| rules.as_array().is_none_or(|rules| !rules.is_empty())) {
        return Err(Unreadable::AccessRules);
    }
    let expires_us = end_us(body)?;
    let user = text(body, "/token/user/id").and_then(|id| id.parse().ok()).ok_or(Unreadable::Field("user.id"))?;
    let scopes = ["project", "domain", "system"].into_iter().filter(|kind| token.contains_key(*kind));
    let scope = match scopes.collect::<Vec<_>>().as_slice() {
        [] => Scope::Unscoped,
        [kind] => scope(body, kind)?,
        [_, _, ..] => return Err(Unreadable::ManyScopes),
    };
    let roles = match token.get("roles") {
        None => Vec::new(),
        Some(roles) => names(roles).ok_or(Unreadable::Field("roles"))?,
    };
    Ok(Vouched { requester: Requester::new(user, scope, roles), expires_us })
}

fn scope(body: &Value, kind: &'static str) -> Result<Scope, Unreadable> {
    let lost = || Unreadable::Field(kind);
    Ok(match kind {
        "project" => Scope::Project {
            id: text(body, "/token/project/id").and_then(|id| id.parse().ok()).ok_or_else(lost)?,
            domain: text(body, "/token/project/domain/id").and_then(|id| id.parse().ok()).ok_or_else(lost)?,
        },
        "domain" => Scope::Domain(text(body, "/token/domain/id").and_then(|id| id.parse().ok()).ok_or_else(lost)?),
        // The only system scope that Keystone knows is that of all of it.
        _ => match body.pointer("/token/system/all") {
            Some(Value::Bool(true)) => Scope::System,
            Some(_) | None => return Err(lost()),
        },
    })
}

fn text<'a>(body: &'a Value, path: &str) -> Option<&'a str> {
    body.pointer(path).and_then(Value::as_str)
}

fn names(roles: &Value) -> Option<Vec<&str>> {
    roles.as_array()?.iter().map(|role| role.get("name")?.as_str()).collect()
}

#[cfg(test)]
mod tests;
