//! A migration as clients see it: the stored row, and what is known in memory of one under way.

use whimbrel_api::{
    agent::{MoveOptions, Verification},
    native::{Migration, MigrationStatus},
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::HostName,
    migration::{
        coordinator::{Outcome, Phase, Side},
        source, target,
    },
};
use whimbrel_store::MigrationRow;

use super::{
    Observed, debt,
    watch::{is_over, of_word},
};
use crate::app::App;

pub fn view(app: &App, row: MigrationRow) -> Migration {
    let observed = app.drivers.of(row.id).map(|driven| driven.observed()).unwrap_or_default();
    let verification = of_word(row.verification.as_deref());
    let ended = row.phase.is_over();
    Migration {
        status: status(&row, verification),
        step: step(&row, &observed),
        guest_at: guest_at(&row, &observed),
        failure: failure(&row, verification),
        cleaned_up: row.cleaned_up.clone().or_else(|| cleaned_up(&row)),
        left_behind: debt::in_words(&row, observed.target_silence.as_ref()),
        id: row.id,
        server: row.instance,
        server_name: row.instance_name,
        source: row.source,
        target: row.target,
        epoch: row.epoch,
        progress: observed.progress.filter(|_| !ended).or(row.progress),
        receipt: row.receipt,
        verification,
        created_us: row.created_us,
        finished_us: row.finished_us,
    }
}

fn status(row: &MigrationRow, verification: Verification) -> MigrationStatus {
    match &row.phase {
        Phase::Queued => MigrationStatus::Queued,
        Phase::Preparing => MigrationStatus::Preparing,
        Phase::Running | Phase::Settling => MigrationStatus::Running,
        Phase::Cancelling { .. } | Phase::Clearing { .. } => MigrationStatus::Cancelling,
        Phase::Owing { .. } | Phase::Done(_) => match row.phase.outcome() {
            Some(Outcome::Completed) if verifies(row) && !is_over(verification) => MigrationStatus::Verifying,
            Some(Outcome::Completed) => MigrationStatus::Completed,
            Some(Outcome::Cancelled) => MigrationStatus::Cancelled,
            Some(Outcome::Failed { .. }) | None => MigrationStatus::Failed,
        },
    }
}

fn verifies(row: &MigrationRow) -> bool {
    serde_json::from_value::<MoveOptions>(row.options.clone()).unwrap_or_default().verify
}

/// While a side is waited for, that is what is told.
fn step(row: &MigrationRow, observed: &Observed) -> String {
    let waits = |host: &HostName, silence: &Option<Failure>| {
        silence.as_ref().map(|failure| format!("waiting for host '{host}': {}", failure.detail))
    };
    let waited = match &row.phase {
        Phase::Preparing | Phase::Clearing { .. } => waits(&row.target, &observed.target_silence),
        Phase::Running | Phase::Cancelling { .. } | Phase::Settling => waits(&row.source, &observed.source_silence),
        Phase::Queued | Phase::Owing { .. } | Phase::Done(_) => None,
    };
    let told = || observed.step().unwrap_or_else(|| row.step.clone());
    waited.unwrap_or_else(|| if row.phase.is_over() { row.step.clone() } else { told() })
}

/// Where the guest runs now, as far as anybody can say.
fn guest_at(row: &MigrationRow, observed: &Observed) -> Option<HostName> {
    let side = match &row.phase {
        // The source was never asked.
        Phase::Queued | Phase::Preparing => Some(Side::Source),
        Phase::Running | Phase::Cancelling { .. } => last_seen_at(observed),
        Phase::Clearing { .. } | Phase::Owing { .. } | Phase::Settling | Phase::Done(_) => row.phase.guest_at(),
    };
    side.map(|side| match side {
        Side::Source => row.source.clone(),
        Side::Target => row.target.clone(),
    })
}

fn last_seen_at(observed: &Observed) -> Option<Side> {
    if observed.target == Some(target::Phase::Running) {
        return Some(Side::Target);
    }
    match observed.source.as_ref()? {
        source::Phase::Idle
        | source::Phase::Preparing
        | source::Phase::Copying
        | source::Phase::Switching(_)
        | source::Phase::Aborting { .. }
        | source::Phase::Aborted { .. }
        | source::Phase::Reowned { .. } => Some(Side::Source),
        source::Phase::HandedOver { .. } => Some(Side::Target),
        // The target will run it, or give it back.
        source::Phase::Committed => None,
    }
}

fn failure(row: &MigrationRow, verification: Verification) -> Option<Failure> {
    if verification != Verification::Different {
        return row.failure.clone();
    }
    let disks: Vec<&str> = row
        .receipt
        .iter()
        .flat_map(|receipt| &receipt.disks)
        .filter(|disk| !disk.verified)
        .map(|disk| disk.name.as_str())
        .collect();
    let detail = format!(
        "server '{}' runs on host '{}', but its disks ({}) differ from those left on host '{}'",
        row.instance_name,
        row.target,
        if disks.is_empty() { "which ones was not told".to_owned() } else { disks.join(", ") },
        row.source
    );
    Some(
        Failure::new(FailureCode::Corrupt, detail)
            .hint("stop the server and keep both copies; the copy on the source is the one from before the move"),
    )
}

/// As the sides have durably said.
fn cleaned_up(row: &MigrationRow) -> Option<String> {
    let source = format!("on host '{}' the server is as it was before", row.source);
    match &row.phase {
        Phase::Done(Outcome::Cancelled | Outcome::Failed { guest_at: Side::Source, .. }) => {
            Some(format!("host '{}' holds nothing of this migration any more; {source}", row.target))
        }
        Phase::Owing { .. } => Some(source),
        Phase::Done(Outcome::Completed | Outcome::Failed { guest_at: Side::Target, .. })
        | Phase::Queued
        | Phase::Preparing
        | Phase::Running
        | Phase::Cancelling { .. }
        | Phase::Clearing { .. }
        | Phase::Settling => None,
    }
}
