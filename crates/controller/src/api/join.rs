//! How a host gets its certificate, and a new one before the old one ends.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use whimbrel_api::{
    native::{Join, JoinToken, Joined, NewJoinToken, Renew},
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::HostName,
};
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{self, Names, PeerIdentity, Secret},
};
use whimbrel_store::StoreError;

use crate::{
    answer::Answer,
    app::{App, Shared},
    auth::{Admin, AgentPeer},
    extract::Body,
};

const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[utoipa::path(post, path = "/v1/join-tokens", request_body = NewJoinToken,
    responses((status = 201, body = JoinToken), (status = "default", body = Problem)))]
pub(super) async fn create_token(
    _: Admin,
    State(app): State<Shared>,
    Body(new): Body<NewJoinToken>,
) -> Answer<(StatusCode, Json<JoinToken>)> {
    let now = Timestamp::now();
    app.store.forget_join_tokens(now.minus(TOKEN_LIFETIME).0).await?;
    let token = pki::JoinToken::generate(app.authority.certificate().fingerprint())?;
    let expires_us = now.plus(TOKEN_LIFETIME).0;
    let row = whimbrel_store::NewJoinToken {
        hash: token.secret.hash().to_string(),
        host: new.host,
        created_us: now.0,
        expires_us,
    };
    app.store.create_join_token(&row).await?;
    tracing::info!(host = %row.host, "join token made");
    Ok((StatusCode::CREATED, Json(JoinToken { token: token.to_string(), expires_us })))
}

/// The secret of a join token lets in, once.
#[utoipa::path(post, path = "/v1/join", request_body = Join,
    responses((status = 200, body = Joined), (status = "default", body = Problem)))]
pub(super) async fn join(State(app): State<Shared>, Body(ask): Body<Join>) -> Answer<Json<Joined>> {
    let secret: Secret = ask.secret.parse()?;
    // Signed first: a bad request must not use the token up.
    let (joined, serial) = sign(&app, &ask.host, &ask.csr_pem)?;
    let used = app.store.use_join_token(&secret.hash().to_string(), &ask.host, App::now_us()).await;
    used.map_err(|error| match error {
        StoreError::NotFound { .. } | StoreError::Conflict { .. } => {
            tracing::warn!(host = %ask.host, %error, "a host was not let in");
            Failure::new(FailureCode::Unauthorized, format!("host '{}' cannot join: {error}", ask.host))
                .hint(format!("make a new token with `whimbrel host token {}`", ask.host))
        }
        other => crate::answer::failure_of(other),
    })?;
    app.store.record_certificate(&ask.host, &serial, App::now_us()).await?;
    tracing::info!(host = %ask.host, "host joined");
    Ok(Json(joined))
}

#[utoipa::path(post, path = "/v1/renew", request_body = Renew,
    responses((status = 200, body = Joined), (status = "default", body = Problem)))]
pub(super) async fn renew(
    AgentPeer(host): AgentPeer,
    State(app): State<Shared>,
    Body(ask): Body<Renew>,
) -> Answer<Json<Joined>> {
    // A certificate outlives the removal of its host by days.
    app.host(host.as_str()).await?;
    let (joined, serial) = sign(&app, &host, &ask.csr_pem)?;
    app.store.record_certificate(&host, &serial, App::now_us()).await?;
    tracing::info!(%host, "certificate renewed");
    Ok(Json(joined))
}

fn sign(app: &App, host: &HostName, csr_pem: &str) -> Answer<(Joined, String)> {
    let identity = PeerIdentity::agent(host.clone());
    let issued = app.authority.sign(csr_pem, &identity, &Names::default(), Timestamp::now())?;
    let ca_pem = app.authority.certificate().pem().to_owned();
    Ok((Joined { certificate_pem: issued.chain_pem, ca_pem }, issued.serial))
}
