//! Moves that go well: there, back by what changed, back by digests, between QEMU versions, with iothreads.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use whimbrel_lab::{Lab, LabOptions, image::BootLine, lab::QemuKind, peer::Rates, wait};

use crate::harness::{guest_runs_at, options, turn, up};

const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);
const DELETE_TIME_MAX: Duration = Duration::from_secs(30);
const GUEST: &str = "guest";
const MIB: u64 = 1 << 20;

fn line() -> BootLine {
    let rates = Rates { write_bps: 4_000_000, fsync_hz: 20, ram_bps: 1_000_000 };
    BootLine { name: GUEST.into(), rates, ..BootLine::default() }
}

async fn booted(options: LabOptions) -> Lab {
    let mut lab = up(options).await;
    lab.boot_guest(Some("h1"), line()).await.unwrap();
    lab
}

/// Moves the guest as a user would; gives the receipt.
async fn travel(lab: &Lab, host: &str) -> Value {
    lab.cli(&["move", GUEST, host, "--json"]).await.unwrap().expect_json().unwrap()
}

async fn check_guest(lab: &Lab) {
    let verdict = lab.peer_of(GUEST).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    assert!(verdict.acked_writes > 0 && verdict.ram_pages_checked > 0, "nothing was checked: {verdict:?}");
}

