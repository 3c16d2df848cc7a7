//! The product's main job on real input, for a person to watch and for a program to check: a working guest with three disks
//! moves to another host and comes back, and proves that it lost nothing.
//!
//! Ground rules: the moves are made by the binary as a user gives the command; whatever is claimed at the end was told by
//! the guest, its peer or the receipts, and anything that is not as it must be is an error.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use whimbrel_api::{
    disk::CopyMode,
    native::{Migration, MigrationStatus},
    receipt::Receipt,
};

use crate::{
    guest::TASK_TIME_MAX,
    image::BootLine,
    lab::{Lab, LabOptions},
    peer::{PeerControl, Rates, Verdict},
    wait,
};

const GUEST: &str = "demo";
const HOME: &str = "h1";
const AWAY: &str = "h2";
const MB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
const LOAD: Rates = Rates { write_bps: 20 * MB, fsync_hz: 20, ram_bps: 4 * MB };
/// The journals and RAM go on, so that there is something to lose on the way back too.
const CALM: Rates = Rates { write_bps: 0, ..LOAD };
const CHANGES_MIB: u64 = 64;
/// The guest has written that much before it moves: 7 s of it, so that its usual rate is known.
const LOAD_BYTES_MIN: u64 = 140 * MB;
const LOAD_TIME_MAX: Duration = Duration::from_secs(60);
const MOVE_TIME_MAX: Duration = Duration::from_secs(300);

#[derive(Serialize)]
struct Report {
    there: Receipt,
    back: Receipt,
    guest: GuestReport,
}

#[derive(Serialize)]
struct GuestReport {
    journal_ok: bool,
    acked_writes: u64,
    lost_writes: u64,
    ram_ok: bool,
    tcp_survived: bool,
    longest_stall_ms: u64,
}

pub(crate) async fn run(base: &Path, json: bool) -> Result<()> {
    // The lab is dropped, and so taken down, with the branch that did not end.
    tokio::select! {
        done = show(base, json) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; the lab was taken down"),
    }
}

async fn show(base: &Path, json: bool) -> Result<()> {
    let began = Instant::now();
    let mut voice = Voice { json, step: 0, began };
    voice.say("a lab: a controller and two hosts, each in a network namespace of its own");
    let mut lab = Lab::up(LabOptions::transient(base, "demo", 2)?).await?;
    voice.say("a guest with three disks boots on h1; it writes 20 MB/s, keeps journals with fsync, dirties RAM, holds a TCP connection");
    let line = BootLine { name: GUEST.to_owned(), rates: LOAD, ..BootLine::default() };
    lab.boot_guest(Some(HOME), line).await?;
    let mut peer = lab.peer_of(GUEST).await?;
    until_written(&mut peer, LOAD_BYTES_MIN).await?;
    peer.reset_stall().await?;

    voice.say("whimbrel move demo h2, while it works");
    let there = go(&lab, AWAY, json).await?;
    voice.say("64 MiB of its data change there; whimbrel move demo h1, back home");
    peer.set(CALM).await?;
    peer.write_changes(CHANGES_MIB * MIB, TASK_TIME_MAX).await?;
    let back = go(&lab, HOME, json).await?;

    voice.say("the guest reads everything back, and its peer compares that with what it had acknowledged");
    let verdict = peer.verify(TASK_TIME_MAX, false).await?;
    lab.down()?;
    let untrue = untruths(&there, &back, &verdict);
    voice.conclude(Report { there, back, guest: GuestReport::of(&verdict) })?;
    if !untrue.is_empty() {
        bail!("not as it must be: {}", untrue.join("; "));
    }
    Ok(())
}

async fn until_written(peer: &mut PeerControl, bytes: u64) -> Result<()> {
    let written = async || Ok((peer.status().await?.load_bytes >= bytes).then_some(()));
    wait::until_async("the guest's first writes", LOAD_TIME_MAX, written).await
}

