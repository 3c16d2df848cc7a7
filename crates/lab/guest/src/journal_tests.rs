//! Each kind of damage to a journal is planted in a file and must be told by its name.

use std::{fs, os::unix::fs::FileExt, path::PathBuf};

use super::*;
use crate::area::Access;

const PLACES: u64 = 256;

struct Disk {
    path: PathBuf,
    /// Removes the file at the end.
    _folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::File::create(&path).unwrap().set_len(PLACES * RECORD_BYTES as u64).unwrap();
        Disk { path, _folder: folder }
    }
    fn journal(&self) -> Journal {
        let area = Area::open(&self.path, Access::Cached, 0, PLACES * RECORD_BYTES as u64).unwrap();
        Journal::open("root", area).unwrap()
    }
    fn get(&self, seq: u64) -> Vec<u8> {
        let mut bytes = vec![0; RECORD_BYTES];
        let file = fs::File::open(&self.path).unwrap();
        file.read_exact_at(&mut bytes, seq % PLACES * RECORD_BYTES as u64).unwrap();
        bytes
    }
    fn put(&self, seq: u64, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, seq % PLACES * RECORD_BYTES as u64).unwrap();
    }
}

/// Writes `records`, plants a fault and returns (lost, reordered, invented, unchained).
fn check(records: u64, plant: impl FnOnce(&Disk), expected: (u64, u64, u64, u64)) {
    let disk = Disk::new();
    let mut journal = disk.journal();
    for _ in 0..records {
        journal.append().unwrap();
    }
    plant(&disk);
    let found = journal.check().unwrap();
    assert_eq!((found.lost, found.reordered, found.invented, found.unchained), expected, "{found:?}");
    assert_eq!(found.written_seq, records);
    if expected == (0, 0, 0, 0) {
        assert_eq!(found.records_checked, records.min(PLACES));
        assert_eq!(found.disk_hash, if records == 0 { String::new() } else { journal.head().hash });
    }
}

#[test]
fn a_sound_journal_is_sound_at_every_length() {
    for records in [0, 1, PLACES - 1, PLACES, PLACES + 1, 2 * PLACES + 3] {
        check(records, |_| (), (0, 0, 0, 0));
    }
}

#[test]
fn a_flipped_bit_is_a_lost_record() {
    let flip = |disk: &Disk| {
        let mut bytes = disk.get(5);
        bytes[3000] ^= 0x10;
        disk.put(5, &bytes);
    };
    check(9, flip, (1, 0, 0, 0));
}

#[test]
fn a_write_that_never_came_is_lost() {
    check(9, |disk| disk.put(9, &[0; RECORD_BYTES]), (1, 0, 0, 0));
}

#[test]
fn two_exchanged_blocks_are_reordered() {
    let exchange = |disk: &Disk| {
        let (four, six) = (disk.get(4), disk.get(6));
        disk.put(4, &six);
        disk.put(6, &four);
    };
    check(9, exchange, (0, 2, 0, 0));
}

#[test]
fn an_older_lap_in_the_place_of_a_newer_is_reordered() {
    let disk = Disk::new();
    let mut journal = disk.journal();
    journal.append().unwrap();
    let old = disk.get(1);
    for _ in 0..PLACES {
        journal.append().unwrap();
    }
    assert_eq!(journal.check().unwrap().reordered, 0);
    disk.put(1 + PLACES, &old);
    assert_eq!(journal.check().unwrap().reordered, 1);
}

#[test]
fn records_of_the_future_and_of_nobody_are_invented() {
    let future = |disk: &Disk| {
        let mut bytes = vec![0; RECORD_BYTES];
        record::encode(10, &[0; 32], &mut bytes);
        disk.put(10, &bytes);
        disk.put(20, &[0xff; RECORD_BYTES]);
    };
    check(9, future, (0, 0, 2, 0));
}

#[test]
fn a_sound_record_of_another_chain_is_unchained() {
    let other = |disk: &Disk| {
        let mut bytes = vec![0; RECORD_BYTES];
        record::encode(5, &[9; 32], &mut bytes);
        disk.put(5, &bytes);
    };
    // It continues nobody, and its successor does not continue it.
    check(9, other, (0, 0, 0, 2));
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    let disk = Disk::new();
    let mut journal = disk.journal();
    for _ in 0..3 {
        journal.append().unwrap();
    }
    let head = journal.head();
    let mut again = disk.journal();
    assert_eq!(again.head(), head);
    again.append().unwrap();
    let found = again.check().unwrap();
    assert_eq!((found.written_seq, found.records_checked, found.unchained), (4, 4, 0));
}
