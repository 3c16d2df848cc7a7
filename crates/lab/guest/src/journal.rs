//! The hash-chained journal on one disk: a ring of records, each durable before it is acknowledged.
//!
//! The chain is the proof. A disk that lost a write, kept an older version of a block or took a block from elsewhere holds a
//! record that does not fit its place or its neighbours. What a rolled back disk *together* with rolled back RAM would hide
//! from this program is seen by the peer, which remembers the newest acknowledged record outside the guest.

use std::io;

use crate::{
    area::{Area, Buffer},
    record::{self, Hash, NO_HASH, RECORD_BYTES, Record, Slot},
    wire::{Head, JournalFindings},
};

/// Read size of a check: large enough that the disk, not the emulated interrupt, sets the pace.
const SLOTS_PER_READ: usize = 256;

pub struct Journal {
    disk: String,
    area: Area,
    seq: u64,
    hash: Hash,
    record: Buffer,
}

impl Journal {
    /// Goes on with the newest record that the disk holds.
    pub fn open(disk: &str, area: Area) -> io::Result<Journal> {
        assert!(area.len_bytes().is_multiple_of((SLOTS_PER_READ * RECORD_BYTES) as u64), "an area of whole reads");
        let record = Buffer::new(RECORD_BYTES);
        let mut journal = Journal { disk: disk.to_owned(), area, seq: 0, hash: NO_HASH, record };
        for slot in journal.slots()? {
            if let Slot::Sound(record) = slot
                && record.seq > journal.seq
            {
                (journal.seq, journal.hash) = (record.seq, record.hash);
            }
        }
        Ok(journal)
    }

    pub fn head(&self) -> Head {
        Head { disk: self.disk.clone(), seq: self.seq, hash: record::hex(&self.hash) }
    }

    /// Writes the next record; it is durable when this returns.
    pub fn append(&mut self) -> io::Result<Head> {
        let seq = self.seq + 1;
        let hash = record::encode(seq, &self.hash, self.record.bytes_mut());
        self.area.write(self.place(seq) * RECORD_BYTES as u64, self.record.bytes())?;
        self.area.sync()?;
        (self.seq, self.hash) = (seq, hash);
        Ok(self.head())
    }

    /// Reads every slot back and holds it against what was written.
    pub fn check(&self) -> io::Result<JournalFindings> {
        let slots = self.slots()?;
        let mut findings =
            JournalFindings { disk: self.disk.clone(), written_seq: self.seq, ..JournalFindings::default() };
        for (place, slot) in slots.iter().enumerate() {
            match (self.expected(place as u64), slot) {
                (None, Slot::Empty) => (),
                (None, Slot::Sound(_) | Slot::Damaged) => findings.invented += 1,
                (Some(_), Slot::Empty | Slot::Damaged) => findings.lost += 1,
                (Some(seq), Slot::Sound(record)) if record.seq == seq => {
                    findings.records_checked += 1;
                    findings.unchained += u64::from(!self.chained(record, &slots));
                    if seq == self.seq {
                        findings.disk_hash = record::hex(&record.hash);
                    }
                }
                (Some(_), Slot::Sound(record)) if record.seq > self.seq => findings.invented += 1,
                (Some(_), Slot::Sound(_)) => findings.reordered += 1,
            }
        }
        Ok(findings)
    }

    /// Whether the record continues its neighbour. A neighbour that is no longer, or not soundly, there is counted where it
    /// belongs, not here.
    fn chained(&self, record: &Record, slots: &[Slot]) -> bool {
        if record.seq == self.seq && record.hash != self.hash {
            return false;
        }
        if record.seq == 1 {
            return record.previous == NO_HASH;
        }
        match slots[self.place(record.seq - 1) as usize] {
            Slot::Sound(previous) if previous.seq == record.seq - 1 => record.previous == previous.hash,
            Slot::Sound(_) | Slot::Empty | Slot::Damaged => true,
        }
    }

    /// Number of the record that a place must hold now.
    fn expected(&self, place: u64) -> Option<u64> {
        let behind = (self.place(self.seq) + self.places() - place) % self.places();
        self.seq.checked_sub(behind).filter(|&seq| seq > 0)
    }

    fn places(&self) -> u64 {
        self.area.len_bytes() / RECORD_BYTES as u64
    }
    fn place(&self, seq: u64) -> u64 {
        seq % self.places()
    }

    fn slots(&self) -> io::Result<Vec<Slot>> {
        let mut slots = Vec::with_capacity(self.places() as usize);
        let mut buffer = Buffer::new(SLOTS_PER_READ * RECORD_BYTES);
        for at_bytes in (0..self.area.len_bytes()).step_by(SLOTS_PER_READ * RECORD_BYTES) {
            self.area.read(at_bytes, buffer.bytes_mut())?;
            slots.extend(buffer.bytes().chunks_exact(RECORD_BYTES).map(record::decode));
        }
        Ok(slots)
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
