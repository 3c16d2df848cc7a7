//! Tokens: given out, looked at, taken back.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::identity::{SUBJECT_TOKEN, auth, fault::Fault, token};
use whimbrel_core::identity::policy::{Operation, Target};

use super::{
    answer::{Answer, Body},
    caller::{self, Caller, Known},
    login,
};
use crate::{app::Shared, openstack::BaseUrl};

const NO_CATALOG: &str = "nocatalog";

pub(super) async fn issue(
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    RawQuery(query): RawQuery,
    Body(body): Body,
) -> Answer<Response> {
    let request = auth::parse(&body)?;
    let (secret, known) = login::log_in(&app, &request).await?;
    tracing::info!(user = %known.user.id, audit_id = known.token.audit_ids.first(), "a token was issued");
    Ok(answer(StatusCode::CREATED, &secret.reveal(), &known, catalog_of(&base, query.as_deref())))
}

/// Also answers HEAD, with the same headers and no body.
pub(super) async fn show(
    caller: Caller,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Response> {
    let (subject, known) = subject(&app, &headers).await?;
    let target = Target { user: Some(&known.user.id), domain: Some(&known.user.domain), project: None };
    caller.may(Operation::CheckToken, target)?;
    Ok(answer(StatusCode::OK, &subject, &known, catalog_of(&base, query.as_deref())))
}

pub(super) async fn revoke(caller: Caller, State(app): State<Shared>, headers: HeaderMap) -> Answer<StatusCode> {
    let (_, known) = subject(&app, &headers).await?;
    caller.may(Operation::RevokeToken, Target { user: Some(&known.user.id), ..Target::default() })?;
    app.store.revoke_identity_token(&known.token.hash).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn subject(app: &Shared, headers: &HeaderMap) -> Answer<(String, Known)> {
    let shown = headers.get(SUBJECT_TOKEN).and_then(|value| value.to_str().ok());
    let shown = shown.ok_or_else(|| Fault::new(400, "Expecting to find the header X-Subject-Token."))?;
    let gone = || Fault::new(404, "Could not find token.");
    let known = caller::known(app, shown).await?.ok_or_else(gone)?;
    Ok((shown.to_owned(), known))
}

fn catalog_of<'a>(base: &'a str, query: Option<&str>) -> Option<&'a str> {
    let left_out = query.unwrap_or_default().split('&').any(|pair| pair.split('=').next() == Some(NO_CATALOG));
    (!left_out).then_some(base)
}

fn answer(status: StatusCode, shown: &str, known: &Known, base_url: Option<&str>) -> Response {
    let mut response = (status, Json(token::body(&known.record(), base_url))).into_response();
    if let Ok(value) = HeaderValue::from_str(shown) {
        response.headers_mut().insert(SUBJECT_TOKEN, value);
    }
    response
}
