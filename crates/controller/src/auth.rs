//! Who asks, and may they: operators by token, agents by certificate.
//!
//! | extractor | lets in |
//! |---|---|
//! | `Reader`, `Member`, `Admin` | a token of that role or a stronger one |
//! | `AgentPeer` | a host's certificate |
//! | `ReaderOrAgent` | either |
//!
//! Ground rules: a token is known by its hash only; what a certificate may do is its own and no other host's.

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::HostName,
};
use whimbrel_daemon::{pki::Secret, serve::Peer};
use whimbrel_store::{ApiToken, TokenRole};

use crate::{
    answer::{Answer, ApiError},
    app::Shared,
};

const SCHEME: &str = "Bearer ";

pub struct Reader;
pub struct Member;
pub struct Admin;
pub struct AgentPeer(pub HostName);
pub struct ReaderOrAgent;

macro_rules! role_extractor {
    ($name:ident, $role:expr) => {
        impl FromRequestParts<Shared> for $name {
            type Rejection = ApiError;
            async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Answer<Self> {
                need($role, parts, app).await.map(|()| $name)
            }
        }
    };
}
role_extractor!(Reader, TokenRole::Reader);
role_extractor!(Member, TokenRole::Member);
role_extractor!(Admin, TokenRole::Admin);

impl FromRequestParts<Shared> for AgentPeer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Answer<Self> {
        agent_of(parts).map(AgentPeer).ok_or_else(|| {
            Failure::new(FailureCode::Unauthorized, "this call needs an agent's certificate")
                .hint("only hosts that joined can make it; see `whimbrel host token`")
                .into()
        })
    }
}

impl FromRequestParts<Shared> for ReaderOrAgent {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Answer<Self> {
        if agent_of(parts).is_none() {
            need(TokenRole::Reader, parts, app).await?;
        }
        Ok(ReaderOrAgent)
    }
}

fn agent_of(parts: &Parts) -> Option<HostName> {
    parts.extensions.get::<Peer>()?.identity.as_ref()?.agent_host().cloned()
}

async fn need(role: TokenRole, parts: &Parts, app: &Shared) -> Answer<()> {
    let token = token_of(parts, app).await?;
    // Declared from the strongest to the weakest.
    if token.role <= role {
        return Ok(());
    }
    let detail =
        format!("token '{}' has role {}, {} {} needs {role}", token.name, token.role, parts.method, parts.uri.path());
    Err(Failure::new(FailureCode::Forbidden, detail).hint("use a token of that role").into())
}

async fn token_of(parts: &Parts, app: &Shared) -> Answer<ApiToken> {
    let refused = |detail: &str| {
        Failure::new(FailureCode::Unauthorized, detail)
            .hint("set WHIMBREL_TOKEN; the first admin's token is in the controller's admin_token_file")
    };
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(text) = header.and_then(|text| text.strip_prefix(SCHEME)) else {
        return Err(refused("this call needs a token").into());
    };
    let Ok(secret) = text.trim().parse::<Secret>() else { return Err(refused("the token is malformed").into()) };
    let token = app.store.api_token_by_hash(&secret.hash().to_string()).await?;
    token.ok_or_else(|| refused("the token is not known").into())
}
