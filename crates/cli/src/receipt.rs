//! The receipt of a move, for people.

use whimbrel_api::{
    agent::Verification,
    disk::CopyMode,
    receipt::{CpuSeconds, Receipt},
};

use crate::table;

pub fn print(receipt: &Receipt, verification: Verification, names: (&str, &str)) {
    let (server, _) = names;
    println!(
        "{server} moved from {} to {} in {}; it stood still for {:.0} ms.",
        receipt.source,
        receipt.target,
        table::time_ms(receipt.total_ms),
        receipt.downtime_ms
    );
    let rows = receipt.disks.iter().map(|disk| {
        vec![
            disk.name.to_string(),
            table::bytes(disk.virtual_bytes),
            table::bytes(disk.allocated_bytes),
            table::bytes(disk.sent_bytes),
            table::bytes(disk.reused_bytes),
            if disk.verified { "yes" } else { "no" }.to_owned(),
        ]
    });
    table::print(&["disk", "size", "allocated", "sent", "reused", "verified"], rows.collect());
    let unknown = || "not known (a short move, or a guest of no steady rate)".to_owned();
    let ratio = receipt.guest_write_ratio.map_or_else(unknown, |ratio| format!("{ratio:.2}"));
    table::print_pairs(&[
        ("mode", mode(receipt.mode).to_owned()),
        ("RAM", format!("{} in {} passes", table::bytes(receipt.ram.sent_bytes), receipt.ram.rounds)),
        ("on the wire", table::bytes(receipt.wire_bytes)),
        ("CPU", cpu(receipt.cpu_seconds)),
        ("guest's write rate during / before", ratio),
        ("verification", verification_words(verification).to_owned()),
        ("migration", receipt.migration_id.to_string()),
    ]);
}

fn cpu(seconds: CpuSeconds) -> String {
    let target = seconds.target.map_or("?".to_owned(), |target| format!("{target:.1}"));
    format!("{:.1} s source, {target} s target", seconds.source)
}

fn mode(mode: CopyMode) -> &'static str {
    match mode {
        CopyMode::Full => "full: every allocated byte",
        CopyMode::Delta => "delta: only what changed since the last move",
        CopyMode::Digest => "digest: only what differs from the copy there",
        CopyMode::Shared => "shared: only RAM, the disks lie where both hosts see them",
    }
}

fn verification_words(verification: Verification) -> &'static str {
    match verification {
        Verification::None => "not asked for",
        Verification::Running => "under way",
        Verification::Equal => "every disk is equal to its frozen source",
        Verification::Different => "DISKS DIFFER: keep the retained copy and look at the agents' logs",
        Verification::Failed => "could not be finished; the guest is not affected",
        Verification::Superseded => "ended by a later move of the server",
    }
}