/// The command as a user gives it, and the receipt that it leaves.
async fn go(lab: &Lab, target: &str, json: bool) -> Result<Receipt> {
    let mut words = vec!["move", GUEST, target];
    words.extend(json.then_some("--json"));
    let mut command = lab.command(&words)?;
    command.stderr(Stdio::inherit());
    // A Ctrl-C is for the demo, which takes down the whole lab; the command would ask about it.
    command.process_group(0);
    if json {
        command.stdout(Stdio::null());
    }
    let status = tokio::time::timeout(MOVE_TIME_MAX, command.status()).await;
    let status = status.with_context(|| format!("whimbrel {} did not end", words.join(" ")))??;
    ensure!(status.success(), "whimbrel {} ended with {status}", words.join(" "));
    let migration = newest(lab).await?;
    ensure!(migration.status == MigrationStatus::Completed, "the migration ended as {:?}", migration.status);
    migration.receipt.context("the migration left no receipt")
}

async fn newest(lab: &Lab) -> Result<Migration> {
    let migrations = lab.site().client()?.migrations().await?;
    migrations
        .into_iter()
        .filter(|migration| migration.server_name == GUEST)
        .max_by_key(|migration| migration.id)
        .context("there is no migration of the guest")
}

/// What is not as it must be, in words.
fn untruths(there: &Receipt, back: &Receipt, verdict: &Verdict) -> Vec<String> {
    let mut untrue = verdict.faults.clone();
    let mut must = |so: bool, words: String| {
        if !so {
            untrue.push(words);
        }
    };
    must(verdict.journal_ok, "a journal is damaged".to_owned());
    must(verdict.acked_writes > 0, "the guest acknowledged no write".to_owned());
    must(verdict.lost_writes == 0, format!("{} acknowledged writes are lost", verdict.lost_writes));
    must(verdict.load_blocks_ok, "a block of the write load is damaged".to_owned());
    must(verdict.ram_ok, "RAM is damaged".to_owned());
    must(verdict.tcp_survived, "the TCP connection did not survive".to_owned());
    must(there.mode == CopyMode::Full, format!("the way there was {:?}, not full", there.mode));
    must(back.mode == CopyMode::Delta, format!("the way back was {:?}, not delta", back.mode));
    must(back.epoch == there.epoch.next(), format!("epoch {} came after {}", back.epoch, there.epoch));
    for (way, receipt) in [("there", there), ("back", back)] {
        must(receipt.disks.len() == 3, format!("{way}: {} disks moved, not 3", receipt.disks.len()));
        for disk in receipt.disks.iter().filter(|disk| !disk.verified) {
            must(false, format!("{way}: disk {} was not shown equal to its source", disk.name));
        }
    }
    let sent = |receipt: &Receipt| receipt.disks.iter().map(|disk| disk.sent_bytes).sum::<u64>();
    must(sent(back) < sent(there), format!("the way back took {} bytes of disks, there {}", sent(back), sent(there)));
    untrue
}

impl GuestReport {
    fn of(verdict: &Verdict) -> GuestReport {
        GuestReport {
            journal_ok: verdict.journal_ok && verdict.load_blocks_ok,
            acked_writes: verdict.acked_writes,
            lost_writes: verdict.lost_writes,
            ram_ok: verdict.ram_ok,
            tcp_survived: verdict.tcp_survived,
            longest_stall_ms: verdict.longest_stall_ms,
        }
    }
}

/// Tells a person on stdout, or, with `--json`, on stderr.
struct Voice {
    json: bool,
    step: u32,
    began: Instant,
}

impl Voice {
    fn print(&self, words: &str) {
        match self.json {
            true => eprintln!("{words}"),
            false => println!("{words}"),
        }
    }

    fn say(&mut self, words: &str) {
        self.step += 1;
        self.print(&format!("\n{}. {words} ({:.0} s)", self.step, self.began.elapsed().as_secs_f64()));
    }