fn check_receipt(receipt: &Value, mode: &str, epoch: u64) {
    assert_eq!(receipt["mode"], mode, "{receipt}");
    assert_eq!(receipt["epoch"], epoch, "{receipt}");
    let disks = receipt["disks"].as_array().unwrap();
    let names: Vec<_> = disks.iter().map(|disk| disk["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["root", "ephemeral0", "swap"]);
    for disk in disks {
        assert_eq!(disk["verified"], true, "{receipt}");
        assert_eq!(disk["digest"].as_str().unwrap().len(), 64, "{receipt}");
    }
    assert!(receipt["downtime_ms"].as_f64().unwrap() > 0.0, "{receipt}");
    assert!(receipt["wire_bytes"].as_u64().unwrap() > receipt["ram"]["sent_bytes"].as_u64().unwrap(), "{receipt}");
    assert!(receipt["cpu_seconds"]["source"].as_f64().unwrap() > 0.0, "{receipt}");
    assert!(receipt["cpu_seconds"]["target"].as_f64().unwrap() > 0.0, "{receipt}");
}

fn sent(receipt: &Value) -> u64 {
    receipt["disks"].as_array().unwrap().iter().map(|disk| disk["sent_bytes"].as_u64().unwrap()).sum()
}

/// Names of the images on a host, kernel and ramdisk among them.
fn images(lab: &Lab, host: &str) -> std::collections::BTreeSet<std::ffi::OsString> {
    let dir = lab.site().host(host).unwrap().dir.join("state/images");
    fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

async fn change(lab: &Lab, bytes: u64) {
    lab.peer_of(GUEST).await.unwrap().write_changes(bytes, WRITE_TIME_MAX).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_guest_moves_there_and_comes_back_by_its_delta() {
    let _turn = turn();
    let lab = booted(options(2)).await;
    let there = travel(&lab, "h2").await;
    check_receipt(&there, "full", 2);
    assert!(sent(&there) > 1 << 30, "the base image's content did not travel: {there}");
    assert!(there["phases_ms"]["image"].as_f64().is_some_and(|took| took > 0.0), "not as an image: {there}");
    let [of_source, of_target] = ["h1", "h2"].map(|host| images(&lab, host));
    assert_eq!(of_target, of_source, "the base image is not the target's too, or more than that");
    guest_runs_at(&lab, GUEST, "h2").await;
    assert_eq!(lab.qemus("h1", QemuKind::System).unwrap().len(), 0, "the source's QEMU is still there");
    check_guest(&lab).await;

    change(&lab, 64 * MIB).await;
    let back = travel(&lab, "h1").await;
    check_receipt(&back, "delta", 3);
    // The load writes on while it travels, so a little more than what was changed.
    assert!((64 * MIB..160 * MIB).contains(&sent(&back)), "{back}");
    guest_runs_at(&lab, GUEST, "h1").await;
    check_guest(&lab).await;
    lab.down().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_bitmap_a_guest_comes_back_by_digests() {
    let _turn = turn();
    let mut lab = booted(options(2)).await;
    travel(&lab, "h2").await;
    // A monitor serves one client: while the agent is down, the test is that client. The guest does not notice.
    lab.kill_agent("h2").unwrap();
    remove_bitmaps(&lab, "h2");
    lab.start_agent("h2").await.unwrap();
    change(&lab, 16 * MIB).await;
    let back = travel(&lab, "h1").await;
    check_receipt(&back, "digest", 3);
    assert!(sent(&back) < 256 * MIB, "{back}");
    check_guest(&lab).await;
    lab.down().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_moves_between_two_versions_of_qemu() {
    let _turn = turn();
    let lab = booted(options(2).host_with_next_qemu("h2").unwrap()).await;
    check_receipt(&travel(&lab, "h2").await, "full", 2);
    check_guest(&lab).await;
    check_receipt(&travel(&lab, "h1").await, "delta", 3);
    check_guest(&lab).await;
    lab.down().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_new_qemus_a_guest_moves_with_and_without_iothreads() {
    let _turn = turn();
    let options = options(2).host_with_next_qemu("h1").unwrap().host_with_next_qemu("h2").unwrap();
    let mut lab = up(options).await;
    for iothreads in [true, false] {
        match iothreads {
            true => lab.boot_guest_with_iothreads(Some("h1"), line()).await.unwrap(),
            false => lab.boot_guest(Some("h1"), line()).await.unwrap(),
        };
        assert_eq!(iothreads_of(&lab, "h1"), if iothreads { 3 } else { 0 }, "one for each disk, or none");
        check_receipt(&travel(&lab, "h2").await, "full", 2);
        check_receipt(&travel(&lab, "h1").await, "delta", 3);
        check_guest(&lab).await;
        delete_guest(&mut lab).await;
    }
    lab.down().unwrap();
}

/// That the only QEMU of a host was started with.
fn iothreads_of(lab: &Lab, host: &str) -> usize {
    let qemus = lab.qemus(host, QemuKind::System).unwrap();
    assert_eq!(qemus.len(), 1);
    qemus[0].words().iter().filter(|word| word.starts_with("iothread,")).count()
}

async fn delete_guest(lab: &mut Lab) {
    assert!(lab.cli(&["server", "delete", GUEST]).await.unwrap().ok);
    let gone = async || Ok((!lab.cli(&["server", "show", GUEST]).await?.ok).then_some(()));
    wait::until_async("the end of the server", DELETE_TIME_MAX, gone).await.unwrap();
    lab.stop_peer(GUEST).unwrap();
}

/// Every bitmap of a hand-over in every QEMU of a host.
fn remove_bitmaps(lab: &Lab, host: &str) {
    let run = lab.site().host(host).unwrap().run_dir.clone();
    let mut removed = 0;
    for socket in sockets(&run) {
        let mut monitor = Monitor::connect(&socket);
        let nodes = monitor.ask(json!({"execute": "query-named-block-nodes", "arguments": {"flat": true}}));
        for node in nodes.as_array().unwrap() {
            for bitmap in node["dirty-bitmaps"].as_array().into_iter().flatten() {
                let which = json!({"node": node["node-name"], "name": bitmap["name"]});
                monitor.ask(json!({"execute": "block-dirty-bitmap-remove", "arguments": which}));
                removed += 1;
            }
        }
    }
    assert_eq!(removed, 3, "a bitmap for each disk was due");
}

fn sockets(run: &Path) -> Vec<PathBuf> {
    let dirs = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    dirs.map(|dir| dir.join("ctl.sock")).filter(|socket| socket.exists()).collect()
}

struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    fn connect(socket: &Path) -> Monitor {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut monitor = Monitor { lines: BufReader::new(stream) };
        monitor.line();
        monitor.ask(json!({"execute": "qmp_capabilities"}));
        monitor
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, command: Value) -> Value {
        writeln!(self.lines.get_mut(), "{command}").unwrap();
        loop {
            let mut line = self.line();
            assert!(line.get("error").is_none(), "{command}: {line}");
            if let Some(answer) = line.get_mut("return") {
                return answer.take();
            }
        }
    }
}
