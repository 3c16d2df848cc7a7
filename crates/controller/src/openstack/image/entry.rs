//! Between a row of the store and a record of the API.

use whimbrel_api::openstack::image::{
    fault::Fault,
    fields::{OS_COMMAND_LINE, Said},
    record::ImageRecord,
};
use whimbrel_core::{disk::DiskFormat, image::ImageStatus};
use whimbrel_store::{ImageEntry, ImageRow};

/// Images of the native API say nothing of a container: there is none.
const NO_CONTAINER: &str = "bare";
/// What has content of these is what the content is, whoever said something else before.
const OF_CONTENT: &[&str] = &["raw", "qcow2"];

pub(super) fn said(entry: &ImageEntry) -> Said {
    let image = &entry.image;
    let mut properties = entry.properties.clone();
    if let Some(line) = &image.os_command_line {
        properties.insert(OS_COMMAND_LINE.to_owned(), line.clone());
    }
    let of_content = image.disk.as_ref().map(|disk| match disk.format {
        DiskFormat::Qcow2 => "qcow2".to_owned(),
        DiskFormat::Raw => "raw".to_owned(),
    });
    let is_of_content = entry.disk_format.as_deref().is_none_or(|format| OF_CONTENT.contains(&format));
    Said {
        name: Some(image.name.clone()).filter(|name| !name.is_empty()),
        owner: entry.owner.as_ref().map(ToString::to_string),
        visibility: entry.visibility,
        protected: entry.protected,
        hidden: entry.hidden,
        disk_format: if is_of_content {
            of_content.or_else(|| entry.disk_format.clone())
        } else {
            entry.disk_format.clone()
        },
        container_format: entry
            .container_format
            .clone()
            .or_else(|| image.disk.as_ref().map(|_| NO_CONTAINER.to_owned())),
        min_disk_gb: entry.min_disk_gb,
        min_ram_mb: entry.min_ram_mb,
        tags: entry.tags.clone(),
        properties,
    }
}

pub(super) fn record(entry: &ImageEntry, now_us: i64) -> ImageRecord {
    let disk = entry.image.disk.as_ref();
    let status = entry.status_at(now_us);
    let active = matches!(status, ImageStatus::Active);
    let file_bytes = disk.map(|disk| disk.file_bytes).or(entry.file_bytes);
    ImageRecord {
        id: entry.image.id.to_string(),
        said: said(entry),
        status,
        file_bytes: file_bytes.filter(|_| active),
        virtual_bytes: disk.map(|disk| disk.virtual_bytes).filter(|_| active),
        md5: entry.md5.clone(),
        sha512: entry.sha512.clone(),
        created_us: entry.image.created_us,
        updated_us: entry.updated_us,
    }
}

/// Writes what is said into the row.
pub(super) fn say(entry: &mut ImageEntry, said: Said) -> Result<(), Fault> {
    let Said { mut properties, owner, .. } = said;
    let bad_owner = |owner: &String| Fault::new(400, format!("'{owner}' is no project ID."));
    entry.owner = owner.as_ref().map(|id| id.parse().map_err(|_| bad_owner(id))).transpose()?;
    entry.image.os_command_line = properties.remove(OS_COMMAND_LINE);
    entry.image.name = said.name.unwrap_or_default();
    entry.visibility = said.visibility;
    entry.protected = said.protected;
    entry.hidden = said.hidden;
    entry.disk_format = said.disk_format;
    entry.container_format = said.container_format;
    entry.min_disk_gb = said.min_disk_gb;
    entry.min_ram_mb = said.min_ram_mb;
    entry.tags = said.tags;
    entry.properties = properties;
    Ok(())
}

/// Without content, as it is before anything was said.
pub(super) fn empty(image: ImageRow) -> ImageEntry {
    let Said { visibility, protected, hidden, min_disk_gb, min_ram_mb, tags, properties, .. } = Said::default();
    ImageEntry {
        updated_us: image.created_us,
        image,
        owner: None,
        visibility,
        protected,
        hidden,
        status: ImageStatus::Queued,
        disk_format: None,
        container_format: None,
        file_bytes: None,
        md5: None,
        sha512: None,
        min_disk_gb,
        min_ram_mb,
        properties,
        tags,
        generation: 1,
        upload_until_us: None,
    }
}

/// An image that is made on somebody's behalf, without content as yet.
pub(crate) fn new_entry(image: ImageRow, said: Said) -> Result<ImageEntry, Fault> {
    let mut made = empty(image);
    say(&mut made, said)?;
    Ok(made)
}
