//! What the peer knows of the guest, and its verdict. No I/O, no clock: every method is told the time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire::{Findings, Head, ReadOnlyDisk};

const STALLS_MAX: usize = 16;
/// Shorter gaps are the jitter of an emulated guest and not worth a line.
const STALL_MS_MIN: u64 = 50;
/// A guest has a handful of disks; more heads than that come from no guest of ours.
const DISKS_MAX: usize = 32;

/// One instant on two clocks: the steady one measures, the other one dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) steady_ms: u64,
    pub(super) unix_ms: u64,
}

/// What the peer can say at any time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub guest: String,
    pub connected: bool,
    /// The guest still talks over its very first connection, and no heartbeat is missing on it.
    pub tcp_survived: bool,
    pub connections: u64,
    pub beats: u64,
    /// Longest time without a heartbeat since the last `reset_stall`, the running one included.
    pub longest_stall_ms: u64,
    /// The longest gaps since the last `reset_stall`, longest first.
    pub stalls: Vec<Stall>,
    /// Acknowledged journal records, all disks together.
    pub acked_writes: u64,
    pub acked: Vec<Head>,
    /// Bytes that the guest's load has written since its boot.
    pub load_bytes: u64,
    /// Time on the peer's clock, so that two readings of `load_bytes` give a rate.
    pub at_unix_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub began_unix_ms: u64,
    pub lasted_ms: u64,
}

/// The outcome of `verify`: what the guest read back, held against what it had acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Nothing lost, reordered, invented or unchained on any disk.
    pub journal_ok: bool,
    pub acked_writes: u64,
    /// Acknowledged records that are not on the disk as they were acknowledged.
    pub lost_writes: u64,
    pub reordered_writes: u64,
    pub invented_writes: u64,
    pub load_blocks_checked: u64,
    pub load_blocks_ok: bool,
    pub ram_pages_checked: u64,
    pub ram_ok: bool,
    pub tcp_survived: bool,
    pub longest_stall_ms: u64,
    /// As the guest read them; a verdict on them is for whoever knows what was put there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only_disks: Vec<ReadOnlyDisk>,
    /// First few faults in words; empty in a sound guest.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Nothing at all is wrong.
    pub fn sound(&self) -> bool {
        self.journal_ok && self.load_blocks_ok && self.ram_ok && self.tcp_survived && self.faults.is_empty()
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    guest: String,
    connected: bool,
    connections: u64,
    beats: u64,
    missed_a_beat: bool,
    last_beat: Option<Now>,
    longest_stall_ms: u64,
    stalls: Vec<Stall>,
    acked: BTreeMap<String, Head>,
    load_bytes: u64,
}

impl Ledger {
    pub(super) fn connected(&mut self) {
        self.connections += 1;
        self.connected = true;
    }

    pub(super) fn disconnected(&mut self) {
        self.connected = false;
    }

    /// The heads only ever raise what is known: a guest that lost records must not talk the peer out of them.
    pub(super) fn hello(&mut self, name: String, heads: Vec<Head>) {
        self.guest = name;
        for head in heads {
            self.ack(head);
        }
    }

    pub(super) fn ack(&mut self, head: Head) {
        if self.acked.len() >= DISKS_MAX && !self.acked.contains_key(&head.disk) {
            return;
        }
        let known = self.acked.entry(head.disk.clone()).or_insert_with(|| head.clone());
        if head.seq > known.seq {
            *known = head;
        }
    }

    pub(super) fn beat(&mut self, count: u64, load_bytes: u64, now: Now) {
        self.missed_a_beat |= count != self.beats + 1;
        self.beats = count;
        self.load_bytes = load_bytes;
        if let Some(stall) = self.gap(now) {
            self.longest_stall_ms = self.longest_stall_ms.max(stall.lasted_ms);
            if stall.lasted_ms >= STALL_MS_MIN {
                self.stalls.push(stall);
                self.stalls.sort_by_key(|stall| std::cmp::Reverse(stall.lasted_ms));
                self.stalls.truncate(STALLS_MAX);
            }
        }
        self.last_beat = Some(now);
    }

    /// From now on only what comes counts; the part of a running gap that is past does not.
    pub(super) fn reset_stall(&mut self, now: Now) {
        self.longest_stall_ms = 0;
        self.stalls.clear();
        self.last_beat = self.last_beat.map(|_| now);
    }

    pub(super) fn status(&self, now: Now) -> Status {
        let running_ms = self.gap(now).map_or(0, |stall| stall.lasted_ms);
        Status {
            guest: self.guest.clone(),
            connected: self.connected,
            tcp_survived: self.connected && self.connections == 1 && !self.missed_a_beat,
            connections: self.connections,
            beats: self.beats,
            longest_stall_ms: self.longest_stall_ms.max(running_ms),
            stalls: self.stalls.clone(),
            acked_writes: self.acked.values().map(|head| head.seq).sum(),
            acked: self.acked.values().cloned().collect(),
            load_bytes: self.load_bytes,
            at_unix_ms: now.unix_ms,
        }
    }

    /// Judges what the guest read back. All acknowledgements of it came before it on the same connection.
    pub(super) fn verdict(&self, findings: Findings, now: Now) -> Verdict {
        let status = self.status(now);
        let mut verdict = Verdict {
            acked_writes: status.acked_writes,
            load_blocks_checked: findings.load_blocks_checked,
            load_blocks_ok: findings.load_blocks_bad == 0,
            ram_pages_checked: findings.ram_pages_checked,
            ram_ok: findings.ram_pages_bad == 0,
            tcp_survived: status.tcp_survived,
            longest_stall_ms: status.longest_stall_ms,
            read_only_disks: findings.read_only_disks,
            ..Verdict::default()
        };
        let mut unchained = 0;
        for acked in self.acked.values() {
            let Some(journal) = findings.journals.iter().find(|journal| journal.disk == acked.disk) else {
                verdict.lost_writes += acked.seq;
                verdict.faults.push(format!("{}: the guest no longer has this disk", acked.disk));
                continue;
            };
            verdict.lost_writes += journal.lost + acked.seq.saturating_sub(journal.written_seq);
            verdict.invented_writes += journal.invented + journal.written_seq.saturating_sub(acked.seq);
            verdict.reordered_writes += journal.reordered;
            unchained += journal.unchained;
            if journal.written_seq != acked.seq {
                let (disk, written, acked) = (&acked.disk, journal.written_seq, acked.seq);
                verdict.faults.push(format!("{disk}: the guest knows of record {written}, the peer of {acked}"));
            } else if journal.disk_hash != acked.hash && !journal.disk_hash.is_empty() {
                verdict.lost_writes += 1;
                verdict.faults.push(format!("{}: record {} is not the acknowledged one", acked.disk, acked.seq));
            }
        }
        verdict.journal_ok =
            unchained == 0 && verdict.lost_writes == 0 && verdict.reordered_writes == 0 && verdict.invented_writes == 0;
        verdict.faults.extend(findings.faults);
        verdict
    }

    fn gap(&self, now: Now) -> Option<Stall> {
        let last = self.last_beat?;
        let lasted_ms = now.steady_ms.saturating_sub(last.steady_ms);
        Some(Stall { began_unix_ms: last.unix_ms, lasted_ms })
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
