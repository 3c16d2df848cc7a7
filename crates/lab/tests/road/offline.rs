//! A guest that is off moves as one that runs does: its disks by the same rounds, verified, and back by what changed.

use std::time::Duration;

use serde_json::Value;
use whimbrel_lab::{Lab, image::BootLine, lab::QemuKind, peer::Rates, wait};

use crate::harness::{options, turn, up};

const STATE_TIME_MAX: Duration = Duration::from_secs(60);
const GUEST: &str = "guest";

async fn server(lab: &Lab) -> Value {
    lab.cli(&["server", "show", GUEST, "--json"]).await.unwrap().expect_json().unwrap()
}

async fn is(lab: &Lab, status: &str, host: &str) {
    let so = async || {
        let shown = server(lab).await;
        Ok((shown["status"] == status && shown["host"] == host).then_some(()))
    };
    wait::until_async(&format!("{GUEST} {status} at {host}"), STATE_TIME_MAX, so).await.unwrap();
}

async fn travel(lab: &Lab, host: &str) -> Value {
    lab.cli(&["move", GUEST, host, "--json"]).await.unwrap().expect_json().unwrap()
}

fn check(receipt: &Value, mode: &str, sent_max: u64) {
    assert_eq!((&receipt["mode"], &receipt["downtime_ms"]), (&mode.into(), &0.0.into()), "{receipt}");
    let disks = receipt["disks"].as_array().unwrap();
    assert!(disks.len() == 3 && disks.iter().all(|disk| disk["verified"] == true), "{receipt}");
    let sent: u64 = disks.iter().map(|disk| disk["sent_bytes"].as_u64().unwrap()).sum();
    assert!(sent <= sent_max, "{receipt}");
    assert!(receipt["ram"]["sent_bytes"].as_u64().unwrap() < 16 << 20, "the RAM of a guest that is off: {receipt}");
}

/// No QEMU is left anywhere.
fn none_runs(lab: &Lab) {
    for host in ["h1", "h2"] {
        assert!(lab.qemus(host, QemuKind::System).unwrap().is_empty(), "a QEMU runs on {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_off_moves_and_comes_back_by_its_delta() {
    let _turn = turn();
    for next_qemu in [false, true] {
        let plain = options(2);
        let mut lab = up(if next_qemu { plain.host_with_next_qemu("h2").unwrap() } else { plain }).await;
        let rates = Rates { write_bps: 4_000_000, fsync_hz: 20, ram_bps: 1_000_000 };
        lab.boot_guest(Some("h1"), BootLine { name: GUEST.into(), rates, ..BootLine::default() }).await.unwrap();
        let asked = lab.cli(&["server", "stop", GUEST]).await.unwrap();
        assert!(asked.ok, "{asked:?}");
        is(&lab, "stopped", "h1").await;
        none_runs(&lab);
        check(&travel(&lab, "h2").await, "full", 2 << 30);
        is(&lab, "stopped", "h2").await;
        none_runs(&lab);
        check(&travel(&lab, "h1").await, "delta", 0);
        is(&lab, "stopped", "h1").await;
        check(&travel(&lab, "h2").await, "delta", 0);
        // It runs where it is, and goes home by what it wrote there.
        let asked = lab.cli(&["server", "start", GUEST]).await.unwrap();
        assert!(asked.ok, "{asked:?}");
        is(&lab, "active", "h2").await;
        let back = travel(&lab, "h1").await;
        assert_eq!(back["mode"], "delta", "{back}");
        is(&lab, "active", "h1").await;
        lab.down().unwrap();
    }
}
