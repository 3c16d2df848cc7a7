//! Images: names for content that lies in the controller's blob directory under its digest.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use whimbrel_core::{
    disk::DiskFormat,
    id::{ImageDigest, ImageId},
    image::ImageStatus,
};

use crate::{
    Page, PageAsk, Store,
    error::{Result, conflict, db, not_found, unique},
    record::{Record, json},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDisk {
    pub digest: ImageDigest,
    pub format: DiskFormat,
    pub file_bytes: u64,
    pub virtual_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    pub id: ImageId,
    /// Need not be unique, as in Glance.
    pub name: String,
    pub os_command_line: Option<String>,
    pub disk: Option<ImageDisk>,
    pub kernel: Option<ImageDigest>,
    pub ramdisk: Option<ImageDigest>,
    pub created_us: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, name, os_command_line, disk, kernel, ramdisk, created_us FROM images ", $rest)
    };
}

fn read(row: &AnyRow) -> Result<ImageRow> {
    content(&Record::new("image", row)?)
}

pub(crate) fn content(record: &Record<'_>) -> Result<ImageRow> {
    Ok(ImageRow {
        id: record.parsed("id")?,
        name: record.text("name")?,
        os_command_line: record.text_opt("os_command_line")?,
        disk: record.json_opt("disk")?,
        kernel: record.parsed_opt("kernel")?,
        ramdisk: record.parsed_opt("ramdisk")?,
        created_us: record.us("created_us")?,
    })
}

pub(crate) fn disk_json(image: &ImageRow) -> Result<Option<String>> {
    image.disk.as_ref().map(|disk| json("image", image.id, "disk", disk)).transpose()
}

pub(crate) fn digest_text(digest: &Option<ImageDigest>) -> Option<String> {
    digest.as_ref().map(ToString::to_string)
}

impl Store {
    pub async fn create_image(&self, image: &ImageRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO images (id, name, os_command_line, disk, kernel, ramdisk, created_us, updated_us, status) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
        )
        .bind(image.id.to_string())
        .bind(&image.name)
        .bind(image.os_command_line.clone())
        .bind(disk_json(image)?)
        .bind(digest_text(&image.kernel))
        .bind(digest_text(&image.ramdisk))
        .bind(image.created_us)
        .bind(if image.disk.is_some() { ImageStatus::Active } else { ImageStatus::Queued }.as_str())
        .execute(&self.writes)
        .await
        .map_err(unique("create image", "image", image.id, "exists already"))?;
        Ok(())
    }

    /// By id or name; a name that several images bear is a `Conflict`.
    pub async fn image(&self, id_or_name: &str) -> Result<ImageRow> {
        let rows = sqlx::query(select!("WHERE id = $1 OR name = $1 LIMIT 2"))
            .bind(id_or_name)
            .fetch_all(&self.reads)
            .await
            .map_err(db("read image"))?;
        match rows.as_slice() {
            [] => Err(not_found("image", id_or_name)),
            [row] => read(row),
            _ => Err(conflict("image", id_or_name, "is the name of several: use an id")),
        }
    }

    pub async fn list_images(&self, ask: &PageAsk) -> Result<Page<ImageRow>> {
        let rows = sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
            .bind(ask.after())
            .bind(ask.rows())
            .fetch_all(&self.reads)
            .await
            .map_err(db("list images"))?;
        ask.page(&rows, read, |image| image.id.to_string())
    }

    /// Sets the parts that are given and leaves the others: uploads of two parts may end at once. Sums of a disk that was
    /// there before are forgotten.
    pub async fn set_image_parts(
        &self,
        id: ImageId,
        disk: Option<&ImageDisk>,
        kernel: Option<&ImageDigest>,
        ramdisk: Option<&ImageDigest>,
        now_us: i64,
    ) -> Result<()> {
        let disk = disk.map(|disk| json("image", id, "disk", disk)).transpose()?;
        let done = sqlx::query(
            "UPDATE images SET disk = COALESCE($2, disk), kernel = COALESCE($3, kernel), \
             ramdisk = COALESCE($4, ramdisk), updated_us = $5, generation = generation + 1, \
             status = CASE WHEN $2 IS NULL THEN status ELSE 'active' END, \
             upload = CASE WHEN $2 IS NULL THEN upload END, upload_until_us = CASE WHEN $2 IS NULL THEN upload_until_us END, \
             file_bytes = CASE WHEN $2 IS NULL THEN file_bytes END, md5 = CASE WHEN $2 IS NULL THEN md5 END, \
             sha512 = CASE WHEN $2 IS NULL THEN sha512 END WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(disk)
        .bind(kernel.map(ToString::to_string))
        .bind(ramdisk.map(ToString::to_string))
        .bind(now_us)
        .execute(&self.writes)
        .await
        .map_err(db("set image parts"))?;
        if done.rows_affected() == 0 { Err(not_found("image", id)) } else { Ok(()) }
    }

    /// `Conflict` for one that is protected.
    pub async fn delete_image(&self, id: ImageId) -> Result<()> {
        let done = sqlx::query("DELETE FROM images WHERE id = $1 AND protected = 0")
            .bind(id.to_string())
            .execute(&self.writes)
            .await
            .map_err(db("delete image"))?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        self.image_entry(id).await?;
        Err(conflict("image", id, "is protected"))
    }
}
