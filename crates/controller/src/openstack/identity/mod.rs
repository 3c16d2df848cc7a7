//! Keystone's API, version 3: log-ins and who there is.
//!
//! ```text
//! POST /auth/tokens: login (password | token) -> scope with a role -> token (hash stored)
//! any call: X-Auth-Token -> caller: token, user, scope and roles as they are now -> policy
//! with a Keystone of the site: X-Auth-Token -> site: what that Keystone says of it -> policy
//! ```
//!
//! Ground rules: what a token opens is looked up whenever it is shown, so that a user, project or grant that goes takes the
//! token's power with it at once; a refused log-in says nothing of its reason; groups, trusts and federation are not offered.
//! Where the site has a Keystone, there is one identity service and it is that one: no call of this API is answered.
mod answer;
mod caller;
mod catalog;
mod domains;
mod expiry;
mod grants;
mod login;
mod password;
mod projects;
mod roles;
mod seed;
mod site;
mod tokens;
mod users;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use whimbrel_api::openstack::identity::{fault::Fault, versions};

use self::answer::Refused;
pub(crate) use self::caller::{Caller, has_project};
pub use self::{
    expiry::forget_expired,
    password::Passwords,
    seed::{bootstrap, seed},
    site::SiteKeystone,
};
use super::BaseUrl;
use crate::app::Shared;

pub fn router() -> Router<Shared> {
    let v3 = Router::new()
        .route("/", get(version))
        .route("/auth/tokens", post(tokens::issue).get(tokens::show).delete(tokens::revoke))
        .route("/auth/catalog", get(catalog::show))
        .route("/auth/projects", get(projects::own))
        .route("/auth/domains", get(domains::own))
        .route("/auth/system", get(grants::own_system))
        .route("/services", get(catalog::services))
        .route("/services/{id}", get(catalog::service))
        .route("/endpoints", get(catalog::endpoints))
        .route("/regions", get(catalog::regions))
        .route("/domains", get(domains::list).post(domains::create))
        .route("/domains/{id}", get(domains::show).patch(domains::change).delete(domains::delete))
        .route("/projects", get(projects::list).post(projects::create))
        .route("/projects/{id}", get(projects::show).patch(projects::change).delete(projects::delete))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{id}", get(users::show).patch(users::change).delete(users::delete))
        .route("/users/{id}/password", post(users::change_password))
        .route("/users/{id}/projects", get(projects::of_user))
        .route("/roles", get(roles::list).post(roles::create))
        .route("/roles/{id}", get(roles::show).patch(roles::change).delete(roles::delete))
        .route("/role_assignments", get(grants::list))
        .nest("/projects/{id}", grants::router(grants::Place::Project))
        .nest("/domains/{id}", grants::router(grants::Place::Domain))
        .nest("/system", grants::router(grants::Place::System))
        .fallback(no_such_call)
        .method_not_allowed_fallback(wrong_method);
    Router::new()
        .route("/identity", get(versions))
        .route("/identity/", get(versions))
        .route("/identity/v3/", get(version))
        .nest("/identity/v3", v3)
}

/// In the place of [`router`] where tokens are those of a site's Keystone.
pub fn elsewhere() -> Router<Shared> {
    let gone = || any(is_elsewhere);
    Router::new().route("/identity", gone()).route("/identity/", gone()).route("/identity/{*call}", gone())
}

async fn is_elsewhere(State(app): State<Shared>) -> Refused {
    let url = app.keystone.as_ref().map_or("", |keystone| keystone.public_url());
    Fault::new(410, format!("Identity is not served here: log in at this site's Keystone, {url}.")).into()
}

async fn versions(BaseUrl(base): BaseUrl) -> Response {
    (StatusCode::MULTIPLE_CHOICES, Json(versions::list(&base))).into_response()
}

async fn version(BaseUrl(base): BaseUrl) -> Response {
    Json(versions::show(&base)).into_response()
}

async fn no_such_call(uri: Uri) -> Refused {
    Fault::new(404, format!("There is no {}.", uri.path())).into()
}

async fn wrong_method(uri: Uri) -> Refused {
    Fault::new(405, format!("{} does not take this method.", uri.path())).into()
}
