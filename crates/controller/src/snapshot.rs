//! Images of servers: a copy of the root disk, made by the server's host, brought into the image store.
//!
//! ```text
//! task imaging          PUT copy, again until it is ready or failed
//! task image_uploading  begin upload (queued -> saving) -> host's stream -> vault -> digest as the host told? -> active
//! -> copy dropped, event over, no task                     any failure: image gone, event told, no task
//! ```
//!
//! Ground rules: content goes through in pieces and is never whole in memory; every step may be repeated by another controller
//! after a death (the upload's term keeps two from writing one image); the server itself is as it was, whatever comes of it.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;
use whimbrel_api::{
    agent::{CopyAsk, CopyState},
    client::AgentClient,
};
use whimbrel_core::{
    disk::DiskFormat,
    failure::{Failure, FailureCode},
    id::{ImageDigest, ImageId},
    image::ImageStatus,
    instance::{Boot, InstanceSpec},
};
use whimbrel_store::{HostState, ImageUpload, InstanceRow, StoreError, TaskState, UploadedContent};

use crate::{
    answer::failure_of,
    api::images::disk_of,
    app::App,
    books,
    image::{Announced, Kind, Stored, Sums},
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An upload whose controller died is over when this has passed.
const TERM_US: i64 = 120_000_000;
/// Also how soon a deletion ends it.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Until the image is active, or the server is wanted for something else.
pub async fn make(app: &App, row: &InstanceRow) -> Result<(), Failure> {
    let image = image_of(row)?;
    let host = app.store.host(&row.host).await.map_err(failure_of)?;
    if host.state == HostState::Down {
        return Err(Failure::new(FailureCode::HostDown, format!("host '{}' is down", host.name)));
    }
    if host.evacuees > 0 {
        return Err(books::lets_go(&host));
    }
    let agent = app.agents.of(&host)?;
    let Some((file_bytes, digest)) = copied(app, row, image, &agent).await? else { return Ok(()) };
    match app.store.change_task(row.id, Some(TaskState::Imaging), Some(TaskState::ImageUploading), App::now_us()).await
    {
        // It was so before a restart; or it is being deleted, which the upload notices.
        Ok(()) | Err(StoreError::Conflict { .. }) => {}
        Err(error) => return Err(failure_of(error)),
    }
    if !upload(app, row, image, &agent, file_bytes, &digest).await? {
        return Ok(());
    }
    tracing::info!(server = %row.id, %image, bytes = file_bytes, "an image was made of a server");
    drop_copy(&agent, row, image).await;
    end_event(app, row, None).await.map_err(failure_of)?;
    match app.store.change_task(row.id, Some(TaskState::ImageUploading), None, App::now_us()).await {
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(failure_of(error)),
    }
}

fn image_of(row: &InstanceRow) -> Result<ImageId, Failure> {
    let image = row.errand.as_ref().and_then(|errand| errand.image);
    image.ok_or_else(|| Failure::new(FailureCode::Internal, format!("server '{}' makes no image", row.name)))
}

/// `None` if the server is wanted for something else meanwhile.
async fn copied(
    app: &App,
    row: &InstanceRow,
    image: ImageId,
    agent: &AgentClient,
) -> Result<Option<(u64, ImageDigest)>, Failure> {
    let root = row.spec.disks.first().ok_or_else(|| {
        Failure::new(FailureCode::Conflict, format!("server '{}' has no disk to make an image of", row.name))
    })?;
    let ask = CopyAsk { epoch: row.epoch, disk: root.name.clone() };
    loop {
        match agent.copy_disk(row.id, image, &ask).await?.state {
            CopyState::Ready { file_bytes, digest } => return Ok(Some((file_bytes, digest))),
            CopyState::Failed { failure } => return Err(failure),
            CopyState::Copying => tokio::time::sleep(LOOK_EVERY).await,
        }
        if !is_wanted(app, row).await? {
            return Ok(None);
        }
    }
}

/// It still makes this image.
async fn is_wanted(app: &App, row: &InstanceRow) -> Result<bool, Failure> {
    match app.store.server(row.id).await {
        Ok(now) => {
            Ok(matches!(now.task, Some(TaskState::Imaging | TaskState::ImageUploading)) && now.errand == row.errand)
        }
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(failure_of(error)),
    }
}

/// Whether the image is active now.
async fn upload(
    app: &App,
    row: &InstanceRow,
    image: ImageId,
    agent: &AgentClient,
    file_bytes: u64,
    digest: &ImageDigest,
) -> Result<bool, Failure> {
    let entry = app.store.image_entry(image).await.map_err(|error| gone(image, error))?;
    if entry.status == ImageStatus::Active {
        return Ok(true);
    }
    let upload = ImageUpload { image, key: Uuid::now_v7().to_string(), until_us: App::now_us() + TERM_US };
    match app.store.begin_image_upload(&upload, entry.generation, App::now_us()).await {
        // An upload whose controller died; or the image was described in this moment. Later.
        Err(StoreError::Conflict { reason, .. }) => {
            return Err(Failure::new(FailureCode::HostDown, format!("image {image} {reason}")));
        }
        other => other.map_err(|error| gone(image, error))?,
    }
    let received = receive(app, row, &upload, agent, file_bytes).await;
    let kept = match received {
        Ok(Some((stored, sums))) if stored.digest == *digest => {
            let content = content(&row.spec, stored, sums);
            let finished = app.store.finish_image_upload(&upload, &content, App::now_us()).await;
            return finished.map(|()| true).map_err(|error| gone(image, error));
        }
        Ok(Some((stored, _))) => {
            let detail = format!("of image {image} came content with digest {}, its host has {digest}", stored.digest);
            Err(Failure::new(FailureCode::Corrupt, detail).hint("make the image again"))
        }
        Ok(None) => Ok(false),
        Err(failure) => Err(failure),
    };
    app.store.abandon_image_upload(&upload, App::now_us()).await.map_err(failure_of)?;
    kept
}

async fn receive(
    app: &App,
    row: &InstanceRow,
    upload: &ImageUpload,
    agent: &AgentClient,
    file_bytes: u64,
) -> Result<Option<(Stored, Sums)>, Failure> {
    let announced = Announced { kind: Kind::Disk, format: Some(DiskFormat::Qcow2), bytes: Some(file_bytes) };
    let mut content = pin!(agent.copy_content(row.id, upload.image).await?);
    let mut receiving = pin!(app.vault.receive_summed(announced, content.as_mut()));
    let mut renewal = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = &mut receiving => return Ok(Some(received?)),
            _ = renewal.tick() => {
                if !is_wanted(app, row).await? {
                    return Ok(None);
                }
                let until_us = App::now_us() + TERM_US;
                let renewed = app.store.renew_image_upload(&ImageUpload { until_us, ..upload.clone() }).await;
                renewed.map_err(|error| gone(upload.image, error))?;
            }
        }
    }
}

