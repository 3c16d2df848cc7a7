//! Moves of guests whose disks lie where both hosts see them: RAM alone travels, and whatever breaks, the disks stay the
//! guest's, on the host that has it.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use whimbrel_lab::{
    Lab, LabOptions,
    image::BootLine,
    lab::{QemuKind, hold::Place},
    net::LinkRate,
    peer::Rates,
    wait,
};

use crate::{
    gluster::Gluster,
    harness::{base, guest_runs_at, options, turn, up},
};

const GUEST: &str = "guest";
const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);
const PLACE_TIME_MAX: Duration = Duration::from_secs(50);
const END_TIME_MAX: Duration = Duration::from_secs(60);
const CLEAN_TIME_MAX: Duration = Duration::from_secs(30);
const SEEN_TIME_MAX: Duration = Duration::from_secs(10);
const BEATS: u64 = 5;
/// Slow enough that a held move is not over before the fault strikes.
const SLOW: &str = "1gbit";
/// No disk is copied: far less than a guest that is emulated needs to come back from a long stop.
const DOWNTIME_MS_MAX: f64 = 3_000.0;
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A plain directory, which every host of a lab sees: they are network namespaces. Goes with the test.
struct Plain(PathBuf);

impl Plain {
    fn new() -> Self {
        let dir = base().join(format!("storage-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).unwrap();
        Plain(dir)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn line() -> BootLine {
    let rates = Rates { write_bps: 4_000_000, fsync_hz: 20, ram_bps: 1_000_000 };
    BootLine { name: GUEST.into(), rates, ..BootLine::default() }
}

async fn booted(options: LabOptions) -> Lab {
    let mut lab = up(options).await;
    lab.boot_guest(Some("h1"), line()).await.unwrap();
    lab
}

async fn travel(lab: &Lab, host: &str, epoch: u64) -> Value {
    let receipt = lab.cli(&["move", GUEST, host, "--json"]).await.unwrap().expect_json().unwrap();
    guest_runs_at(lab, GUEST, host).await;
    check_receipt(&receipt, epoch);
    receipt
}

/// Nothing but RAM, and no word of a comparison that nobody made.
fn check_receipt(receipt: &Value, epoch: u64) {
    assert_eq!((&receipt["mode"], &receipt["epoch"]), (&"shared".into(), &epoch.into()), "{receipt}");
    let disks = receipt["disks"].as_array().unwrap();
    assert_eq!(disks.len(), 3, "{receipt}");
    for disk in disks {
        assert_eq!((&disk["sent_bytes"], &disk["zero_bytes"]), (&0.into(), &0.into()), "{receipt}");
        assert_eq!((&disk["verified"], &disk["digest"]), (&false.into(), &"".into()), "{receipt}");
        assert_eq!(disk["reused_bytes"], disk["allocated_bytes"], "{receipt}");
    }
    let (wire, ram) = (receipt["wire_bytes"].as_u64().unwrap(), receipt["ram"]["sent_bytes"].as_u64().unwrap());
    assert!(ram > 0 && wire > ram && wire < ram + ram / 4 + (8 << 20), "more than RAM travelled: {receipt}");
    let downtime_ms = receipt["downtime_ms"].as_f64().unwrap();
    assert!(downtime_ms > 0.0 && downtime_ms < DOWNTIME_MS_MAX, "{receipt}");
    println!(
        "downtime {downtime_ms} ms, total {} ms, wire {wire} bytes: {}",
        receipt["total_ms"], receipt["phases_ms"]
    );
}

async fn check_guest(lab: &Lab) {
    let verdict = lab.peer_of(GUEST).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    assert!(verdict.acked_writes > 0 && verdict.ram_pages_checked > 0, "nothing was checked: {verdict:?}");
}

/// One set of disks, signed by the host that has the guest; no copy, and no QEMU, anywhere else.
async fn check_storage(lab: &Lab, storage: &Path, host: &str) {
    // A client of a network file system sees what another has written about a second later.
    let settled = async || Ok(wrong_on(lab, storage, host).is_none().then_some(()));
    if wait::until_async("the storage as it should be", SEEN_TIME_MAX, settled).await.is_err() {
        panic!("{}", wrong_on(lab, storage, host).unwrap_or_default());
    }
}

fn wrong_on(lab: &Lab, storage: &Path, host: &str) -> Option<String> {
    let instances = files(&storage.join("instances"));
    let [instance] = instances.as_slice() else { return Some(format!("one instance was due: {instances:?}")) };
    let owner = std::fs::read(instance.join("owner.json")).unwrap_or_default();
    let owner: Value = serde_json::from_slice(&owner).unwrap_or_default();
    if (&owner["host"], &owner["state"]) != (&host.into(), &"owned".into()) {
        return Some(format!("{host} does not own it: {owner}"));
    }
    if instance.join("move.json").exists() {
        return Some("an offer stayed".to_owned());
    }
    for name in ["root.qcow2", "ephemeral0.qcow2", "swap.qcow2"] {
        if !instance.join(name).is_file() {
            return Some(format!("{name} is gone"));
        }
    }
    for each in ["h1", "h2"] {
        let own = storage.join("hosts").join(each);
        let left = [files(&own.join("retired")), files(&own.join("incoming"))].concat();
        if !left.is_empty() {
            return Some(format!("left by {each}: {left:?}"));
        }
        let qemus = lab.qemus(each, QemuKind::System).unwrap().len();
        if qemus != usize::from(each == host) || !lab.qemus(each, QemuKind::StorageDaemon).unwrap().is_empty() {
            return Some(format!("{qemus} QEMUs at {each}, and the guest at {host}"));
        }
    }
    None
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).collect()
}

/// There and back, with the guest at work.
async fn there_and_back(lab: &Lab, storage: &Path) {
    let plan = lab.cli(&["move", GUEST, "h2", "--plan", "--json"]).await.unwrap().expect_json().unwrap();
    assert_eq!((&plan["mode"], &plan["disk_bytes"]), (&"shared".into(), &0.into()), "{plan}");
    travel(lab, "h2", 2).await;
    check_storage(lab, storage, "h2").await;
    check_guest(lab).await;
    travel(lab, "h1", 3).await;
    check_storage(lab, storage, "h1").await;
    check_guest(lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_shared_directory_a_guest_moves_by_its_ram_alone() {
    let _turn = turn();
    let storage = Plain::new();
    // From the old QEMU to the new one and back: who opens the disks when differs between them.
    let options = options(2).on_shared(&[&storage.0, &storage.0]).host_with_next_qemu("h2").unwrap();
    let lab = booted(options).await;
    there_and_back(&lab, &storage.0).await;
    // What is deleted is deleted, once.
    assert!(lab.cli(&["server", "delete", GUEST]).await.unwrap().ok);
    let gone = async || Ok(files(&storage.0.join("instances")).is_empty().then_some(()));
    wait::until_async("the end of the server's files", CLEAN_TIME_MAX, gone).await.unwrap();
    lab.down().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_glusterfs_a_guest_moves_by_its_ram_alone() {
    let _turn = turn();
    let gluster = Gluster::start(&base());
    let [one, two] = gluster.mounts();
    let lab = booted(options(2).on_shared(&[one, two])).await;
    there_and_back(&lab, two).await;
    lab.down().unwrap();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cancel,
    /// Killed, and started again at once.
    TargetAgent,
    /// Killed, and started again when the guest goes on at the source: meanwhile its QEMU stands there, loaded.
    TargetAgentForLong,
    TargetQemu,
    SourceAgent,
}
use Fault::{Cancel, SourceAgent, TargetAgent, TargetAgentForLong, TargetQemu};

const FAULTS: [(Place, Fault); 11] = [
    (Place::MakingRoom, Cancel),
    (Place::QemuStarts, TargetAgent),
    (Place::Ram, Cancel),
    (Place::Ram, TargetAgent),
    (Place::Ram, SourceAgent),
    (Place::LastRound, TargetQemu),
    (Place::StateSent, Cancel),
    (Place::StateSent, TargetQemu),
    (Place::StateSent, TargetAgent),
    (Place::StateSent, TargetAgentForLong),
    (Place::StateSent, SourceAgent),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_before_commit_the_shared_disks_stay_the_sources() {
    let _turn = turn();
    for next_qemu in [false, true] {
        let storage = Plain::new();
        let mut options = options(2).on_shared(&[&storage.0, &storage.0]);
        options.holds = true;
        if next_qemu {
            options = options.host_with_next_qemu("h1").unwrap().host_with_next_qemu("h2").unwrap();
        }
        let mut lab = booted(options).await;
        lab.shape(SLOW.parse().unwrap()).unwrap();
        for (place, fault) in FAULTS {
            check(&mut lab, &storage.0, place, fault).await;
        }
        lab.shape(LinkRate::UNSHAPED).unwrap();
        check_guest(&lab).await;
        owned_by_an_agent_that_dies(&mut lab, &storage.0).await;
        check_guest(&lab).await;
        travel(&lab, "h1", 3).await;
        check_guest(&lab).await;
        lab.down().unwrap();
    }
}

async fn check(lab: &mut Lab, storage: &Path, place: Place, fault: Fault) {
    let host = match place {
        Place::MakingRoom | Place::QemuStarts | Place::Owned => "h2",
        Place::Image | Place::RoundZero | Place::Ram | Place::LastRound | Place::StateSent => "h1",
    };
    let hold = lab.hold(host, place).unwrap();
    let id = begin(lab).await;
    hold.reached(PLACE_TIME_MAX).await.unwrap_or_else(|error| panic!("{place:?}, {fault:?}: {error:#}"));
    match fault {
        Cancel => assert!(lab.cli(&["migration", "cancel", &id]).await.unwrap().ok),
        TargetAgent => lab.restart_agent("h2").await.unwrap(),
        TargetAgentForLong => {
            lab.kill_agent("h2").unwrap();
            goes_on(lab).await;
            assert_eq!(lab.qemus("h2", QemuKind::System).unwrap().len(), 1, "its QEMU was to be in the way");
            lab.start_agent("h2").await.unwrap();
        }
        TargetQemu => assert_eq!(lab.kill_qemu("h2", QemuKind::System).unwrap(), 1),
        SourceAgent => lab.restart_agent("h1").await.unwrap(),
    }
    let of_held_side = (fault == SourceAgent && host == "h1") || (fault == TargetAgent && host == "h2");
    let hold = Some(hold).filter(|_| !of_held_side && place != Place::MakingRoom);
    let ended = ended(lab, &id).await;
    drop(hold);
    let context = format!("{place:?}, {fault:?}: {ended}");
    let status = if fault == Cancel { "cancelled" } else { "failed" };
    assert_eq!((&ended["status"], &ended["guest_at"]), (&status.into(), &"h1".into()), "{context}");
    guest_runs_at(lab, GUEST, "h1").await;
    goes_on(lab).await;
    let clean = async || Ok(lab.qemus("h2", QemuKind::System)?.is_empty().then_some(()));
    wait::until_async("a clean target", CLEAN_TIME_MAX, clean)
        .await
        .unwrap_or_else(|error| panic!("{context}: {error:#}"));
    check_storage(lab, storage, "h1").await;
}

/// The storage names the target already, and no guest runs: only COMMIT's way forward is left.
async fn owned_by_an_agent_that_dies(lab: &mut Lab, storage: &Path) {
    let hold = lab.hold("h2", Place::Owned).unwrap();
    let id = begin(lab).await;
    hold.reached(PLACE_TIME_MAX).await.unwrap();
    lab.kill_agent("h2").unwrap();
    drop(hold);
    // The source's agent too: it finds itself again with a guest that is another host's.
    lab.kill_agent("h1").unwrap();
    lab.start_agent("h2").await.unwrap();
    lab.start_agent("h1").await.unwrap();
    let ended = ended(lab, &id).await;
    assert_eq!((&ended["status"], &ended["guest_at"]), (&"completed".into(), &"h2".into()), "{ended}");
    guest_runs_at(lab, GUEST, "h2").await;
    goes_on(lab).await;
    let clean = async || Ok(lab.qemus("h1", QemuKind::System)?.is_empty().then_some(()));
    wait::until_async("a clean source", CLEAN_TIME_MAX, clean).await.unwrap();
    check_storage(lab, storage, "h2").await;
}

async fn begin(lab: &Lab) -> String {
    let id = lab.cli(&["move", GUEST, "h2", "--detach", "--json"]).await.unwrap().expect_json().unwrap();
    id["id"].as_str().unwrap().to_owned()
}

async fn ended(lab: &Lab, id: &str) -> Value {
    let show = async || lab.cli(&["migration", "show", id, "--json"]).await?.expect_json();
    let end = async || Ok(Some(show().await?).filter(|migration| !migration["finished_us"].is_null()));
    match wait::until_async("the migration's end", END_TIME_MAX, end).await {
        Ok(migration) => migration,
        Err(error) => panic!("{error:#}: {:?}", show().await),
    }
}

async fn goes_on(lab: &Lab) {
    let before = lab.guest_status(GUEST).await.unwrap();
    let more = async || {
        let now = lab.guest_status(GUEST).await?;
        assert!(now.tcp_survived, "{now:?}");
        Ok((now.beats > before.beats + BEATS && now.acked_writes > before.acked_writes).then_some(()))
    };
    wait::until_async("more of the guest", CLEAN_TIME_MAX, more).await.unwrap();
}
