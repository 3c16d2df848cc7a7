//! Puts the receipt of a finished move together.

use std::sync::atomic::Ordering;

use whimbrel_core::{
    disk::CopyMode,
    instance::MovedAs,
    receipt::{CpuSeconds, DiskReceipt, RamReceipt, Receipt},
};

use super::road::{Reused, Road, Spent};
use crate::{cpu, sampler::UsualWrites, wire};

/// Rates below this are noise: no ratio is made of them.
const WRITE_BPS_MIN: u64 = 64 << 10;

/// Where the counters stand now; taken when the move begins and once more for the receipt.
pub fn spent_now(road: &Road) -> Spent {
    let pid = road.instance.vm().map(|vm| vm.pid());
    Spent {
        agent_s: cpu::self_seconds(),
        qemu_s: pid.and_then(cpu::seconds_of).unwrap_or_default(),
        qemu_idle_rate: road.instance.cpu_rate(),
        wire_sent_bytes: wire::bytes_of(road.context.data_address().ip()).unwrap_or_default().sent,
    }
}

/// Called once the guest runs on the target; `now` was read before the source's QEMU ended.
pub fn receipt(road: &Road, now: Spent) -> Receipt {
    let target = road.meter.target();
    let downtime_ms = match road.moved_as {
        MovedAs::Running | MovedAs::Paused => road.meter.downtime_ms(),
        MovedAs::Off => 0.0,
    };
    road.with_facts(|facts| {
        let elapsed_s = road.meter.total_ms() as f64 / 1e3;
        let before = facts.spent_before;
        let qemu_s = (now.qemu_s - before.qemu_s - before.qemu_idle_rate * elapsed_s).max(0.0);
        let counted = facts.counted().map(|counted| counted.disks).unwrap_or_default();
        let disks = facts.disks.iter().zip(counted).map(|(disk, counted)| DiskReceipt {
            name: disk.name.clone(),
            virtual_bytes: disk.virtual_bytes,
            allocated_bytes: disk.allocated_bytes,
            sent_bytes: counted.sent_bytes,
            zero_bytes: counted.zero_bytes,
            reused_bytes: match disk.reused {
                Reused::Counted => counted.reused_bytes,
                Reused::Base { bytes } => bytes,
                Reused::AllBut => disk.allocated_bytes.saturating_sub(counted.sent_bytes + counted.zero_bytes),
            },
            verified: false,
            digest: String::new(),
        });
        Receipt {
            migration_id: road.ask.migration,
            server: road.ask.instance,
            source: road.context.host().clone(),
            target: road.ask.target.clone(),
            epoch: road.ask.epoch,
            mode: facts.mode.unwrap_or(CopyMode::Full),
            total_ms: road.meter.total_ms(),
            downtime_ms,
            phases_ms: road.meter.phases_ms(),
            disks: disks.collect(),
            ram: RamReceipt { sent_bytes: facts.ram_sent_bytes, rounds: facts.ram_rounds },
            wire_bytes: now.wire_sent_bytes.saturating_sub(before.wire_sent_bytes),
            cpu_seconds: CpuSeconds {
                source: now.agent_s - before.agent_s + qemu_s,
                target: target.map(|target| target.cpu_seconds),
            },
            guest_write_ratio: write_ratio(road, facts.writes_before),
        }
    })
}

/// From the first byte to the stop, over what is usual for the guest.
fn write_ratio(road: &Road, before: Option<UsualWrites>) -> Option<f64> {
    let before = before?;
    let stop = road.written_at_stop.load(Ordering::SeqCst);
    let bytes = stop.saturating_sub(road.written_at_start.load(Ordering::SeqCst));
    let took = road.meter.copied_for();
    let known = before.bps >= WRITE_BPS_MIN && took >= before.telling;
    known.then(|| bytes as f64 / took.as_secs_f64() / before.bps as f64)
}
