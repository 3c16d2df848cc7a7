//! Images: names for content. The content itself is looked at before it is taken.

use std::collections::HashSet;

use axum::{
    Json,
    body::Body as HttpBody,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_LENGTH},
};
use uuid::Uuid;
use whimbrel_api::{
    native::{Image, ImagePart, NewImage, Page, StoredDisk},
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{ImageDigest, ImageId},
    instance::Boot,
};
use whimbrel_store::{ImageDisk, ImageRow, PageAsk, StoreError};

use super::{check_name, page};
use crate::{
    answer::{Answer, failure_of},
    app::{App, Shared, names_ask, unknown},
    auth::{Member, Reader},
    extract::{At, Body, PageOf},
    image::{Kind, Stored},
};

/// Linux's own bound is 2 KiB on x86.
const COMMAND_LINE_BYTES_MAX: usize = 2048;

#[utoipa::path(post, path = "/v1/images", request_body = NewImage,
    responses((status = 201, body = Image), (status = "default", body = Problem)))]
pub(super) async fn create(
    _: Member,
    State(app): State<Shared>,
    Body(new): Body<NewImage>,
) -> Answer<(StatusCode, Json<Image>)> {
    check_name("image", &new.name)?;
    check_command_line(new.os_command_line.as_deref())?;
    let disk = match &new.disk {
        Some(digest) => disk_of(app.vault.inspect(digest, Kind::Disk).await?),
        None => None,
    };
    for (digest, kind) in [(&new.kernel, Kind::Kernel), (&new.ramdisk, Kind::Ramdisk)] {
        if let Some(digest) = digest {
            app.vault.inspect(digest, kind).await?;
        }
    }
    let row = ImageRow {
        id: ImageId(Uuid::now_v7()),
        name: new.name,
        os_command_line: new.os_command_line,
        disk,
        kernel: new.kernel,
        ramdisk: new.ramdisk,
        created_us: App::now_us(),
    };
    app.store.create_image(&row).await?;
    Ok((StatusCode::CREATED, Json(view(row))))
}

#[utoipa::path(get, path = "/v1/images", params(("limit" = Option<u32>, Query), ("marker" = Option<String>, Query)),
    responses((status = 200, body = Page<Image>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Reader, State(app): State<Shared>, PageOf(ask): PageOf) -> Answer<Json<Page<Image>>> {
    Ok(page(app.store.list_images(&ask).await?, view))
}

#[utoipa::path(get, path = "/v1/images/{image}", params(("image" = String, Path, description = "id or name")),
    responses((status = 200, body = Image), (status = "default", body = Problem)))]
pub(super) async fn show(_: Reader, State(app): State<Shared>, At(image): At<String>) -> Answer<Json<Image>> {
    Ok(Json(view(find(&app, &image).await?)))
}

/// Servers that were made of it keep what they need.
#[utoipa::path(delete, path = "/v1/images/{image}", params(("image" = String, Path, description = "id or name")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(_: Member, State(app): State<Shared>, At(image): At<String>) -> Answer<StatusCode> {
    let row = find(&app, &image).await?;
    app.store.delete_image(row.id).await?;
    collect_content(&app).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes content that nobody needs any more.
pub(crate) async fn collect_content(app: &App) -> Answer<()> {
    let named = named_content(app).await?;
    app.vault.collect(&named).await?;
    Ok(())
}

#[utoipa::path(put, path = "/v1/images/{image}/content/{part}",
    params(("image" = String, Path, description = "id or name"), ("part" = ImagePart, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Image), (status = "default", body = Problem)))]
pub(super) async fn upload(
    _: Member,
    State(app): State<Shared>,
    At((image, part)): At<(String, ImagePart)>,
    headers: HeaderMap,
    body: HttpBody,
) -> Answer<Json<Image>> {
    let row = find(&app, &image).await?;
    let kind = match part {
        ImagePart::Disk => Kind::Disk,
        ImagePart::Kernel => Kind::Kernel,
        ImagePart::Ramdisk => Kind::Ramdisk,
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    tracing::info!(image = %row.id, ?kind, bytes = announced, "image content is uploaded");
    let stored = app.vault.receive(kind, body.into_data_stream()).await?;
    let (digest, now_us) = (stored.digest.clone(), App::now_us());
    match part {
        ImagePart::Disk => app.store.set_image_parts(row.id, disk_of(stored).as_ref(), None, None, now_us).await?,
        ImagePart::Kernel => app.store.set_image_parts(row.id, None, Some(&digest), None, now_us).await?,
        ImagePart::Ramdisk => app.store.set_image_parts(row.id, None, None, Some(&digest), now_us).await?,
    }
    Ok(Json(view(find(&app, &row.id.to_string()).await?)))
}

pub(super) async fn find(app: &App, id_or_name: &str) -> Result<ImageRow, Failure> {
    match app.store.image(id_or_name).await {
        Err(StoreError::NotFound { .. }) => {
            let known = app.store.list_images(&names_ask()).await.map(|page| page.items).unwrap_or_default();
            Err(unknown("image", id_or_name, known.into_iter().map(|image| image.name).collect()))
        }
        other => other.map_err(failure_of),
    }
}

pub(super) fn check_command_line(line: Option<&str>) -> Result<(), Failure> {
    match line {
        Some(line) if line.len() > COMMAND_LINE_BYTES_MAX || line.chars().any(char::is_control) => {
            let detail = format!("os_command_line has {} bytes or control characters in it", line.len());
            Err(Failure::new(FailureCode::BadRequest, detail)
                .hint(format!("use one line of at most {COMMAND_LINE_BYTES_MAX} bytes")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Everything that an image or a server still needs.
async fn named_content(app: &App) -> Answer<HashSet<ImageDigest>> {
    let mut named = HashSet::new();
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_images(&ask).await?;
        for image in page.items {
            named.extend(image.disk.map(|disk| disk.digest).into_iter().chain(image.kernel).chain(image.ramdisk));
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            break;
        }
    }
    loop {
        let page = app.store.list_instances(None, &ask).await?;
        for instance in page.items {
            named.extend(instance.spec.disks.into_iter().filter_map(|disk| disk.base).map(|base| base.digest));
            match instance.spec.boot {
                Boot::Disk => {}
                Boot::Kernel { kernel, ramdisk, .. } => named.extend(ramdisk.into_iter().chain([kernel])),
            }
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(named);
        }
    }
}

pub(crate) fn disk_of(stored: Stored) -> Option<ImageDisk> {
    let content = stored.disk?;
    Some(ImageDisk {
        digest: stored.digest,
        format: content.format,
        file_bytes: stored.file_bytes,
        virtual_bytes: content.virtual_bytes,
    })
}

fn view(row: ImageRow) -> Image {
    let disk = row.disk.map(|disk| StoredDisk {
        digest: disk.digest,
        format: disk.format,
        file_bytes: disk.file_bytes,
        virtual_bytes: disk.virtual_bytes,
    });
    Image {
        id: row.id,
        name: row.name,
        os_command_line: row.os_command_line,
        disk,
        kernel: row.kernel,
        ramdisk: row.ramdisk,
    }
}
