//! Image content by digest, for agents that need a base image and for operators.

use axum::{
    body::Body,
    extract::State,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use tokio_util::io::ReaderStream;
use whimbrel_api::problem::Problem;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::ImageDigest,
};

use crate::{answer::Answer, app::Shared, auth::ReaderOrAgent, extract::At};

const READ_BYTES: usize = 256 << 10;

#[utoipa::path(get, path = "/v1/blobs/{digest}", params(("digest" = String, Path, description = "BLAKE3, hex")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = "default", body = Problem)))]
pub(super) async fn download(_: ReaderOrAgent, State(app): State<Shared>, At(digest): At<String>) -> Answer<Response> {
    let digest: ImageDigest = digest
        .parse()
        .map_err(|error: whimbrel_core::id::BadImageDigest| Failure::new(FailureCode::BadRequest, error.to_string()))?;
    let (file, bytes) = app.vault.open_blob(&digest).await?;
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, bytes.to_string())];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, READ_BYTES))).into_response())
}
