//! What breaks before COMMIT: the guest goes on at the source, nothing is left on the target, and a retry works.
//!
//! Ground rules: a fault strikes while the move is held at its place, so it meets that phase and no other. Where the held
//! side is the one that must hear of the fault, it is held until the move has ended; where only its next step can show
//! what broke, it is let go after the fault. Every move after a fault is a retry of the one that it ended.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use whimbrel_lab::{
    Lab,
    image::BootLine,
    lab::{QemuKind, hold::Place},
    net::{LinkChange, LinkRate, Network},
    peer::Rates,
    wait,
};

use crate::harness::{guest_runs_at, options, turn, up};

const GUEST: &str = "guest";
const PLACE_TIME_MAX: Duration = Duration::from_secs(50);
const SAID_TIME_MAX: Duration = Duration::from_secs(10);
const END_TIME_MAX: Duration = Duration::from_secs(60);
const CLEAN_TIME_MAX: Duration = Duration::from_secs(30);
const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);
/// Slow enough that QEMU does not find by itself that all of RAM is over while the move is held.
const SLOW: &str = "1gbit";
const BEATS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cancel,
    /// Killed, and started again at once.
    TargetAgent,
    /// Killed, and started again when the source has gone back to where it was.
    TargetAgentForLong,
    TargetQemu,
    StorageDaemon,
    /// Cut at the target, and healed when the migration has ended.
    LinkCut,
}

use Fault::{Cancel, LinkCut, StorageDaemon, TargetAgent, TargetAgentForLong, TargetQemu};
use Place::{Image, LastRound, MakingRoom, Owned, QemuStarts, Ram, RoundZero, StateSent};

/// Nothing of the guest is on the other host yet, and before round 0 not its base image either.
const AT_FIRST: [(Place, Fault); 9] = [
    (MakingRoom, Cancel),
    (MakingRoom, TargetAgent),
    (Image, Cancel),
    (Image, TargetAgent),
    (Image, TargetAgentForLong),
    (Image, LinkCut),
    (RoundZero, Cancel),
    (RoundZero, StorageDaemon),
    (RoundZero, TargetAgent),
];

