//! What a server boots from: an image's disk, and a kernel and ramdisk that may be images of their own.
//!
//! ```text
//! ami {kernel_id, ramdisk_id, os_command_line} --kernel_id--> aki (its kernel)
//!                                              --ramdisk_id-> ari (its ramdisk)
//! image of the native API: all three in one row
//! ```

use uuid::Uuid;
use whimbrel_api::openstack::image::fields::{KERNEL_ID, RAMDISK_ID};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{ImageDigest, ImageId},
};
use whimbrel_store::{ImageEntry, ImageRow, StoreError};

use crate::{answer::failure_of, app::App};

/// The same entry, with the parts of the images that it names in its own row. `sees` says whether whoever makes the server
/// may use another image.
pub(crate) async fn bootable(
    app: &App,
    mut entry: ImageEntry,
    sees: impl Fn(&ImageEntry) -> bool,
) -> Result<ImageEntry, Failure> {
    if entry.image.kernel.is_none() {
        entry.image.kernel = part(app, &entry, KERNEL_ID, |row| row.kernel, &sees).await?;
    }
    if entry.image.ramdisk.is_none() {
        entry.image.ramdisk = part(app, &entry, RAMDISK_ID, |row| row.ramdisk, &sees).await?;
    }
    if entry.image.ramdisk.is_some() && entry.image.kernel.is_none() {
        let detail = format!("image '{}' has a ramdisk and no kernel", entry.image.id);
        return Err(Failure::new(FailureCode::BadImage, detail).hint(format!("set its property {KERNEL_ID}")));
    }
    Ok(entry)
}

async fn part(
    app: &App,
    of: &ImageEntry,
    property: &str,
    digest: impl Fn(ImageRow) -> Option<ImageDigest>,
    sees: &impl Fn(&ImageEntry) -> bool,
) -> Result<Option<ImageDigest>, Failure> {
    let Some(named) = of.properties.get(property).filter(|named| !named.is_empty()) else { return Ok(None) };
    let bad = |why: &str| {
        let detail = format!("image '{}' names image '{named}' as its {property}, {why}", of.image.id);
        Failure::new(FailureCode::BadImage, detail)
            .hint(format!("set {property} to the ID of an active image that is one"))
    };
    let id = Uuid::parse_str(named).map_err(|_| bad("which is no ID"))?;
    let found = match app.store.image_entry(ImageId(id)).await {
        Err(StoreError::NotFound { .. }) => return Err(bad("which is not there")),
        other => other.map_err(failure_of)?,
    };
    if !sees(&found) {
        return Err(bad("which is not there"));
    }
    digest(found.image).map(Some).ok_or_else(|| bad("which has no such content"))
}
