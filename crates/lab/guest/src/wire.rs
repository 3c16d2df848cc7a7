//! What the guest program and its peer say to each other: one JSON value per line, over one TCP connection.
//!
//! ```text
//!   guest                                peer (outside the guest)
//!     | hello {name, heads} ---------->   |   identity of the connection, chain heads
//!     | beat {count, load_bytes} ----->   |   every 10 ms: longest gap = longest stall
//!     | ack {disk, seq, hash} --------->   |   only after the record is durable
//!     |   <---------- order {id, task}    |   set rates, write changes, verify
//!     | report {id, outcome} ---------->   |
//! ```
//!
//! This file is compiled into both programs, so that neither can drift from the other. Ground rules: an `ack` is sent
//! only after fsync returned; a `verify` report follows every ack of the records it read on the same connection, so the
//! peer may compare the two without waiting.

use serde::{Deserialize, Serialize};

/// Both sides drop a connection that sends a longer line.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Rates of the guest's work; zero stops that kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Random 64 KiB writes to the root disk, in bytes per second.
    pub write_bps: u64,
    /// Journal records per second and disk, each fsynced.
    pub fsync_hz: u32,
    /// Bytes of the checked RAM that are rewritten per second.
    pub ram_bps: u64,
}

/// A record of a journal by its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub disk: String,
    /// Zero: nothing was written yet.
    pub seq: u64,
    /// Hex of the record's hash; the chain before it is fixed by it.
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromGuest {
    Hello { name: String, boot: String, connection: u64, heads: Vec<Head> },
    Beat { count: u64, load_bytes: u64 },
    Ack(Head),
    Report { id: u64, outcome: Outcome },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub id: u64,
    pub task: Task,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Set(Rates),
    /// Rewrites this many bytes of the load region, each block once.
    WriteChanges {
        bytes: u64,
    },
    /// Stops the work, reads everything back and, with `resume`, goes on.
    Verify {
        resume: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Failed { why: String },
    Verified(Findings),
}

/// What the guest read back. Counts of what is wrong are zero in a sound guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub journals: Vec<JournalFindings>,
    pub load_blocks_checked: u64,
    pub load_blocks_bad: u64,
    pub ram_pages_checked: u64,
    pub ram_pages_bad: u64,
    /// Disks that the guest can only read: what is on them is for whoever made them to judge.
    pub read_only_disks: Vec<ReadOnlyDisk>,
    /// First few faults in words, for a person.
    pub faults: Vec<String>,
}

/// A disk that the guest can only read, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyDisk {
    pub device: String,
    /// Of its ISO 9660 volume; empty where there is none.
    pub label: String,
    pub bytes: u64,
    /// BLAKE3 in hex of all its bytes, read around the page cache.
    pub digest: String,
    /// As the guest's kernel shows them, in order of their paths.
    pub files: Vec<ReadOnlyFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyFile {
    /// From the volume's root on.
    pub path: String,
    pub digest: String,
}

/// One journal as the disk holds it now, compared with what the program wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalFindings {
    pub disk: String,
    /// The newest record that the program wrote.
    pub written_seq: u64,
    /// Hash of that record as it is on the disk now; empty where there is none.
    pub disk_hash: String,
    pub records_checked: u64,
    /// Slots whose record is missing or damaged.
    pub lost: u64,
    /// Slots that hold a sound record of another time or place.
    pub reordered: u64,
    /// Slots that hold something that nobody wrote.
    pub invented: u64,
    /// Sound records that continue another chain than ours.
    pub unchained: u64,
}
