//! The road itself: a working guest with three disks goes to another host and comes home by what changed.

use std::time::Duration;

use whimbrel_api::{disk::CopyMode, receipt::Receipt};
use whimbrel_lab::{Lab, image::BootLine, lab::QemuKind, peer::Rates};

use crate::harness::{options, turn, up};

const TASK_TIME_MAX: Duration = Duration::from_secs(120);
const GUEST: &str = "traveller";
const WORKING: Rates = Rates { write_bps: 5_000_000, fsync_hz: 20, ram_bps: 2_000_000 };

async fn go(lab: &Lab, target: &str) -> Receipt {
    let json = lab.cli(&["move", GUEST, target, "--json"]).await.unwrap().expect_json().unwrap();
    serde_json::from_value(json).unwrap()
}

fn sent_bytes(receipt: &Receipt) -> u64 {
    receipt.disks.iter().map(|disk| disk.sent_bytes).sum()
}

#[tokio::test]
async fn a_working_guest_goes_there_and_comes_back() {
    let _turn = turn();
    let mut lab = up(options(2)).await;
    let line = BootLine { name: GUEST.to_owned(), rates: WORKING, ..BootLine::default() };
    lab.boot_guest(Some("h1"), line).await.unwrap();

    let there = go(&lab, "h2").await;
    assert_eq!((there.mode, there.disks.len()), (CopyMode::Full, 3), "{there:?}");
    assert!(there.disks.iter().all(|disk| disk.verified), "{there:?}");
    assert_eq!(lab.qemus("h1", QemuKind::System).unwrap(), [], "nothing runs on the source any more");
    assert_eq!(lab.qemus("h2", QemuKind::System).unwrap().len(), 1);
    assert_eq!(lab.qemus("h2", QemuKind::StorageDaemon).unwrap(), []);

    let back = go(&lab, "h1").await;
    assert_eq!((back.mode, back.epoch), (CopyMode::Delta, there.epoch.next()), "{back:?}");
    assert!(sent_bytes(&back) < sent_bytes(&there) / 2, "{back:?}");

    let verdict = lab.peer_of(GUEST).await.unwrap().verify(TASK_TIME_MAX, false).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    assert!(verdict.acked_writes > 0 && verdict.lost_writes == 0, "{verdict:?}");
    assert_eq!(lab.qemus("h2", QemuKind::System).unwrap(), []);
    lab.down().unwrap();
}
