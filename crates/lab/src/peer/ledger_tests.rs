//! Each fault that a guest could hide from itself must be seen by the peer.

use super::*;
use crate::peer::wire::JournalFindings;

fn at(steady_ms: u64) -> Now {
    Now { steady_ms, unix_ms: 1_000_000 + steady_ms }
}

fn head(disk: &str, seq: u64, hash: &str) -> Head {
    Head { disk: disk.into(), seq, hash: hash.into() }
}

/// A guest that acknowledged ten records on `root`, then reads its disk back as `findings` say.
fn judge(change: impl FnOnce(&mut JournalFindings)) -> Verdict {
    let mut ledger = Ledger::default();
    ledger.connected();
    ledger.hello("g".into(), vec![head("root", 0, "")]);
    ledger.ack(head("root", 10, "aa"));
    ledger.beat(1, 0, at(0));
    let mut journal = JournalFindings {
        disk: "root".into(),
        written_seq: 10,
        disk_hash: "aa".into(),
        records_checked: 10,
        ..JournalFindings::default()
    };
    change(&mut journal);
    ledger.verdict(Findings { journals: vec![journal], ..Findings::default() }, at(5))
}

#[test]
fn a_sound_guest_is_found_sound() {
    let verdict = judge(|_| ());
    assert!(verdict.sound(), "{verdict:?}");
    assert_eq!(verdict.acked_writes, 10);
}

#[test]
fn every_fault_of_a_journal_is_told_apart() {
    type Count = fn(&Verdict) -> u64;
    let lost: Count = |verdict| verdict.lost_writes;
    let invented: Count = |verdict| verdict.invented_writes;
    let reordered: Count = |verdict| verdict.reordered_writes;
    let check = |name: &str, change: fn(&mut JournalFindings), counted: Count, expected: u64| {
        let verdict = judge(change);
        assert!(!verdict.journal_ok && !verdict.sound(), "{name}: {verdict:?}");
        assert_eq!(counted(&verdict), expected, "{name}: {verdict:?}");
    };
    check("a damaged slot", |journal| journal.lost = 1, lost, 1);
    check("disk and RAM rolled back together", |journal| journal.written_seq = 7, lost, 3);
    check("another record under the same number", |journal| journal.disk_hash = "bb".into(), lost, 1);
    check("a record nobody acknowledged", |journal| journal.written_seq = 11, invented, 1);
    check("something in an unused slot", |journal| journal.invented = 2, invented, 2);
    check("an older record in the place of a newer", |journal| journal.reordered = 1, reordered, 1);
    check("another disk", |journal| journal.disk = "swap".into(), lost, 10);
    check("a chain of its own", |journal| journal.unchained = 1, lost, 0);
}

#[test]
fn a_reconnect_is_not_survival_and_lowers_nothing() {
    let mut ledger = Ledger::default();
    ledger.connected();
    ledger.ack(head("root", 10, "aa"));
    ledger.beat(1, 0, at(0));
    assert!(ledger.status(at(1)).tcp_survived);
    ledger.disconnected();
    assert!(!ledger.status(at(1)).tcp_survived);
    ledger.connected();
    ledger.hello("g".into(), vec![head("root", 4, "cc")]);
    let status = ledger.status(at(2));
    assert!(status.connected && !status.tcp_survived);
    assert_eq!(status.acked, [head("root", 10, "aa")]);
}

#[test]
fn a_missing_heartbeat_is_not_survival() {
    let mut ledger = Ledger::default();
    ledger.connected();
    ledger.beat(1, 0, at(0));
    ledger.beat(3, 0, at(10));
    assert!(!ledger.status(at(11)).tcp_survived);
}

#[test]
fn stalls_are_dated_kept_longest_first_and_include_the_running_one() {
    let mut ledger = Ledger::default();
    ledger.connected();
    assert_eq!(ledger.status(at(900)).longest_stall_ms, 0, "no stall before the first heartbeat");
    for (count, steady_ms) in [(1, 1_000), (2, 1_010), (3, 1_110), (4, 1_310), (5, 1_320)] {
        ledger.beat(count, 0, at(steady_ms));
    }
    let stalls: Vec<u64> = ledger.status(at(1_320)).stalls.iter().map(|stall| stall.lasted_ms).collect();
    assert_eq!(stalls, [200, 100]);
    assert_eq!(ledger.status(at(1_320)).stalls[0].began_unix_ms, 1_001_110);
    assert_eq!(ledger.status(at(1_720)).longest_stall_ms, 400);
    ledger.reset_stall(at(1_700));
    assert_eq!(ledger.status(at(1_720)).longest_stall_ms, 20);
    for count in 6..100 {
        ledger.beat(count, 0, at(1_700 + count * 60));
    }
    assert_eq!(ledger.status(at(9_000)).stalls.len(), STALLS_MAX);
}
