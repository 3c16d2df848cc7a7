//! What breaks before COMMIT: the guest goes on at the source, nothing is left on the target, and a retry works.

use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel_lab::{Lab, image::BootLine, lab::QemuKind, net::LinkRate, peer::Rates, wait};

use crate::harness::{guest_runs_at, options, turn, up};

const GUEST: &str = "guest";
const PHASE_TIME_MAX: Duration = Duration::from_secs(90);
const END_TIME_MAX: Duration = Duration::from_secs(60);
const CLEAN_TIME_MAX: Duration = Duration::from_secs(30);
const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);
/// Slow enough that each phase can be met: RAM alone takes seconds.
const SLOW: &str = "200mbit";

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cancel,
    TargetAgent,
    TargetQemu,
    StorageDaemon,
}

/// A phase is met when the migration's step says these words.
const FIRST_ROUND: &str = "round 0";
const RAM: &str = "RAM, and the rounds";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_before_commit_the_guest_goes_on_at_the_source() {
    let _turn = turn();
    let mut lab = up(options(2)).await;
    // Both hosts have the base image, so that the RAM phase comes soon on a slow link.
    let rates = Rates { write_bps: 1_000_000, fsync_hz: 10, ram_bps: 500_000 };
    let line = BootLine { name: GUEST.into(), rates, ..BootLine::default() };
    lab.boot_guest(Some("h1"), line).await.unwrap();
    for (phase, fault) in [
        ("", Fault::Cancel),
        (FIRST_ROUND, Fault::Cancel),
        (FIRST_ROUND, Fault::StorageDaemon),
        (FIRST_ROUND, Fault::TargetAgent),
    ] {
        check(&mut lab, phase, fault).await;
    }
    // From here on little is left to copy, and RAM is what takes long.
    lab.shape(LinkRate::UNSHAPED).unwrap();
    lab.cli(&["move", GUEST, "h2"]).await.unwrap();
    lab.cli(&["move", GUEST, "h1"]).await.unwrap();
    guest_runs_at(&lab, GUEST, "h1").await;
    for (phase, fault) in [(RAM, Fault::Cancel), (RAM, Fault::TargetQemu), (RAM, Fault::TargetAgent)] {
        check(&mut lab, phase, fault).await;
    }
    lab.shape(LinkRate::UNSHAPED).unwrap();
    let receipt = lab.cli(&["move", GUEST, "h2", "--json"]).await.unwrap().expect_json().unwrap();
    assert_eq!(receipt["mode"], "delta", "an aborted move loses nothing of the bitmap: {receipt}");
    let verdict = lab.peer_of(GUEST).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    lab.down().unwrap();
}

async fn check(lab: &mut Lab, phase: &str, fault: Fault) {
    lab.shape(SLOW.parse().unwrap()).unwrap();
    let before = left_on_target(lab);
    let id = lab.cli(&["move", GUEST, "h2", "--detach", "--json"]).await.unwrap().expect_json().unwrap();
    let id = id["id"].as_str().unwrap().to_owned();
    meet(lab, &id, phase).await;
    match fault {
        Fault::Cancel => assert!(lab.cli(&["migration", "cancel", &id]).await.unwrap().ok),
        Fault::TargetAgent => lab.restart_agent("h2").await.unwrap(),
        Fault::TargetQemu => assert_eq!(lab.kill_qemu("h2", QemuKind::System).unwrap(), 1),
        Fault::StorageDaemon => assert_eq!(lab.kill_qemu("h2", QemuKind::StorageDaemon).unwrap(), 1),
    }
    let ended = ended(lab, &id).await;
    let context = format!("{phase} {fault:?}: {ended}");
    match fault {
        Fault::Cancel => assert_eq!(ended["status"], "cancelled", "{context}"),
        Fault::TargetAgent | Fault::TargetQemu | Fault::StorageDaemon => {
            assert_eq!(ended["status"], "failed", "{context}");
            assert!(!ended["failure"]["detail"].as_str().unwrap().is_empty(), "{context}");
        }
    }
    assert_eq!(ended["guest_at"], "h1", "{context}");
    guest_runs_at(lab, GUEST, "h1").await;
    goes_on(lab).await;
    let clean = async || Ok((left_on_target(lab) == before).then_some(()));
    if let Err(error) = wait::until_async("a clean target", CLEAN_TIME_MAX, clean).await {
        panic!("{context}: {error:#}: {:?} where {before:?} was before", left_on_target(lab));
    }
}

async fn meet(lab: &Lab, id: &str, phase: &str) {
    let begun = Instant::now();
    loop {
        let migration = show(lab, id).await;
        let step = migration["step"].as_str().unwrap_or_default();
        if step.contains(phase) {
            return;
        }
        assert!(migration["finished_us"].is_null(), "the phase '{phase}' was missed: {migration}");
        assert!(begun.elapsed() < PHASE_TIME_MAX, "the phase '{phase}' does not come: {migration}");
    }
}

async fn show(lab: &Lab, id: &str) -> Value {
    lab.cli(&["migration", "show", id, "--json"]).await.unwrap().expect_json().unwrap()
}

async fn ended(lab: &Lab, id: &str) -> Value {
    let end = async || Ok(Some(show(lab, id).await).filter(|migration| !migration["finished_us"].is_null()));
    wait::until_async("the migration's end", END_TIME_MAX, end).await.unwrap()
}

/// The guest's heartbeats rise.
async fn goes_on(lab: &Lab) {
    let before = lab.guest_status(GUEST).await.unwrap();
    let more = async || {
        let now = lab.guest_status(GUEST).await?;
        assert!(now.tcp_survived, "{now:?}");
        Ok((now.beats > before.beats + 5 && now.acked_writes > before.acked_writes).then_some(()))
    };
    wait::until_async("more of the guest", CLEAN_TIME_MAX, more).await.unwrap();
}

/// Everything on the target host that a move could have left.
fn left_on_target(lab: &Lab) -> Vec<String> {
    let host = lab.site().host("h2").unwrap();
    let mut left = Vec::new();
    for dir in ["incoming", "instances", "retired"] {
        let entries = std::fs::read_dir(host.dir.join("state").join(dir)).into_iter().flatten();
        left.extend(entries.map(|entry| format!("{dir}/{}", entry.unwrap().file_name().display())));
    }
    for kind in [QemuKind::System, QemuKind::StorageDaemon] {
        left.extend(lab.qemus("h2", kind).unwrap().iter().map(|_| format!("{kind:?}")));
    }
    left.sort();
    left
}