    fn conclude(&self, report: Report) -> Result<()> {
        let word = |good: bool| if good { "yes" } else { "NO" };
        let guest = &report.guest;
        let sent = |receipt: &Receipt| receipt.disks.iter().map(|disk| disk.sent_bytes).sum::<u64>() / MIB;
        self.print("");
        for (way, receipt) in [("there", &report.there), ("back", &report.back)] {
            let mode = format!("{:?}", receipt.mode).to_lowercase();
            self.print(&format!(
                "  {way:<6}{:>7.1} s, downtime {:>4.0} ms, {:>5} MiB of disks sent ({mode})",
                receipt.total_ms as f64 / 1000.0,
                receipt.downtime_ms,
                sent(receipt)
            ));
        }
        let (acked, lost, stall) = (guest.acked_writes, guest.lost_writes, guest.longest_stall_ms);
        self.print(&format!(
            "  every acknowledged write there  {} ({acked} acknowledged, {lost} lost)",
            word(guest.journal_ok)
        ));
        self.print(&format!("  RAM intact                      {}", word(guest.ram_ok)));
        self.print(&format!(
            "  TCP connection survived         {} (longest stall {stall} ms)",
            word(guest.tcp_survived)
        ));
        self.print(&format!("  {:.0} s in all; the lab is gone", self.began.elapsed().as_secs_f64()));
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_api::{
        id::{Epoch, InstanceId, MigrationId},
        receipt::{CpuSeconds, DiskReceipt, RamReceipt},
    };

    use super::*;

    fn receipt(epoch: u64, mode: CopyMode, sent_bytes: u64) -> Receipt {
        let disk = |name: &str| DiskReceipt {
            name: name.parse().unwrap(),
            virtual_bytes: 10,
            allocated_bytes: 10,
            sent_bytes,
            zero_bytes: 0,
            reused_bytes: 0,
            verified: true,
            digest: String::new(),
        };
        Receipt {
            migration_id: "00000000-0000-0000-0000-000000000001".parse::<MigrationId>().unwrap(),
            server: "00000000-0000-0000-0000-000000000002".parse::<InstanceId>().unwrap(),
            source: "h1".parse().unwrap(),
            target: "h2".parse().unwrap(),
            epoch: Epoch(epoch),
            mode,
            total_ms: 1,
            downtime_ms: 1.0,
            phases_ms: Default::default(),
            disks: ["root", "ephemeral0", "swap"].map(disk).into(),
            ram: RamReceipt::default(),
            wire_bytes: 1,
            cpu_seconds: CpuSeconds::default(),
            guest_write_ratio: None,
        }
    }

    fn verdict() -> Verdict {
        Verdict {
            journal_ok: true,
            acked_writes: 9,
            load_blocks_ok: true,
            ram_ok: true,
            tcp_survived: true,
            ..Verdict::default()
        }
    }

    #[test]
    fn whatever_is_untrue_is_said() {
        type Plant = fn(&mut Receipt, &mut Receipt, &mut Verdict);
        let check = |plant: Plant, words: Option<&str>| {
            let (mut there, mut back) = (receipt(2, CopyMode::Full, 100), receipt(3, CopyMode::Delta, 10));
            let mut verdict = verdict();
            plant(&mut there, &mut back, &mut verdict);
            let untrue = untruths(&there, &back, &verdict);
            match words {
                None => assert_eq!(untrue, Vec::<String>::new()),
                Some(words) => assert!(untrue.iter().any(|said| said.contains(words)), "{words}: {untrue:?}"),
            }
        };
        check(|_, _, _| {}, None);
        check(|_, _, verdict| verdict.journal_ok = false, Some("journal"));
        check(|_, _, verdict| verdict.acked_writes = 0, Some("no write"));
        check(|_, _, verdict| verdict.lost_writes = 2, Some("2 acknowledged writes are lost"));
        check(|_, _, verdict| verdict.load_blocks_ok = false, Some("write load"));
        check(|_, _, verdict| verdict.ram_ok = false, Some("RAM"));
        check(|_, _, verdict| verdict.tcp_survived = false, Some("TCP"));
        check(|_, _, verdict| verdict.faults.push("odd".to_owned()), Some("odd"));
        check(|_, back, _| back.mode = CopyMode::Digest, Some("not delta"));
        check(|there, _, _| there.mode = CopyMode::Delta, Some("not full"));
        check(|_, back, _| back.epoch = Epoch(4), Some("epoch 4 came after 2"));
        check(|there, _, _| there.disks[1].verified = false, Some("there: disk ephemeral0"));
        check(|_, back, _| drop(back.disks.pop()), Some("back: 2 disks"));
        check(|_, back, _| back.disks[0].sent_bytes = 1000, Some("took 1020 bytes"));
    }
}
