//! Images as the Image API shares them: an owner, who sees them, what they are said to be, and uploads that end once.
//!
//! ```text
//! begin_image_upload (queued -> saving, with a term) -> renew, renew, … -> finish (-> active) | abandon (-> queued)
//! ```
//!
//! Ground rules: a change names the generation that was read; content is given once; an upload whose controller died ends by
//! itself, since nobody renews its term.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use whimbrel_core::{
    id::{ImageDigest, ImageId},
    identity::ProjectId,
    image::{ImageStatus, Visibility},
};

use crate::{
    ImageDisk, ImageRow, Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    image::{content, digest_text, disk_json},
    record::{Record, bigint, json},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageEntry {
    pub image: ImageRow,
    /// `None`: the native API made it, or an administrator for nobody.
    pub owner: Option<ProjectId>,
    pub visibility: Visibility,
    pub protected: bool,
    pub hidden: bool,
    /// As it was written: see [`ImageEntry::status_at`].
    pub status: ImageStatus,
    /// What its maker said that it is.
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    /// Of the uploaded file.
    pub file_bytes: Option<u64>,
    /// Of its bytes, in hex.
    pub md5: Option<String>,
    pub sha512: Option<String>,
    pub min_disk_gb: u64,
    pub min_ram_mb: u64,
    /// All but `os_command_line`, which is a field of [`ImageRow`].
    pub properties: BTreeMap<String, String>,
    pub tags: BTreeSet<String>,
    pub generation: i64,
    pub updated_us: i64,
    /// Until when an upload that is not heard of is believed to go on.
    pub upload_until_us: Option<i64>,
}

/// One attempt to give an image its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUpload {
    pub image: ImageId,
    /// Of this attempt; nobody else's.
    pub key: String,
    pub until_us: i64,
}

/// What came: one of the three parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadedContent {
    pub disk: Option<ImageDisk>,
    pub kernel: Option<ImageDigest>,
    pub ramdisk: Option<ImageDigest>,
    pub file_bytes: u64,
    pub md5: String,
    pub sha512: String,
}

impl ImageEntry {
    pub fn status_at(&self, now_us: i64) -> ImageStatus {
        match self.status {
            ImageStatus::Saving if self.upload_until_us.is_none_or(|until_us| until_us < now_us) => ImageStatus::Queued,
            ImageStatus::Queued | ImageStatus::Saving | ImageStatus::Active => self.status,
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, os_command_line, disk, kernel, ramdisk, created_us, owner, visibility, protected, hidden, \
             status, disk_format, container_format, file_bytes, md5, sha512, min_disk_gb, min_ram_mb, properties, tags, \
             generation, updated_us, upload_until_us FROM images ",
            $rest
        )
    };
}

fn read(row: &AnyRow) -> Result<ImageEntry> {
    let record = Record::new("image", row)?;
    let owner = record.text("owner")?;
    let file_bytes = record.us_opt("file_bytes")?.map(u64::try_from).transpose();
    Ok(ImageEntry {
        image: content(&record)?,
        owner: if owner.is_empty() { None } else { Some(record.parsed("owner")?) },
        visibility: record.parsed("visibility")?,
        protected: record.flag("protected")?,
        hidden: record.flag("hidden")?,
        status: record.parsed("status")?,
        disk_format: record.text_opt("disk_format")?,
        container_format: record.text_opt("container_format")?,
        file_bytes: file_bytes.map_err(|error| record.corrupt("file_bytes", error))?,
        md5: record.text_opt("md5")?,
        sha512: record.text_opt("sha512")?,
        min_disk_gb: record.number("min_disk_gb")?,
        min_ram_mb: record.number("min_ram_mb")?,
        properties: record.json("properties")?,
        tags: record.json("tags")?,
        generation: record.us("generation")?,
        updated_us: record.us("updated_us")?,
        upload_until_us: record.us_opt("upload_until_us")?,
    })
}

fn owner_text(entry: &ImageEntry) -> &str {
    entry.owner.as_ref().map_or("", ProjectId::as_str)
}

impl Store {
    /// An upload cannot be under way in it.
    pub async fn create_image_entry(&self, entry: &ImageEntry) -> Result<()> {
        let image = &entry.image;
        sqlx::query(
            "INSERT INTO images (id, name, os_command_line, disk, kernel, ramdisk, created_us, owner, visibility, \
             protected, hidden, status, disk_format, container_format, file_bytes, md5, sha512, min_disk_gb, min_ram_mb, \
             properties, tags, generation, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
             $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
        )
        .bind(image.id.to_string())
        .bind(&image.name)
        .bind(image.os_command_line.clone())
        .bind(disk_json(image)?)
        .bind(digest_text(&image.kernel))
        .bind(digest_text(&image.ramdisk))
        .bind(image.created_us)
        .bind(owner_text(entry))
        .bind(entry.visibility.as_str())
        .bind(i64::from(entry.protected))
        .bind(i64::from(entry.hidden))
        .bind(entry.status.as_str())
        .bind(entry.disk_format.clone())
        .bind(entry.container_format.clone())
        .bind(entry.file_bytes.map(bigint))
        .bind(entry.md5.clone())
        .bind(entry.sha512.clone())
        .bind(bigint(entry.min_disk_gb))
        .bind(bigint(entry.min_ram_mb))
        .bind(json("image", image.id, "properties", &entry.properties)?)
        .bind(json("image", image.id, "tags", &entry.tags)?)
        .bind(entry.generation)
        .bind(entry.updated_us)
        .execute(&self.writes)
        .await
        .map_err(unique("create image", "image", image.id, "exists already"))?;
        Ok(())
    }