/// It boots as the server did.
fn content(spec: &InstanceSpec, stored: Stored, sums: Sums) -> UploadedContent {
    let (kernel, ramdisk) = match &spec.boot {
        Boot::Disk => (None, None),
        Boot::Kernel { kernel, ramdisk, .. } => (Some(kernel.clone()), ramdisk.clone()),
    };
    let file_bytes = stored.file_bytes;
    UploadedContent { disk: disk_of(stored), kernel, ramdisk, file_bytes, md5: sums.md5, sha512: sums.sha512 }
}

/// The image came to nothing: it goes, and the server is free.
pub async fn give_up(app: &App, row: &InstanceRow, failure: &Failure) -> Result<(), StoreError> {
    if let Err(error) = forget_image(app, row).await {
        tracing::warn!(server = %row.id, %error, "a half-made image stays");
    }
    if let (Ok(image), Ok(host)) = (image_of(row), app.store.host(&row.host).await)
        && let Ok(agent) = app.agents.of(&host)
    {
        drop_copy(&agent, row, image).await;
    }
    end_event(app, row, Some(&failure.detail)).await?;
    for task in [TaskState::Imaging, TaskState::ImageUploading] {
        match app.store.change_task(row.id, Some(task), None, App::now_us()).await {
            Ok(()) | Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Of a server that was making one; an image that is whole stays.
pub async fn forget_image(app: &App, row: &InstanceRow) -> Result<(), Failure> {
    let Some(image) = row.errand.as_ref().and_then(|errand| errand.image) else { return Ok(()) };
    match app.store.image_entry(image).await {
        Ok(entry) if entry.status == ImageStatus::Active => return Ok(()),
        Ok(_) => {}
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(failure_of(error)),
    }
    match app.store.delete_image(image).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(failure_of(error)),
    }
}

async fn drop_copy(agent: &AgentClient, row: &InstanceRow, image: ImageId) {
    if let Err(failure) = agent.drop_copy(row.id, image).await {
        // It goes with the next start of its agent.
        tracing::info!(server = %row.id, %image, %failure, "the copy for an image stays on its host");
    }
}

async fn end_event(app: &App, row: &InstanceRow, failed: Option<&str>) -> Result<(), StoreError> {
    let Some(errand) = &row.errand else { return Ok(()) };
    app.store.end_event(row.id, &errand.request_id, &errand.event, failed, App::now_us()).await.map(drop)
}

fn gone(image: ImageId, error: StoreError) -> Failure {
    match error {
        StoreError::NotFound { .. } => {
            Failure::new(FailureCode::Cancelled, format!("image {image} was deleted while it was made"))
        }
        other => failure_of(other),
    }
}
