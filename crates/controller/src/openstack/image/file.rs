//! Content of images: up, once; down, whole or a part.
//!
//! ```text
//! PUT -> begin (queued -> saving, with a term) -> vault, while the term is renewed -> finish (active) | abandon (queued)
//! ```

use std::{pin::pin, time::Duration};

use axum::{
    body::Body as HttpBody,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::io::ReaderStream;
use uuid::Uuid;
use whimbrel_api::openstack::image::{
    CONTENT_TYPE, IMAGE_SIZE,
    fault::Fault,
    range::{self, NotSatisfiable},
};
use whimbrel_core::{disk::DiskFormat, id::ImageDigest, identity::policy::Operation, image::ImageStatus};
use whimbrel_store::{ImageEntry, ImageUpload, StoreError, UploadedContent};

use super::{answer::Answer, ask::Ask};
use crate::{
    api::images::disk_of,
    app::{App, Shared},
    image::{Announced, Kind, Stored, Sums},
};

const READ_BYTES: usize = 256 << 10;
/// An upload whose controller died is over when this has passed.
const TERM_US: i64 = 120_000_000;
const RENEW_EVERY: Duration = Duration::from_secs(30);
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const IMAGE_SIZE_HEADER: HeaderName = HeaderName::from_static(IMAGE_SIZE);

pub(super) async fn upload(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: HttpBody,
) -> Answer<StatusCode> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(&header::CONTENT_TYPE) != Some(CONTENT_TYPE) {
        return Err(Fault::new(415, format!("Invalid content type: image data must be {CONTENT_TYPE}")).into());
    }
    let size = text(&IMAGE_SIZE_HEADER).or(text(&header::CONTENT_LENGTH)).map(|text| {
        text.parse::<u64>().map_err(|_| Fault::new(400, "Invalid or missing image size in request headers."))
    });
    let size = size.transpose()?;
    let found = ask.writable(&app, &id).await?;
    let (kind, format) = announced(&found)?;
    let now_us = App::now_us();
    let key = Uuid::now_v7().to_string();
    let upload = ImageUpload { image: found.image.id, key, until_us: now_us + TERM_US };
    app.store.begin_image_upload(&upload, found.generation, now_us).await?;
    tracing::info!(image = %upload.image, ?kind, bytes = size, "image content is uploaded");
    let outcome = receive(&app, &upload, Announced { kind, format, bytes: size }, body).await;
    if outcome.is_err() {
        app.store.abandon_image_upload(&upload, App::now_us()).await?;
    }
    outcome.map(|()| StatusCode::NO_CONTENT)
}

async fn receive(app: &App, upload: &ImageUpload, announced: Announced, body: HttpBody) -> Answer<()> {
    let mut receiving = pin!(app.vault.receive_summed(announced, body.into_data_stream()));
    let mut renewal = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (stored, sums) = loop {
        tokio::select! {
            received = &mut receiving => break received?,
            _ = renewal.tick() => {
                let until_us = App::now_us() + TERM_US;
                gone(app.store.renew_image_upload(&ImageUpload { until_us, ..upload.clone() }).await)?;
            }
        }
    };
    gone(app.store.finish_image_upload(upload, &content(announced.kind, stored, sums), App::now_us()).await)
}

fn gone(done: Result<(), StoreError>) -> Answer<()> {
    match done {
        Err(StoreError::NotFound { id, .. }) => {
            let told =
                format!("Image {id} could not be found after upload. It may have been deleted during the upload.");
            Err(Fault::new(410, told).into())
        }
        other => Ok(other?),
    }
}

/// What the bytes must be, by what the image is said to be.
fn announced(entry: &ImageEntry) -> Result<(Kind, Option<DiskFormat>), Fault> {
    let missing: Vec<&str> = [("disk_format", &entry.disk_format), ("container_format", &entry.container_format)]
        .into_iter()
        .filter(|(_, said)| said.is_none())
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() && entry.status != ImageStatus::Active {
        return Err(Fault::new(400, format!("Properties {} must be set prior to saving data.", missing.join(", "))));
    }
    Ok(match entry.disk_format.as_deref() {
        Some("aki") => (Kind::Kernel, None),
        Some("ari") => (Kind::Ramdisk, None),
        Some("qcow2") => (Kind::Disk, Some(DiskFormat::Qcow2)),
        Some("raw") => (Kind::Disk, Some(DiskFormat::Raw)),
        // A file system with the kernel beside it.
        Some("ami") => (Kind::Disk, Some(DiskFormat::Raw)),
        Some(_) | None => (Kind::Disk, None),
    })
}

fn content(kind: Kind, stored: Stored, sums: Sums) -> UploadedContent {
    let Sums { md5, sha512 } = sums;
    let (digest, file_bytes) = (stored.digest.clone(), stored.file_bytes);
    let content = UploadedContent { file_bytes, md5, sha512, ..UploadedContent::default() };
    match kind {
        Kind::Disk => UploadedContent { disk: disk_of(stored), ..content },
        Kind::Kernel => UploadedContent { kernel: Some(digest), ..content },
        Kind::Ramdisk => UploadedContent { ramdisk: Some(digest), ..content },
    }
}

pub(super) async fn download(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    ask.may(Operation::DownloadImages)?;
    let found = ask.image(&app, &id).await?;
    let Some(digest) = digest_of(&found) else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let (mut file, file_bytes) = app.vault.open_blob(digest).await?;
    let asked = headers.get(header::RANGE).map(|value| value.to_str().unwrap_or_default());
    let part = match range::parse(asked, file_bytes) {
        Ok(part) => part,
        Err(NotSatisfiable) => {
            let fault =
                Fault::new(416, format!("The image has {file_bytes} bytes, and one range of them can be asked for."));
            let refused = super::answer::Refused::from(fault);
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{file_bytes}"))], refused).into_response());
        }
    };
    let (first, bytes) = part.map_or((0, file_bytes), |part| (part.first, part.bytes));
    file.seek(std::io::SeekFrom::Start(first)).await.map_err(|error| {
        tracing::error!(%digest, %error, "image content cannot be read");
        Fault::new(500, "The image's content cannot be read.")
    })?;
    let stream = ReaderStream::with_capacity(file.take(bytes), READ_BYTES);
    let mut response = (
        [(header::CONTENT_TYPE, CONTENT_TYPE.to_owned()), (header::CONTENT_LENGTH, bytes.to_string())],
        HttpBody::from_stream(stream),
    )
        .into_response();
    if let Some(part) = part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, header::CONTENT_RANGE, &part.content_range(file_bytes));
    }
    // Of the whole file, in hex, as Glance has it.
    if let Some(md5) = &found.md5 {
        set(&mut response, CONTENT_MD5, md5);
    }
    Ok(response)
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

/// The disk, or what an image of a kernel or ramdisk alone has.
fn digest_of(entry: &ImageEntry) -> Option<&ImageDigest> {
    let image = &entry.image;
    let part = || image.kernel.as_ref().or(image.ramdisk.as_ref()).filter(|_| entry.status == ImageStatus::Active);
    image.disk.as_ref().map(|disk| &disk.digest).or_else(part)
}
