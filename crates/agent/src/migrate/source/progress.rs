//! What a move shows while it runs: lanes, rate, time left. Looked at by whoever asks, never pushed.

use std::time::Instant;

use whimbrel_core::{
    convergence::Sample,
    estimate::{Estimator, Reading},
    progress::{DiskLane, Limiter, Progress, RamLane},
};
use whimbrel_transfer::counters::SendSnapshot;

use super::{
    road::{Facts, Road},
    stream::RamLook,
};

/// A rate is taken over at least this long.
const RATE_WINDOW_MS: u128 = 200;
/// More than this share of the rate made dirty again, and the guest's writes are what holds the move back.
const GUEST_WRITES_PERCENT: u64 = 70;

/// Kept between two looks.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    estimator: Estimator,
    last: Option<(Instant, u64, SendSnapshot)>,
    rate_bps: u64,
    limiter: Limiter,
}

impl Facts {
    /// After each look at QEMU.
    pub fn sampled(&mut self, sample: &Sample, ram: Option<&RamLook>) {
        self.progress.dirty_bps = sample.dirty_bps;
        self.dirty_bytes = sample.dirty_bytes;
        if let Some(ram) = ram {
            self.ram_total_bytes = ram.total_bytes;
            self.ram_left_bytes = ram.remaining_bytes;
            self.progress.ram.passes = ram.passes;
        }
    }
}

/// The progress of this moment.
pub fn look(road: &Road) -> Progress {
    let ram_done = road.ram.from_qemu.get();
    road.with_facts(|facts| {
        let Some(snapshot) = facts.counted() else { return facts.progress.clone() };
        facts.pace(&snapshot, ram_done);
        facts.progress.elapsed_ms = road.meter.total_ms();
        let lanes = facts.disks.iter().zip(&snapshot.disks).map(|(disk, counted)| DiskLane {
            name: disk.name.clone(),
            done_bytes: counted.done_bytes,
            total_bytes: counted.due_bytes.max(disk.due_bytes),
        });
        facts.progress.disks = lanes.collect();
        let ram_total_bytes = facts.ram_total_bytes.max(ram_done + facts.ram_left_bytes);
        facts.progress.ram = RamLane { done_bytes: ram_done, total_bytes: ram_total_bytes, ..facts.progress.ram };
        let disks = &facts.progress.disks;
        let disk_left: u64 = disks.iter().map(|lane| lane.total_bytes.saturating_sub(lane.done_bytes)).sum();
        let done_bytes = disks.iter().map(|lane| lane.done_bytes).sum::<u64>() + ram_done;
        let ram_left = if ram_done == 0 { facts.ram_total_bytes } else { facts.ram_left_bytes };
        facts.pace.estimator.feed(&Reading {
            done_bytes,
            left_bytes: disk_left + facts.dirty_bytes + ram_left,
            rate_bps: facts.pace.rate_bps,
            dirty_bps: facts.progress.dirty_bps,
        });
        facts.progress.permille = facts.pace.estimator.permille();
        facts.progress.remaining_ms = facts.pace.estimator.remaining_ms();
        facts.progress.rate_bps = facts.pace.rate_bps;
        facts.progress.limiter = facts.pace.limiter;
        facts.progress.clone()
    })
}

impl Facts {
    fn pace(&mut self, snapshot: &SendSnapshot, ram_done: u64) {
        let bytes = snapshot.wire_bytes + ram_done;
        let Some((at, before, earlier)) = &self.pace.last else {
            self.pace.last = Some((Instant::now(), bytes, snapshot.clone()));
            return;
        };
        let took = at.elapsed();
        if took.as_millis() < RATE_WINDOW_MS {
            return;
        }
        self.pace.rate_bps = (bytes.saturating_sub(*before) as f64 / took.as_secs_f64()) as u64;
        let dirty_heavy = self.progress.dirty_bps * 100 > self.pace.rate_bps * GUEST_WRITES_PERCENT;
        self.pace.limiter = match self.progress.round > 0 && dirty_heavy {
            true => Limiter::GuestWrites,
            false => snapshot.limiter_since(earlier, None),
        };
        self.pace.last = Some((Instant::now(), bytes, snapshot.clone()));
    }

    pub fn finished(&mut self) {
        self.pace.estimator.finish();
        self.progress.permille = 1_000;
        self.progress.remaining_ms = Some((0, 0));
    }
}
