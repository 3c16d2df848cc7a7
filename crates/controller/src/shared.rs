//! Which hosts see a server's disks where they are.
//!
//! Ground rules: the hosts' own words, by the mark that each read on its storage, and the last ones where a host is down: its
//! disks are where they were; what is asked here holds for a plan, and the agents show each other the files before anything
//! rests on it.

use whimbrel_core::disk::Storage;
use whimbrel_store::HostRow;

/// Whether `other` can run the servers of `home` on the files that they have, without a copy. `home` may be down.
pub fn sees_disks_of(other: &HostRow, home: &HostRow) -> bool {
    match (&home.facts, &other.facts) {
        (Some(home), Some(other)) => home.storage_towards(other) == Storage::Shared,
        (Some(_) | None, _) => false,
    }
}
