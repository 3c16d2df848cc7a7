//! The first administrator of OpenStack's front door, made by whoever holds the controller's own admin token.

use axum::{Json, extract::State};
use whimbrel_api::{
    native::{Bootstrap, Bootstrapped},
    problem::Problem,
};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{
    answer::Answer,
    app::Shared,
    auth::Admin,
    extract::Body,
    openstack::{BaseUrl, identity},
};

const PASSWORD_CHARS_MIN: usize = 8;
const PASSWORD_CHARS_MAX: usize = 1024;

#[utoipa::path(post, path = "/v1/bootstrap", request_body = Bootstrap,
    responses((status = 200, body = Bootstrapped), (status = "default", body = Problem)))]
pub(super) async fn bootstrap(
    _: Admin,
    State(app): State<Shared>,
    BaseUrl(base): BaseUrl,
    Body(ask): Body<Bootstrap>,
) -> Answer<Json<Bootstrapped>> {
    if let Some(keystone) = &app.keystone {
        let url = keystone.public_url();
        let detail = format!("users are those of the Keystone at {url}, and the controller makes none of its own");
        return Err(Failure::new(FailureCode::Conflict, detail)
            .hint("`whimbrel endpoints` prints what is to be registered there; then log in there")
            .into());
    }
    let chars = ask.password.chars().count();
    if !(PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&chars) {
        let detail = format!("a password of {chars} characters is not taken");
        let hint = format!("give {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX}");
        return Err(Failure::new(FailureCode::BadRequest, detail).hint(hint).into());
    }
    let hash = app.passwords.hash(ask.password).await;
    let hash =
        hash.map_err(|fault| Failure::new(FailureCode::Internal, fault.message).hint("try again in a moment"))?;
    let made = identity::bootstrap(&app, hash).await?;
    Ok(Json(Bootstrapped {
        auth_url: format!("{base}/identity/v3"),
        region: whimbrel_api::openstack::identity::token::REGION.to_owned(),
        user: made.user.name,
        project: made.project.name,
        domain: made.domain.name,
    }))
}
