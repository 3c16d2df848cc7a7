//! Flavors and images, with content that streams.

use whimbrel_api::native::{ImagePart, NewImage};
use whimbrel_core::failure::FailureCode;

use crate::place::Place;

#[tokio::test]
async fn flavors_come_and_go() {
    let place = Place::new().await;
    place.flavor("m1.small", 512, 10).await;
    place.flavor("m1.large", 4096, 40).await;
    let all = place.client.flavors().await.unwrap();
    assert_eq!(all.iter().map(|flavor| flavor.flavor.name.as_str()).collect::<Vec<_>>(), ["m1.small", "m1.large"]);
    let by_id = place.client.flavor(&all[0].id.to_string()).await.unwrap();
    assert_eq!(by_id, all[0]);
    place.client.delete_flavor("m1.small").await.unwrap();
    let gone = place.client.flavor("m1.small").await.unwrap_err();
    assert_eq!(gone.code, FailureCode::NotFound);
    assert!(gone.detail.contains("flavors are m1.large"), "{gone}");
}

/// A cancelled move left part of the guest's kernel behind on its target.
#[tokio::test]
async fn a_download_that_nobody_waits_for_leaves_nothing() {
    let place = Place::new().await;
    let digest = place.image("debian", &vec![7; 8 << 20]).await.unwrap().disk.unwrap().digest;
    let dir = place.dir.path().join("images");
    let to = dir.join("it");
    std::fs::create_dir(&dir).unwrap();
    let files = || std::fs::read_dir(&dir).unwrap().count();
    let began = async {
        while files() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = began => {}
        done = place.client.download_blob(&digest, &to) => panic!("it ended: {done:?}"),
    }
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn content_goes_up_and_comes_down_by_its_digest() {
    let place = Place::new().await;
    let content: Vec<u8> = (0..3_000_000_u32 / 512 * 512).map(|at| (at % 251) as u8).collect();
    let image = place.image("debian 12/cloud", &content).await.unwrap();
    let disk = image.disk.unwrap();
    assert_eq!(disk.file_bytes, content.len() as u64);
    assert_eq!(disk.virtual_bytes, content.len() as u64);
    assert_eq!(disk.digest.as_str(), blake3::hash(&content).to_hex().as_str());
    let to = place.dir.path().join("down");
    assert_eq!(place.client.download_blob(&disk.digest, &to).await.unwrap(), content.len() as u64);
    assert!(std::fs::read(&to).unwrap() == content);
    // Content that is there already needs no upload.
    let new = NewImage {
        name: "again".to_owned(),
        os_command_line: None,
        disk: Some(disk.digest.clone()),
        kernel: None,
        ramdisk: None,
    };
    assert_eq!(place.client.create_image(&new).await.unwrap().disk.unwrap().digest, disk.digest);
    let file = place.dir.path().join("initrd");
    std::fs::write(&file, b"070701 and so on").unwrap();
    let image = place.client.upload_image("again", ImagePart::Ramdisk, &file).await.unwrap();
    assert!(image.ramdisk.is_some() && image.disk.is_some() && image.kernel.is_none());
    let refused = place.client.upload_image("again", ImagePart::Kernel, &file).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::BadImage);
}