    pub async fn image_entry(&self, id: ImageId) -> Result<ImageEntry> {
        let row = sqlx::query(select!("WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(db("read image"))?;
        read(&row.ok_or_else(|| not_found("image", id))?)
    }

    pub async fn list_image_entries(&self, ask: &PageAsk) -> Result<Page<ImageEntry>> {
        let rows = sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list images"))?;
        ask.page(&rows, read, |entry| entry.image.id.to_string())
    }

    /// All that is said of it, not its content; `Conflict` if it was changed since `entry.generation` was read.
    pub async fn change_image(&self, entry: &ImageEntry, now_us: i64) -> Result<()> {
        let image = &entry.image;
        let done = sqlx::query(
            "UPDATE images SET name = $3, os_command_line = $4, owner = $5, visibility = $6, protected = $7, hidden = $8, \
             disk_format = $9, container_format = $10, min_disk_gb = $11, min_ram_mb = $12, properties = $13, tags = $14, \
             updated_us = $15, generation = generation + 1 WHERE id = $1 AND generation = $2",
        )
        .bind(image.id.to_string())
        .bind(entry.generation)
        .bind(&image.name)
        .bind(image.os_command_line.clone())
        .bind(owner_text(entry))
        .bind(entry.visibility.as_str())
        .bind(i64::from(entry.protected))
        .bind(i64::from(entry.hidden))
        .bind(entry.disk_format.clone())
        .bind(entry.container_format.clone())
        .bind(bigint(entry.min_disk_gb))
        .bind(bigint(entry.min_ram_mb))
        .bind(json("image", image.id, "properties", &entry.properties)?)
        .bind(json("image", image.id, "tags", &entry.tags)?)
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("change image"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.image_entry(image.id).await?;
        Err(conflict("image", image.id, "was changed by another meanwhile"))
    }

    /// `Conflict` where there is content already, another upload is under way, or the image was changed since `generation`.
    pub async fn begin_image_upload(&self, upload: &ImageUpload, generation: i64, now_us: i64) -> Result<()> {
        let done = sqlx::query(
            "UPDATE images SET status = 'saving', upload = $3, upload_until_us = $4, updated_us = $5, \
             generation = generation + 1 WHERE id = $1 AND generation = $2 \
             AND (status = 'queued' OR (status = 'saving' AND upload_until_us < $5))",
        )
        .bind(upload.image.to_string())
        .bind(generation)
        .bind(&upload.key)
        .bind(upload.until_us)
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("begin upload"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let reason = match self.image_entry(upload.image).await?.status_at(now_us) {
            ImageStatus::Queued => "was changed by another meanwhile",
            ImageStatus::Saving => "is being uploaded already",
            ImageStatus::Active => "has content already",
        };
        Err(conflict("image", upload.image, reason))
    }

    /// The image `NotFound` also where another upload took over.
    pub async fn renew_image_upload(&self, upload: &ImageUpload) -> Result<()> {
        let done = sqlx::query("UPDATE images SET upload_until_us = $3 WHERE id = $1 AND upload = $2")
            .bind(upload.image.to_string())
            .bind(&upload.key)
            .bind(upload.until_us)
            .execute(&self.reads)
            .await
            .map_err(db("renew upload"))?;
        if done.rows_affected() == 0 { Err(not_found("image", upload.image)) } else { Ok(()) }
    }

    /// As [`Store::renew_image_upload`], and the image is active.
    pub async fn finish_image_upload(
        &self,
        upload: &ImageUpload,
        content: &UploadedContent,
        now_us: i64,
    ) -> Result<()> {
        let disk = content.disk.as_ref().map(|disk| json("image", upload.image, "disk", disk)).transpose()?;
        let done = sqlx::query(
            "UPDATE images SET status = 'active', upload = NULL, upload_until_us = NULL, disk = $3, kernel = $4, \
             ramdisk = $5, file_bytes = $6, md5 = $7, sha512 = $8, updated_us = $9, generation = generation + 1 \
             WHERE id = $1 AND upload = $2",
        )
        .bind(upload.image.to_string())
        .bind(&upload.key)
        .bind(disk)
        .bind(digest_text(&content.kernel))
        .bind(digest_text(&content.ramdisk))
        .bind(bigint(content.file_bytes))
        .bind(&content.md5)
        .bind(&content.sha512)
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("finish upload"))?;
        if done.rows_affected() == 0 { Err(not_found("image", upload.image)) } else { Ok(()) }
    }

    /// The image waits for content again; one that is gone stays so.
    pub async fn abandon_image_upload(&self, upload: &ImageUpload, now_us: i64) -> Result<()> {
        sqlx::query(
            "UPDATE images SET status = 'queued', upload = NULL, upload_until_us = NULL, updated_us = $3, \
             generation = generation + 1 WHERE id = $1 AND upload = $2",
        )
        .bind(upload.image.to_string())
        .bind(&upload.key)
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("abandon upload"))?;
        Ok(())
    }
}
