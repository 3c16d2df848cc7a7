//! A config drive on the road: the guest finds it by its label, reads its files by their names, and has the same bytes after
//! every move, on either QEMU as source and as target.

use std::time::Duration;

use serde_json::Value;
use whimbrel_api::native::{NewServer, Server};
use whimbrel_lab::{
    Lab,
    image::BootLine,
    net::GUEST_BRIDGE,
    peer::{Rates, ReadOnlyDisk},
};

use crate::harness::{guest_runs_at, options, turn, up};

const GUEST: &str = "guest";
const PREFIX: u8 = 24;
const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);
const USER_DATA: &str = "#!/bin/sh\necho hello from the drive\n";
const USER_DATA_BASE64: &str = "IyEvYmluL3NoCmVjaG8gaGVsbG8gZnJvbSB0aGUgZHJpdmUK";

#[tokio::test(flavor = "multi_thread")]
async fn a_config_drive_arrives_whole_and_stays_read_only() {
    let _turn = turn();
    let mut lab = up(options(2).host_with_next_qemu("h2").unwrap()).await;
    let server = boot(&mut lab).await;
    let digest = &server.spec.disks.last().unwrap().base.as_ref().unwrap().digest;
    for (host, mode, epoch) in [("h1", None, 1), ("h2", Some("full"), 2), ("h1", Some("delta"), 3)] {
        if let Some(mode) = mode {
            let receipt = lab.cli(&["move", GUEST, host, "--json"]).await.unwrap().expect_json().unwrap();
            assert_eq!((receipt["mode"].as_str(), receipt["epoch"].as_u64()), (Some(mode), Some(epoch)), "{receipt}");
            check_receipt(&receipt, mode);
        }
        guest_runs_at(&lab, GUEST, host).await;
        let dir = lab.site().host(host).unwrap().dir.join("state");
        let content = fs_err::read(dir.join("instances").join(server.id.to_string()).join("config.raw")).unwrap();
        assert!(content.iter().any(|byte| *byte != 0), "the drive on {host} is empty");
        check_in_guest(&lab, &content).await;
        let image = dir.join("images").join(digest.as_str());
        assert!(!image.exists(), "{host} keeps the drive's image beside the drive");
    }
    lab.down().unwrap();
}

async fn boot(lab: &mut Lab) -> Server {
    let guest = lab.start_peer(GUEST).await.unwrap();
    let line = BootLine {
        name: GUEST.into(),
        ip: Some((guest.address, PREFIX)),
        peer: Some(guest.peer),
        rates: Rates { write_bps: 1_000_000, fsync_hz: 10, ram_bps: 1_000_000 },
        ..BootLine::default()
    };
    let new = NewServer {
        name: GUEST.into(),
        flavor: "med".into(),
        image: "guest".into(),
        host: Some("h1".into()),
        networks: vec![GUEST_BRIDGE.into()],
        os_command_line: Some(line.to_string()),
        iothreads: false,
        machine: None,
        config_drive: true,
        user_data: Some(USER_DATA_BASE64.into()),
    };
    lab.boot(&new, &guest).await.unwrap()
}

fn check_receipt(receipt: &Value, mode: &str) {
    let disks = receipt["disks"].as_array().unwrap();
    let drive = disks.iter().find(|disk| disk["name"] == "config").unwrap();
    assert_eq!(drive["verified"], true, "{receipt}");
    let sent = drive["sent_bytes"].as_u64().unwrap();
    assert_eq!(sent > 0, mode == "full", "nobody wrote to it, so it need not come back: {receipt}");
}

/// What the guest reads of its drive is what the host's file holds.
async fn check_in_guest(lab: &Lab, content: &[u8]) {
    let verdict = lab.peer_of(GUEST).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    let [drive] = verdict.read_only_disks.as_slice() else { panic!("one read-only disk was due: {verdict:?}") };
    let ReadOnlyDisk { device, label, bytes, digest, files } = drive;
    assert_eq!((device.as_str(), label.as_str(), *bytes), ("vdd", "config-2", content.len() as u64));
    assert_eq!(*digest, blake3::hash(content).to_hex().to_string(), "the guest reads other bytes");
    let file = |path: &str| files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}: {files:?}"));
    for version in ["2012-08-10", "2018-08-27", "latest"] {
        let user_data = file(&format!("openstack/{version}/user_data"));
        assert_eq!(user_data.digest, blake3::hash(USER_DATA.as_bytes()).to_hex().to_string());
        file(&format!("openstack/{version}/meta_data.json"));
    }
    file("ec2/latest/meta-data.json");
}
