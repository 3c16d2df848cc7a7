//! Config drives: made with a server, named by it, gone with it.

use std::path::PathBuf;

use whimbrel_api::native::{NewServer, Server, ServerStatus};
use whimbrel_core::{
    disk::DiskFormat,
    failure::{Failure, FailureCode},
};

use crate::place::{Place, until};

const USER_DATA: &str = "#!/bin/sh\necho hello from the drive\n";
const USER_DATA_BASE64: &str = "IyEvYmluL3NoCmVjaG8gaGVsbG8gZnJvbSB0aGUgZHJpdmUK";
/// Of the label in an ISO 9660 volume.
const LABEL: std::ops::Range<usize> = 16 * 2048 + 40..16 * 2048 + 48;

struct Ground {
    place: Place,
    _agent: std::sync::Arc<crate::fake_agent::FakeAgent>,
}

impl Ground {
    async fn new() -> Ground {
        let place = Place::new().await;
        let agent = place.host("h1").await;
        place.image("debian", &[0; 4096]).await.unwrap();
        place.flavor("small", 512, 1).await;
        place.flavor("vast", 1 << 20, 1).await;
        Ground { place, _agent: agent }
    }

    async fn create(&self, change: impl FnOnce(&mut NewServer)) -> Result<Server, Failure> {
        let mut new = NewServer {
            name: "Web 1".to_owned(),
            flavor: "small".to_owned(),
            image: "debian".to_owned(),
            host: None,
            networks: Vec::new(),
            os_command_line: None,
            iothreads: false,
            machine: None,
            config_drive: false,
            user_data: None,
        };
        change(&mut new);
        self.place.client.create_server(&new).await
    }

    fn blobs(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.place.dir.path().join("blobs")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn a_drive_is_a_servers_last_disk_and_goes_with_it() {
    let ground = Ground::new().await;
    let plain = ground.create(|new| new.name = "plain".to_owned()).await.unwrap();
    assert_eq!(plain.spec.disks.len(), 3);
    assert!(plain.spec.disks.iter().all(|disk| !disk.read_only));
    assert_eq!(ground.blobs().len(), 1, "only the image's");

    let server = ground.create(|new| new.user_data = Some(USER_DATA_BASE64.to_owned())).await.unwrap();
    let names: Vec<_> = server.spec.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["root", "ephemeral0", "swap", "config"]);
    let drive = &server.spec.disks[3];
    assert!(drive.read_only && drive.format == DiskFormat::Raw && drive.virtual_bytes == 1 << 20, "{drive:?}");
    let base = drive.base.as_ref().unwrap();
    let blob = ground.place.dir.path().join("blobs").join(base.digest.as_str());
    let content = std::fs::read(&blob).unwrap();
    assert_eq!(content.len() as u64, base.file_bytes);
    assert_eq!(content[LABEL], *b"config-2");
    let holds = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(USER_DATA) && holds(&server.id.to_string()) && holds(r#""hostname":"web-1""#));

    // Another one of the same wishes has a drive of its own.
    let other = ground.create(|new| (new.name, new.config_drive) = ("other".to_owned(), true)).await.unwrap();
    let other_base = other.spec.disks[3].base.as_ref().unwrap();
    assert_ne!(other_base.digest, base.digest);
    assert_eq!(ground.blobs().len(), 3);

    ground.place.server_is("Web 1", ServerStatus::Active).await;
    ground.place.client.delete_server("Web 1").await.unwrap();
    until("the server to be gone", async || ground.place.client.server("Web 1").await.err()).await;
    assert!(!blob.exists(), "the drive is still here");
    assert_eq!(ground.blobs().len(), 2, "somebody else's content went");
}

#[tokio::test]
async fn what_is_refused_leaves_no_drive() {
    let ground = Ground::new().await;
    let check = async |change: &dyn Fn(&mut NewServer), code: FailureCode, part: &str| {
        let failure = ground.create(change).await.unwrap_err();
        assert!(failure.code == code && failure.detail.contains(part) && failure.hint.is_some(), "{failure:?}");
        assert_eq!(ground.blobs().len(), 1, "{part}");
    };
    check(&|new| new.user_data = Some("no base64!".to_owned()), FailureCode::BadRequest, "base64").await;
    check(&|new| new.user_data = Some("A".repeat(65_536)), FailureCode::BadRequest, "65536 bytes").await;
    let too_large = |new: &mut NewServer| (new.flavor, new.config_drive) = ("vast".to_owned(), true);
    check(&too_large, FailureCode::NoRam, "RAM").await;
}
