//! What a running transfer tells of itself, readable at any time without stopping it.
//!
//! All counters only rise. A rate or a limiter is the difference of two snapshots.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use whimbrel_core::progress::Limiter;

/// A side that waits less than this share of the time for something is not held back by it.
const LIMITER_SHARE_PERCENT: u64 = 40;

/// One counter that only rises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
    /// Adds the microseconds that passed since `start`.
    pub fn add_since(&self, start: Instant) {
        self.add(start.elapsed().as_micros() as u64);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Of one disk, over all rounds.
#[derive(Debug, Default)]
pub struct DiskCounters {
    pub due: Count,
    pub done: Count,
    pub sent: Count,
    pub zero: Count,
    pub reused: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSnapshot {
    /// Bytes that the rounds so far have found to be looked at (rises while a round's extents are read).
    pub due_bytes: u64,
    /// Bytes of those that were shipped or found unneeded.
    pub done_bytes: u64,
    /// Payload bytes given to the link.
    pub sent_bytes: u64,
    /// Bytes told to the target (or, onto a fresh image, left) as zeros.
    pub zero_bytes: u64,
    /// Bytes that did not travel as the target had them.
    pub reused_bytes: u64,
}

impl DiskSnapshot {
    pub fn add(&mut self, more: &DiskSnapshot) {
        self.due_bytes += more.due_bytes;
        self.done_bytes += more.done_bytes;
        self.sent_bytes += more.sent_bytes;
        self.zero_bytes += more.zero_bytes;
        self.reused_bytes += more.reused_bytes;
    }
}

impl DiskCounters {
    fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot {
            due_bytes: self.due.get(),
            done_bytes: self.done.get(),
            sent_bytes: self.sent.get(),
            zero_bytes: self.zero.get(),
            reused_bytes: self.reused.get(),
        }
    }
}

/// Of the source side.
#[derive(Debug)]
pub struct SendCounters {
    pub(crate) disks: Vec<DiskCounters>,
    pub(crate) wire: Count,
    pub(crate) starved_us: Count,
    pub(crate) blocked_us: Count,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendSnapshot {
    /// In the order of the disks given to `Sender::start`.
    pub disks: Vec<DiskSnapshot>,
    /// Bytes given to the streams, frame headers included, before TLS.
    pub wire_bytes: u64,
    /// Time within rounds that streams waited for data to be read, summed over the streams.
    pub starved_us: u64,
    /// Time that streams waited for the link (or the target behind it), summed over the streams.
    pub blocked_us: u64,
}

impl SendCounters {
    pub(crate) fn new(disks: usize) -> Self {
        SendCounters {
            disks: (0..disks).map(|_| DiskCounters::default()).collect(),
            wire: Count::default(),
            starved_us: Count::default(),
            blocked_us: Count::default(),
        }
    }

    pub fn snapshot(&self) -> SendSnapshot {
        SendSnapshot {
            disks: self.disks.iter().map(DiskCounters::snapshot).collect(),
            wire_bytes: self.wire.get(),
            starved_us: self.starved_us.get(),
            blocked_us: self.blocked_us.get(),
        }
    }
}

impl SendSnapshot {
    /// What held the copy back since `earlier`. `target` are the target's two snapshots of about the same times, where
    /// known: without them a slow target cannot be told from a slow link.
    pub fn limiter_since(
        &self,
        earlier: &SendSnapshot,
        target: Option<(&ReceiveSnapshot, &ReceiveSnapshot)>,
    ) -> Limiter {
        let starved = self.starved_us - earlier.starved_us;
        let blocked = self.blocked_us - earlier.blocked_us;
        let total = starved + blocked;
        if total == 0 {
            return Limiter::Unknown;
        }
        if blocked * 100 / total < LIMITER_SHARE_PERCENT {
            return Limiter::SourceRead;
        }
        match target {
            Some((now, before)) if now.blocked_us - before.blocked_us > now.starved_us - before.starved_us => {
                Limiter::TargetWrite
            }
            Some(_) | None => Limiter::Link,
        }
    }
}

/// Of the target side.
#[derive(Debug, Default)]
pub struct ReceiveCounters {
    pub(crate) received: Count,
    pub(crate) zero: Count,
    pub(crate) written: Count,
    pub(crate) starved_us: Count,
    pub(crate) blocked_us: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReceiveSnapshot {
    /// Payload bytes that came in.
    pub received_bytes: u64,
    /// Bytes that came in as zeros.
    pub zero_bytes: u64,
    /// Bytes of both whose write was confirmed.
    pub written_bytes: u64,
    /// Time that streams waited for the link, summed over the streams.
    pub starved_us: u64,
    /// Time that streams waited for the storage daemon, summed over the streams.
    pub blocked_us: u64,
}

impl ReceiveCounters {
    pub fn snapshot(&self) -> ReceiveSnapshot {
        ReceiveSnapshot {
            received_bytes: self.received.get(),
            zero_bytes: self.zero.get(),
            written_bytes: self.written.get(),
            starved_us: self.starved_us.get(),
            blocked_us: self.blocked_us.get(),
        }
    }
}

/// Of a RAM tunnel, seen from QEMU: `from_qemu` left the local QEMU, `to_qemu` was given to it.
#[derive(Debug, Default)]
pub struct TunnelCounters {
    pub from_qemu: Count,
    pub to_qemu: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_is_the_side_that_is_waited_for() {
        let at = |starved_us, blocked_us| SendSnapshot { disks: vec![], wire_bytes: 0, starved_us, blocked_us };
        let target = |starved_us, blocked_us| ReceiveSnapshot { starved_us, blocked_us, ..Default::default() };
        let zero = at(0, 0);
        let (idle, slow) = ((target(90, 10), target(0, 0)), (target(10, 90), target(0, 0)));
        for (now, peer, want) in [
            (at(0, 0), None, Limiter::Unknown),
            (at(90, 10), Some(&slow), Limiter::SourceRead),
            (at(10, 90), None, Limiter::Link),
            (at(10, 90), Some(&idle), Limiter::Link),
            (at(10, 90), Some(&slow), Limiter::TargetWrite),
        ] {
            assert_eq!(now.limiter_since(&zero, peer.map(|(now, before)| (now, before))), want);
        }
    }
}
