//! Glance's Image API.
//!
//! ```text
//! POST images -> row, queued;  PUT file -> saving -> vault (hashed, looked at) -> active;  any breach -> queued again
//! ```
//!
//! Ground rules: an image that the caller does not see is not there, whatever is asked of it; what an image is said to be must
//! be what its bytes are; content streams to and from the disk and is never whole in memory.
mod answer;
mod ask;
mod boot;
mod entry;
mod file;
mod images;
mod members;
mod schemas;
mod tags;

use axum::{
    Json,
    extract::DefaultBodyLimit,
    http::{StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
};
use whimbrel_api::openstack::image::{fault::Fault, versions};

use self::answer::Refused;
pub(crate) use self::{boot::bootable, entry::new_entry};
use super::{BaseUrl, answer::readable};
use crate::routes::{Routes, get, put};

const ROOT: &str = "/image";

pub fn router() -> Routes {
    let v2 = Routes::new()
        .route("/images", get(images::list).post(images::create))
        .route("/images/{id}", get(images::show).patch(images::change).delete(images::delete))
        .route("/images/{id}/file", get(file::download).put(file::upload).layer(DefaultBodyLimit::disable()))
        .route("/images/{id}/tags/{tag}", put(tags::add).delete(tags::remove))
        .route("/images/{id}/members", get(members::list).post(members::add))
        .route("/images/{id}/members/{member}", get(members::show).put(members::show).delete(members::show))
        .route("/schemas/{name}", get(schemas::show))
        .fallback(no_such_call)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(readable::<Refused>))
        .layer(middleware::from_fn(answer::in_the_form_asked_for));
    Routes::new()
        .route(ROOT, get(choices))
        .route("/image/", get(choices))
        .route("/image/versions", get(all_versions))
        .nest("/image/v2", v2)
}

async fn choices(base: BaseUrl) -> Response {
    (StatusCode::MULTIPLE_CHOICES, all_versions(base).await).into_response()
}

async fn all_versions(BaseUrl(base): BaseUrl) -> Response {
    Json(versions::list(&format!("{base}{ROOT}"))).into_response()
}

async fn no_such_call(uri: Uri) -> Refused {
    tracing::debug!(path = uri.path(), "there is no such call");
    Fault::new(404, "The resource could not be found.").into()
}

async fn wrong_method(uri: Uri) -> Refused {
    tracing::debug!(path = uri.path(), "it does not take this method");
    Fault::new(405, "The method specified is not allowed for this resource.").into()
}
