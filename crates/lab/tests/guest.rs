//! The lab's guest on real QEMU: it boots, works, proves itself sound, and what is broken behind its back is found.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use whimbrel_lab::{
    image::{self, BootLine, GuestImage, Ingredients, ROOT_CONTENT_BYTES_MIN, ROOT_VIRTUAL_BYTES},
    peer::{Peer, PeerControl, Rates, Status, Verdict},
};

const BOOT_DEADLINE: Duration = Duration::from_secs(90);
const WORK_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SMALL_DISK_BYTES: u64 = 256 << 20;
/// Where the guest keeps its journal on the ephemeral disk, and the size of its records.
const JOURNAL_FROM_BYTES: u64 = 1 << 20;
const RECORD_BYTES: usize = 4096;

/// A QEMU of ours, ended with the test.
struct Guest {
    qemu: Child,
    serial: PathBuf,
    ephemeral: PathBuf,
    /// Removes the disks at the end.
    _folder: tempfile::TempDir,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only if it ended by itself, and then there is nothing to end.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Guest {
    fn boot(qemu: &str, guest: &GuestImage, line: &BootLine) -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let (serial, root) = (folder.path().join("serial"), folder.path().join("root.qcow2"));
        let (ephemeral, swap) = (folder.path().join("ephemeral0.raw"), folder.path().join("swap.raw"));
        let bin = PathBuf::from(env::var_os(qemu).expect("run through ./x test, which names the QEMUs"));
        let mut overlay = Command::new(bin.join("qemu-img"));
        overlay.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&guest.root_base).arg(&root);
        assert!(overlay.status().unwrap().success());
        for disk in [&ephemeral, &swap] {
            File::create(disk).unwrap().set_len(SMALL_DISK_BYTES).unwrap();
        }
        let mut command = Command::new(bin.join("qemu-system-x86_64"));
        command.args(["-machine", "pc-q35-7.2", "-accel", "tcg", "-m", "512", "-nodefaults", "-display", "none"]);
        command.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initrd);
        command.arg("-append").arg(line.to_string());
        command.arg("-serial").arg(format!("file:{}", serial.display()));
        for (disk, format) in [(&root, "qcow2"), (&ephemeral, "raw"), (&swap, "raw")] {
            command.arg("-drive").arg(format!("file={},format={format},if=virtio,cache=none", disk.display()));
        }
        if line.peer.is_some() {
            command.args(["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="]);
        }
        let qemu = command.stdin(Stdio::null()).spawn().unwrap();
        Guest { qemu, serial, ephemeral, _folder: folder }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.qemu.id() as i32), signal).unwrap();
    }

    async fn booted(&mut self) -> Duration {
        let began = Instant::now();
        loop {
            let console = self.console();
            if console.lines().any(|line| line == "BOOTED") {
                return began.elapsed();
            }
            let ended = self.qemu.try_wait().unwrap();
            assert!(ended.is_none() && !console.contains("FAILED"), "{ended:?} {console}");
            assert!(began.elapsed() < BOOT_DEADLINE, "not booted: {console}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn prepared() -> GuestImage {
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let from = Ingredients::from_env().unwrap();
    let first = image::prepare(&work, &from).unwrap();
    let began = Instant::now();
    assert_eq!(image::prepare(&work, &from).unwrap(), first);
    assert!(began.elapsed() < Duration::from_secs(1), "the second time everything is there: {:?}", began.elapsed());
    first
}

/// Asks the peer until the guest is where the test wants it.
async fn wait(control: &mut PeerControl, what: &str, so: impl Fn(&Status) -> bool) -> Status {
    let began = Instant::now();
    loop {
        let status = control.status().await.unwrap();
        if so(&status) {
            return status;
        }
        assert!(began.elapsed() < WORK_DEADLINE, "{what}: {status:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn slot(seq: u64) -> u64 {
    JOURNAL_FROM_BYTES + seq * RECORD_BYTES as u64
}

async fn verify(control: &mut PeerControl) -> Verdict {
    control.verify(WORK_DEADLINE, true).await.unwrap()
}

#[tokio::test]
async fn a_guest_works_proves_itself_and_no_damage_escapes_it() {
    let guest = prepared();
    let base = File::open(&guest.root_base).unwrap().metadata().unwrap().len();
    assert!((ROOT_CONTENT_BYTES_MIN..ROOT_VIRTUAL_BYTES / 2).contains(&base), "{base} bytes of base image");

    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("peer.sock");
    let peer = Peer::bind(([127, 0, 0, 1], 0).into(), &path).await.unwrap();
    // 10.0.2.2 is this machine's loopback as seen through QEMU's user network.
    let address = ([10, 0, 2, 2], peer.address().unwrap().port());
    tokio::spawn(peer.serve());
    let mut control = PeerControl::connect(&path).await.unwrap();
    let refused = control.verify(WORK_DEADLINE, true).await.unwrap_err().to_string();
    assert_eq!(refused, "the peer refused: no guest is connected");

    let rates = Rates { write_bps: 20_000_000, fsync_hz: 20, ram_bps: 2_000_000 };
    let line = BootLine {
        ip: Some(([10, 0, 2, 15].into(), 24)),
        peer: Some(std::net::SocketAddrV4::new(address.0.into(), address.1)),
        rates,
        ..BootLine::default()
    };
    let mut qemu = Guest::boot("WHIMBREL_QEMU_72", &guest, &line);
    println!("booted in {:?}", qemu.booted().await);

    let status =
        wait(&mut control, "all disks at work", |status| status.acked.len() == 3 && status.acked_writes > 90).await;
    assert!(status.tcp_survived && status.connections == 1, "{status:?}");
    sound_after_work(&mut control, rates).await;
    stall_is_measured(&mut control, &qemu).await;
    damage_is_found(&mut control, &qemu.ephemeral).await;
}

async fn sound_after_work(control: &mut PeerControl, rates: Rates) {
    let before = wait(control, "the load to write", |status| status.load_bytes > 20_000_000).await;
    let began = Instant::now();
    let verdict = verify(control).await;
    println!("verified in {:?}: {verdict:?}", began.elapsed());
    assert!(verdict.sound(), "{verdict:?}");
    assert!(verdict.acked_writes > 90 && verdict.load_blocks_checked > 200 && verdict.ram_pages_checked == 16_384);
    let after = wait(control, "the load to go on", |status| status.load_bytes > before.load_bytes + 20_000_000).await;
    let seconds = (after.at_unix_ms - before.at_unix_ms) as f64 / 1000.0;
    println!("load: {:.1} MB/s around a verification", (after.load_bytes - before.load_bytes) as f64 / seconds / 1e6);

    control.set(Rates { write_bps: 0, ..rates }).await.unwrap();
    let before = control.status().await.unwrap().load_bytes;
    control.write_changes(64 << 20, WORK_DEADLINE).await.unwrap();
    let changed = wait(control, "the changes", |status| status.load_bytes >= before + (64 << 20)).await;
    let written = changed.load_bytes - before;
    assert!(written < 66 << 20, "{written} bytes, a few blocks of the load may have been under way");
    let too_much = control.write_changes(1 << 40, WORK_DEADLINE).await.unwrap_err().to_string();
    assert!(too_much.contains("do not fit"), "{too_much}");
    assert!(verify(control).await.sound());
}

async fn stall_is_measured(control: &mut PeerControl, qemu: &Guest) {
    control.reset_stall().await.unwrap();
    qemu.signal(Signal::SIGSTOP);
    wait(control, "the stall to show", |status| status.longest_stall_ms >= 400).await;
    qemu.signal(Signal::SIGCONT);
    let beats = control.status().await.unwrap().beats;
    let status = wait(control, "heartbeats to go on", |status| status.beats > beats + 10).await;
    assert!(status.tcp_survived && status.longest_stall_ms >= 400 && status.stalls[0].lasted_ms >= 400, "{status:?}");
}

async fn damage_is_found(control: &mut PeerControl, ephemeral: &Path) {
    let disk = File::options().read(true).write(true).open(ephemeral).unwrap();
    let mut second = [0; RECORD_BYTES];
    disk.read_exact_at(&mut second, slot(2)).unwrap();
    let mut flipped = second;
    flipped[1234] ^= 0x20;
    let expect = |name: &str, verdict: &Verdict, lost: u64, reordered: u64, invented: u64| {
        assert!(!verdict.sound() && !verdict.journal_ok && !verdict.faults.is_empty(), "{name}: {verdict:?}");
        let counts = (verdict.lost_writes, verdict.reordered_writes, verdict.invented_writes);
        assert_eq!(counts, (lost, reordered, invented), "{name}: {verdict:?}");
    };

    disk.write_all_at(&flipped, slot(2)).unwrap();
    expect("a flipped bit", &verify(control).await, 1, 0, 0);
    disk.write_all_at(&second, slot(2)).unwrap();
    assert!(verify(control).await.sound(), "the fault is gone with its cause");

    let mut third = [0; RECORD_BYTES];
    disk.read_exact_at(&mut third, slot(3)).unwrap();
    disk.write_all_at(&second, slot(3)).unwrap();
    expect("an older record replayed", &verify(control).await, 0, 1, 0);
    disk.write_all_at(&third, slot(3)).unwrap();

    disk.write_all_at(&flipped, slot(4000)).unwrap();
    expect("a write that nobody made", &verify(control).await, 0, 0, 1);
}

#[tokio::test]
async fn a_guest_without_a_network_works_too() {
    let guest = prepared();
    let line =
        BootLine { rates: Rates { write_bps: 5_000_000, fsync_hz: 5, ram_bps: 0 }, ram_mb: 0, ..BootLine::default() };
    let mut qemu = Guest::boot("WHIMBREL_QEMU_100", &guest, &line);
    println!("booted in {:?}", qemu.booted().await);
    let disk = File::open(&qemu.ephemeral).unwrap();
    let began = Instant::now();
    let mut record = [0; RECORD_BYTES];
    while record[..8] != *b"whimjrnl" {
        assert!(began.elapsed() < WORK_DEADLINE, "nothing on the disk: {}", qemu.console());
        tokio::time::sleep(LOOK_EVERY).await;
        disk.read_exact_at(&mut record, slot(2)).unwrap();
    }
}
