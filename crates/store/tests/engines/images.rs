//! Images as the Image API shares them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AnyPool;
use whimbrel_core::{
    disk::DiskFormat,
    id::{ImageDigest, ImageId},
    image::{ImageStatus, Visibility},
};
use whimbrel_store::{ImageDisk, ImageEntry, ImageRow, ImageUpload, PageAsk, UploadedContent};

use crate::{
    books::{assert_conflict, assert_not_found},
    fixture::{Database, NOW_US, uuid},
};

fn digest() -> ImageDigest {
    "ab".repeat(32).parse().unwrap()
}

fn row(number: u128) -> ImageRow {
    ImageRow {
        id: ImageId(uuid(number)),
        name: "debian".to_owned(),
        os_command_line: Some("quiet".to_owned()),
        disk: None,
        kernel: None,
        ramdisk: None,
        created_us: NOW_US,
    }
}

fn entry(number: u128) -> ImageEntry {
    ImageEntry {
        image: row(number),
        owner: Some("p1".parse().unwrap()),
        visibility: Visibility::Shared,
        protected: false,
        hidden: true,
        status: ImageStatus::Queued,
        disk_format: Some("qcow2".to_owned()),
        container_format: Some("bare".to_owned()),
        file_bytes: None,
        md5: None,
        sha512: None,
        min_disk_gb: 3,
        min_ram_mb: 64,
        properties: BTreeMap::from([("a".to_owned(), "it's \u{fc}".to_owned())]),
        tags: BTreeSet::from(["x".to_owned(), "y".to_owned()]),
        generation: 1,
        updated_us: NOW_US,
        upload_until_us: None,
    }
}

fn disk() -> ImageDisk {
    ImageDisk { digest: digest(), format: DiskFormat::Qcow2, file_bytes: 1 << 40, virtual_bytes: 1 << 41 }
}

pub async fn say_more_than_content(database: Database) {
    let store = database.store().await;
    let whole = ImageEntry {
        status: ImageStatus::Active,
        file_bytes: Some(1 << 40),
        md5: Some("m".to_owned()),
        sha512: Some("s".to_owned()),
        protected: true,
        image: ImageRow { disk: Some(disk()), ..row(1) },
        ..entry(1)
    };
    store.create_image_entry(&whole).await.unwrap();
    assert_conflict(store.create_image_entry(&whole).await, "exists already");
    assert_eq!(store.image_entry(whole.image.id).await.unwrap(), whole);
    assert_eq!(store.image("debian").await.unwrap(), whole.image);
    let nobodys = ImageEntry { owner: None, disk_format: None, container_format: None, ..entry(2) };
    store.create_image_entry(&nobodys).await.unwrap();
    let listed = store.list_image_entries(&PageAsk::default()).await.unwrap().items;
    assert_eq!(listed, [whole.clone(), nobodys.clone()]);
    assert_conflict(store.delete_image(whole.image.id).await, "is protected");
    assert_not_found(store.image_entry(ImageId(uuid(9))).await, "image", &uuid(9).to_string());

    let changed = ImageEntry {
        image: ImageRow { name: "d12".to_owned(), os_command_line: None, ..nobodys.image.clone() },
        owner: Some("p2".parse().unwrap()),
        visibility: Visibility::Public,
        protected: true,
        hidden: false,
        disk_format: Some("raw".to_owned()),
        container_format: Some("ami".to_owned()),
        min_disk_gb: 0,
        min_ram_mb: 1,
        properties: BTreeMap::new(),
        tags: BTreeSet::new(),
        ..nobodys.clone()
    };
    store.change_image(&changed, NOW_US + 1).await.unwrap();
    let want = ImageEntry { generation: 2, updated_us: NOW_US + 1, ..changed.clone() };
    assert_eq!(store.image_entry(changed.image.id).await.unwrap(), want);
    assert_conflict(store.change_image(&changed, NOW_US + 2).await, "was changed by another meanwhile");
    assert_eq!(store.image_entry(changed.image.id).await.unwrap(), want);
    store.change_image(&ImageEntry { protected: false, ..want }, NOW_US + 3).await.unwrap();
    store.delete_image(changed.image.id).await.unwrap();
    assert_not_found(store.change_image(&changed, NOW_US).await, "image", &changed.image.id.to_string());
}

