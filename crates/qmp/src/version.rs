//! QEMU's version, and the few bugs that can only be told by it.
//!
//! Features are probed (`features.rs`). A bug cannot be probed without triggering it, so this is the one place
//! that compares versions. A distribution may have backported a fix without a new number: the answer errs on the
//! side of "affected", and every remedy is one that costs little.

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    #[serde(rename = "qemu")]
    pub number: VersionNumber,
    /// The distribution's own name of the build.
    #[serde(default)]
    pub package: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct VersionNumber {
    pub major: u32,
    pub minor: u32,
    #[serde(default)]
    pub micro: u32,
}

impl Version {
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.number.major, self.number.minor) >= (major, minor)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let VersionNumber { major, minor, micro } = self.number;
        write!(f, "{major}.{minor}.{micro}")
    }
}

/// Bugs that change how a guest must be run or moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownBugs {
    /// A client that leaves an NBD export of an iothread disk aborts QEMU: give guests no iothread.
    pub iothread_export_aborts: bool,
    /// A `sync=full` mirror of a sparse source loses writes at its start and reports success.
    pub mirror_startup_loses_writes: bool,
    /// A target maps multifd channels by the order of connection: the main channel must connect first.
    pub multifd_maps_by_order: bool,
    /// `write-blocking` mirrors touch state before it is set up when started that way.
    pub write_blocking_start_crashes: bool,
    /// A job's speed limit is exceeded each time that the job is entered again.
    pub job_speed_exceeded: bool,
}

pub fn known_bugs(version: &Version) -> KnownBugs {
    let below = |major, minor| !version.at_least(major, minor);
    KnownBugs {
        iothread_export_aborts: below(9, 0),
        mirror_startup_loses_writes: version.at_least(8, 2) && below(11, 0),
        multifd_maps_by_order: below(8, 0),
        write_blocking_start_crashes: below(8, 0),
        job_speed_exceeded: below(8, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{Version, VersionNumber, known_bugs};

    #[test]
    fn bugs_follow_the_version() {
        let check = |major, minor, micro, want: [bool; 5]| {
            let number = VersionNumber { major, minor, micro };
            let bugs = known_bugs(&Version { number, package: String::new() });
            let got = [
                bugs.iothread_export_aborts,
                bugs.mirror_startup_loses_writes,
                bugs.multifd_maps_by_order,
                bugs.write_blocking_start_crashes,
                bugs.job_speed_exceeded,
            ];
            assert_eq!(got, want, "{major}.{minor}.{micro}");
        };
        check(7, 2, 22, [true, false, true, true, true]);
        check(8, 0, 0, [true, false, false, false, true]);
        check(8, 1, 5, [true, false, false, false, false]);
        check(8, 2, 0, [true, true, false, false, false]);
        check(9, 0, 0, [false, true, false, false, false]);
        check(10, 2, 1, [false, true, false, false, false]);
        check(11, 0, 0, [false, false, false, false, false]);
    }
}