/// The other host has a retained copy, which every fault must leave as one.
const WITH_RETAINED_COPY: [(Place, Fault); 19] = [
    (RoundZero, Cancel),
    (RoundZero, StorageDaemon),
    (RoundZero, TargetAgentForLong),
    (RoundZero, LinkCut),
    (QemuStarts, Cancel),
    (QemuStarts, TargetQemu),
    (QemuStarts, TargetAgent),
    (Ram, Cancel),
    (Ram, StorageDaemon),
    (Ram, TargetQemu),
    (Ram, TargetAgent),
    (Ram, LinkCut),
    (LastRound, Cancel),
    (LastRound, StorageDaemon),
    (LastRound, TargetQemu),
    (LastRound, TargetAgent),
    (StateSent, Cancel),
    (StateSent, TargetQemu),
    (StateSent, TargetAgent),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_before_commit_the_guest_goes_on_at_the_source() {
    let _turn = turn();
    let mut options = options(2);
    options.holds = true;
    let mut lab = up(options).await;
    let rates = Rates { write_bps: 1_000_000, fsync_hz: 10, ram_bps: 500_000 };
    let line = BootLine { name: GUEST.into(), rates, ..BootLine::default() };
    lab.boot_guest(Some("h1"), line).await.unwrap();
    for (place, fault) in AT_FIRST {
        check(&mut lab, place, fault).await;
    }
    lab.cli(&["move", GUEST, "h2"]).await.unwrap();
    lab.cli(&["move", GUEST, "h1"]).await.unwrap();
    guest_runs_at(&lab, GUEST, "h1").await;
    lab.shape(SLOW.parse().unwrap()).unwrap();
    for (place, fault) in WITH_RETAINED_COPY {
        check(&mut lab, place, fault).await;
    }
    lab.shape(LinkRate::UNSHAPED).unwrap();
    let receipt = owned_by_an_agent_that_dies(&mut lab).await;
    assert_eq!(receipt["mode"], "delta", "an aborted move loses nothing of the bitmap: {receipt}");
    guest_runs_at(&lab, GUEST, "h2").await;
    let verdict = lab.peer_of(GUEST).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    lab.down().unwrap();
}

/// After COMMIT there is no way back: an agent that dies with the guest in its hands lets it run when it is back. The receipt
/// of that move.
async fn owned_by_an_agent_that_dies(lab: &mut Lab) -> Value {
    let hold = lab.hold("h2", Owned).unwrap();
    let id = lab.cli(&["move", GUEST, "h2", "--detach", "--json"]).await.unwrap().expect_json().unwrap();
    let id = id["id"].as_str().unwrap().to_owned();
    hold.reached(PLACE_TIME_MAX).await.unwrap();
    let stopped = Instant::now();
    lab.kill_agent("h2").unwrap();
    // Too late, whatever the command says of it.
    let _ = lab.cli(&["migration", "cancel", &id]).await.unwrap();
    assert!(show(lab, &id).await["finished_us"].is_null(), "it ended although nobody runs the guest");
    drop(hold);
    let stopped_ms = stopped.elapsed().as_millis();
    lab.start_agent("h2").await.unwrap();
    let verified = async || Ok(Some(show(lab, &id).await).filter(|migration| migration["status"] == "completed"));
    let ended = wait::until_async("the moved disks to be verified", END_TIME_MAX, verified).await.unwrap();
    assert_eq!((&ended["verification"], &ended["guest_at"]), (&"equal".into(), &"h2".into()), "{ended}");
    let receipt = ended["receipt"].clone();
    assert!(receipt["downtime_ms"].as_f64().unwrap() >= stopped_ms as f64, "the downtime is told too short: {receipt}");
    assert!(receipt["wire_bytes"].as_u64() > receipt["ram"]["sent_bytes"].as_u64(), "{receipt}");
    assert!(receipt["cpu_seconds"]["target"].is_null(), "what died with the agent is invented: {receipt}");
    goes_on(lab).await;
    receipt
}

/// The host whose agent is held, and what the migration says of itself there; at the first place nobody has spoken yet.
fn of(place: Place) -> (&'static str, &'static str) {
    match place {
        MakingRoom => ("h2", ""),
        Image => ("h1", "base image"),
        RoundZero => ("h1", "round 0"),
        // Beside round 0 or after it.
        QemuStarts => ("h2", "round"),
        Ram => ("h1", "RAM"),
        LastRound | StateSent => ("h1", "switching over"),
        Owned => unreachable!("COMMIT is the end of what is tried here"),
    }
}

async fn check(lab: &mut Lab, place: Place, fault: Fault) {
    let context = format!("{place:?}, {fault:?}");
    let before = left_on_target(lab);
    let (host, words) = of(place);
    let hold = lab.hold(host, place).unwrap();
    let id = lab.cli(&["move", GUEST, "h2", "--detach", "--json"]).await.unwrap().expect_json().unwrap();
    let id = id["id"].as_str().unwrap().to_owned();
    hold.reached(PLACE_TIME_MAX).await.unwrap_or_else(|error| panic!("{context}: {error:#}"));
    says(lab, &id, words).await;
    assert!(hold.stands(), "{context}: the fault would strike elsewhere");
    strike(lab, &id, fault).await;
    let held_to_the_end = match fault {
        // Here the cancel is stored, but its asker still waits for the held answer to an earlier ask.
        Cancel => place != MakingRoom,
        // Only the next step of the held side meets the hole.
        StorageDaemon => false,
        TargetQemu => place != QemuStarts,
        TargetAgent | TargetAgentForLong | LinkCut => host == "h1",
    };
    let hold = Some(hold).filter(|_| held_to_the_end);
    if fault == TargetAgentForLong {
        waits_for_target(lab, &id).await;
        lab.start_agent("h2").await.unwrap();
    }
    let ended = ended(lab, &id, &context).await;
    drop(hold);
    if fault == LinkCut {
        lab.link(Some("h2"), Network::Migration, LinkChange::Heal).unwrap();
    }
    let context = format!("{context}: {ended}");
    match fault {
        Cancel => assert_eq!(ended["status"], "cancelled", "{context}"),
        TargetAgent | TargetAgentForLong | TargetQemu | StorageDaemon => {
            assert_eq!(ended["status"], "failed", "{context}");
            assert!(!ended["failure"]["detail"].as_str().unwrap().is_empty(), "{context}");
        }
        LinkCut => {
            assert_eq!(
                (&ended["status"], &ended["failure"]["code"]),
                (&"failed".into(), &"peer_lost".into()),
                "{context}"
            );
            assert!(ended["failure"]["detail"].as_str().unwrap().contains("link to the target"), "{context}");
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

async fn strike(lab: &mut Lab, id: &str, fault: Fault) {
    match fault {
        Cancel => assert!(lab.cli(&["migration", "cancel", id]).await.unwrap().ok),
        TargetAgent => lab.restart_agent("h2").await.unwrap(),
        TargetAgentForLong => lab.kill_agent("h2").unwrap(),
        TargetQemu => assert_eq!(lab.kill_qemu("h2", QemuKind::System).unwrap(), 1),
        StorageDaemon => assert_eq!(lab.kill_qemu("h2", QemuKind::StorageDaemon).unwrap(), 1),
        LinkCut => lab.link(Some("h2"), Network::Migration, LinkChange::Cut).unwrap(),
    }
}

async fn show(lab: &Lab, id: &str) -> Value {
    lab.cli(&["migration", "show", id, "--json"]).await.unwrap().expect_json().unwrap()
}

async fn says(lab: &Lab, id: &str, words: &str) {
    let said = async || {
        let migration = show(lab, id).await;
        assert!(migration["finished_us"].is_null(), "it ended although it is held: {migration}");
        Ok(migration["step"].as_str().unwrap_or_default().contains(words).then_some(()))
    };
    wait::until_async(&format!("'{words}' as the migration's step"), SAID_TIME_MAX, said).await.unwrap();
}

/// The guest is at the source for good, and only the target's clean-up is waited for.
async fn waits_for_target(lab: &Lab, id: &str) {
    let waits = async || {
        let migration = show(lab, id).await;
        assert!(migration["finished_us"].is_null(), "nobody can know that the target is clean: {migration}");
        let step = migration["step"].as_str().unwrap_or_default();
        Ok((step.contains("waiting for host 'h2'") && migration["guest_at"] == "h1").then_some(()))
    };
    wait::until_async("the migration waiting for its target", END_TIME_MAX, waits).await.unwrap();
    goes_on(lab).await;
}

async fn ended(lab: &Lab, id: &str, context: &str) -> Value {
    let end = async || Ok(Some(show(lab, id).await).filter(|migration| !migration["finished_us"].is_null()));
    match wait::until_async("the migration's end", END_TIME_MAX, end).await {
        Ok(migration) => migration,
        Err(error) => panic!("{context}: {error:#}: {}", show(lab, id).await),
    }
}

/// The guest's heartbeats rise.
async fn goes_on(lab: &Lab) {
    let before = lab.guest_status(GUEST).await.unwrap();
    let more = async || {
        let now = lab.guest_status(GUEST).await?;
        assert!(now.tcp_survived, "{now:?}");
        Ok((now.beats > before.beats + BEATS && now.acked_writes > before.acked_writes).then_some(()))
    };
    wait::until_async("more of the guest", CLEAN_TIME_MAX, more).await.unwrap();
}

/// Everything on the target host that a move could have left: files, sockets, processes, taps, and what is no whole image.
fn left_on_target(lab: &Lab) -> Vec<String> {
    let host = lab.site().host("h2").unwrap();
    let state = host.dir.join("state");
    let dirs = ["incoming", "instances", "retired"].map(|dir| state.join(dir));
    let mut left = Vec::new();
    for dir in dirs.iter().chain([&host.run_dir]) {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        left.extend(entries.map(|entry| entry.unwrap().path().display().to_string()));
    }
    let images = std::fs::read_dir(state.join("images")).unwrap().map(Result::unwrap);
    let whole = |entry: &std::fs::DirEntry| entry.file_type().unwrap().is_file() && entry.path().extension().is_none();
    left.extend(images.filter(|entry| !whole(entry)).map(|entry| entry.path().display().to_string()));
    for kind in [QemuKind::System, QemuKind::StorageDaemon] {
        left.extend(lab.qemus("h2", kind).unwrap().iter().map(|_| format!("{kind:?}")));
    }
    let links = Command::new("ip").args(["-n", &host.namespace, "-br", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    left.extend(links.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    left.sort();
    left
}
