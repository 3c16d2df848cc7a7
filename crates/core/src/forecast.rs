//! What a move would cost, said before it begins (`--plan`).
//!
//! Ground rules: a range, never one number; at best the guest writes nothing, at worst it goes on as now and the link gives
//! `LINK_PERCENT_WORST` of its rate. An upper bound that does not exist is `None`, not a large number. Rates are bytes per
//! second.

use serde::{Deserialize, Serialize};

use crate::convergence::{Limits, SWITCH_FIXED_MS, ratio};

/// 1 Gbit/s, less headers: assumed where neither host knows its link.
pub const LINK_BPS_UNKNOWN: u64 = 117_000_000;
const LINK_PERCENT_WORST: u64 = 60;
/// Plan, files, storage daemon, target QEMU: before and after the copy.
const SETUP_MS: u64 = 800;
/// Shortest round that the copy can turn round in.
const ROUND_MS_MIN: u64 = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Allocated bytes of all disks that the target does not have yet.
    pub disk_bytes: u64,
    /// Base images that must travel first.
    pub base_bytes: u64,
    /// RAM that the guest has touched, or all of it.
    pub ram_bytes: u64,
    /// The slower of both hosts, if known.
    pub link_bps: Option<u64>,
    /// The slower of the source's reads and the target's writes, if known.
    pub disk_bps: Option<u64>,
    /// Disk bytes that the guest writes now.
    pub dirty_bps: u64,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// On the wire: at best, at worst (`None`: the guest writes as fast as the link).
    pub bytes: (u64, Option<u64>),
    pub total_ms: (u64, Option<u64>),
    pub downtime_ms: (u64, u64),
    /// The rate that was reckoned with.
    pub rate_bps: u64,
    /// Was the link's rate known, or assumed?
    pub rate_known: bool,
    /// The guest writes too fast for the link: without a throttle or a longer pause it will not finish.
    pub needs_throttle: bool,
}

pub fn forecast(question: &Question) -> Forecast {
    let link_bps = question.link_bps.unwrap_or(LINK_BPS_UNKNOWN).max(1);
    let rate_bps = question.disk_bps.map_or(link_bps, |disk_bps| link_bps.min(disk_bps.max(1)));
    let worst_bps = (rate_bps / 100 * LINK_PERCENT_WORST).max(1);
    let first = question.disk_bytes.saturating_add(question.base_bytes).saturating_add(question.ram_bytes);

    // The rounds are a geometric series: all that is written while bytes travel must travel too.
    let worst_bytes = worst_bps
        .checked_sub(question.dirty_bps)
        .filter(|spare_bps| *spare_bps > 0)
        .map(|spare_bps| ratio(first, worst_bps, spare_bps));
    let best_ms = SETUP_MS.saturating_add(ratio(first, 1_000, rate_bps));
    let worst_ms = worst_bytes.map(|bytes| (2 * SETUP_MS).saturating_add(ratio(bytes, 1_000, worst_bps)));

    Forecast {
        bytes: (first, worst_bytes),
        total_ms: (best_ms, worst_ms),
        downtime_ms: downtime_ms(question, worst_bps),
        rate_bps,
        rate_known: question.link_bps.is_some(),
        needs_throttle: worst_bytes.is_none(),
    }
}

/// At best only the fixed part; at worst one shortest round of writes on top of it, but the policy stops the guest only when
/// what is left fits the budget.
fn downtime_ms(question: &Question, worst_bps: u64) -> (u64, u64) {
    let budget_ms = question.limits.downtime_ms_max.max(question.limits.pause_ms_max);
    let last_round_bytes = ratio(question.dirty_bps, ROUND_MS_MIN + SWITCH_FIXED_MS, 1_000);
    let worst_ms = (2 * SWITCH_FIXED_MS).saturating_add(ratio(last_round_bytes, 1_000, worst_bps));
    (SWITCH_FIXED_MS.min(budget_ms), worst_ms.min(budget_ms))
}