pub async fn of_the_native_api_are_nobodys_and_public(database: Database) {
    let store = database.store().await;
    store.create_image(&row(1)).await.unwrap();
    let made = store.image_entry(row(1).id).await.unwrap();
    assert_eq!((made.owner.clone(), made.visibility, made.status), (None, Visibility::Public, ImageStatus::Queued));
    assert_eq!((made.updated_us, made.protected, made.hidden, made.generation), (NOW_US, false, false, 1));
    assert!(made.properties.is_empty() && made.tags.is_empty() && made.disk_format.is_none());
    store.set_image_parts(row(1).id, None, Some(&digest()), None, NOW_US + 1).await.unwrap();
    assert_eq!(store.image_entry(row(1).id).await.unwrap().status, ImageStatus::Queued, "a kernel alone is no image");
    store.set_image_parts(row(1).id, Some(&disk()), None, None, NOW_US + 2).await.unwrap();
    let whole = store.image_entry(row(1).id).await.unwrap();
    assert_eq!((whole.status, whole.updated_us, whole.generation), (ImageStatus::Active, NOW_US + 2, 3));
    assert_eq!((whole.image.disk, whole.image.kernel), (Some(disk()), Some(digest())));
    store.create_image(&ImageRow { disk: Some(disk()), ..row(2) }).await.unwrap();
    assert_eq!(store.image_entry(row(2).id).await.unwrap().status, ImageStatus::Active);

    // A row of a version before this schema: what the migration's defaults make of it.
    let pool = AnyPool::connect(&database.url).await.unwrap();
    let id = uuid(3).to_string();
    sqlx::query("INSERT INTO images (id, name, created_us) VALUES ($1, 'old', 7)")
        .bind(&id)
        .execute(&pool)
        .await
        .unwrap();
    let old = store.image_entry(ImageId(uuid(3))).await.unwrap();
    assert_eq!((old.visibility, old.status, old.generation), (Visibility::Public, ImageStatus::Queued, 1));
    pool.close().await;
}

pub async fn an_upload_ends_once(database: Database) {
    let store = database.store().await;
    store.create_image_entry(&entry(1)).await.unwrap();
    let id = entry(1).image.id;
    let upload = |key: &str, until_us| ImageUpload { image: id, key: key.to_owned(), until_us };
    let (one, other) = (upload("one", NOW_US + 100), upload("other", NOW_US + 200));
    let begin =
        async |upload: &ImageUpload, generation, now_us| store.begin_image_upload(upload, generation, now_us).await;
    let status = async |now_us| store.image_entry(id).await.unwrap().status_at(now_us);

    assert_conflict(begin(&one, 7, NOW_US).await, "was changed by another meanwhile");
    let both = tokio::join!(begin(&one, 1, NOW_US), begin(&other, 1, NOW_US));
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|&&done| done).count(), 1, "{both:?}");
    let (one, other) = if both.0.is_ok() { (one, other) } else { (other, one) };
    let generation = store.image_entry(id).await.unwrap().generation;
    assert_conflict(begin(&other, generation, NOW_US + 1).await, "is being uploaded already");
    assert_eq!(
        (status(one.until_us).await, status(one.until_us + 1).await),
        (ImageStatus::Saving, ImageStatus::Queued)
    );
    assert_not_found(store.renew_image_upload(&other).await, "image", &id.to_string());
    let one = ImageUpload { until_us: NOW_US + 900, ..one };
    store.renew_image_upload(&one).await.unwrap();
    assert_eq!(status(NOW_US + 900).await, ImageStatus::Saving);

    let content = UploadedContent {
        disk: Some(disk()),
        file_bytes: 1 << 40,
        md5: "m".to_owned(),
        sha512: "s".to_owned(),
        ..UploadedContent::default()
    };
    assert_not_found(store.finish_image_upload(&other, &content, NOW_US).await, "image", &id.to_string());
    store.abandon_image_upload(&other, NOW_US).await.unwrap();
    assert_eq!(status(NOW_US).await, ImageStatus::Saving, "another's upload was abandoned");
    store.abandon_image_upload(&one, NOW_US).await.unwrap();
    assert_eq!(status(NOW_US).await, ImageStatus::Queued);

    // A controller that died says nothing more: the next upload takes over, and the dead one's end is none.
    let generation = store.image_entry(id).await.unwrap().generation;
    begin(&one, generation, NOW_US).await.unwrap();
    begin(&other, generation + 1, one.until_us + 1).await.unwrap();
    assert_not_found(store.finish_image_upload(&one, &content, NOW_US).await, "image", &id.to_string());
    store.finish_image_upload(&other, &content, NOW_US + 5).await.unwrap();
    let whole = store.image_entry(id).await.unwrap();
    assert_eq!((whole.status, whole.image.disk, whole.file_bytes), (ImageStatus::Active, Some(disk()), Some(1 << 40)));
    assert_eq!((whole.md5.as_deref(), whole.sha512.as_deref()), (Some("m"), Some("s")));
    assert_eq!((whole.updated_us, whole.upload_until_us), (NOW_US + 5, None));
    assert_conflict(begin(&other, whole.generation, NOW_US + 6).await, "has content already");
    store.abandon_image_upload(&other, NOW_US).await.unwrap();
    assert_eq!(status(NOW_US).await, ImageStatus::Active, "content was taken away");

    // The native API gives another disk: the sums of the old one are none of it.
    store.set_image_parts(id, Some(&disk()), None, None, NOW_US + 6).await.unwrap();
    let replaced = store.image_entry(id).await.unwrap();
    assert_eq!((replaced.md5, replaced.sha512, replaced.file_bytes), (None, None, None));
}
