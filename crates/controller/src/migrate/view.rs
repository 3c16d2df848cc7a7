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
    Observed,
    watch::{is_over, of_word},
};
use crate::app::App;

pub fn view(app: &App, row: MigrationRow) -> Migration {
    let observed = app.drivers.of(row.id).map(|driven| driven.observed()).unwrap_or_default();
    let verification = of_word(row.verification.as_deref());
    let ended = row.phase.is_end();
    Migration {
        status: status(&row, verification),
        step: step(&row, &observed),
        guest_at: guest_at(&row, &observed),
        failure: failure(&row, verification),
        cleaned_up: row.cleaned_up.clone().or_else(|| cleaned_up(&row)),
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
        Phase::Done(Outcome::Completed) if verifies(row) && !is_over(verification) => MigrationStatus::Verifying,
        Phase::Done(Outcome::Completed) => MigrationStatus::Completed,
        Phase::Done(Outcome::Cancelled) => MigrationStatus::Cancelled,
        Phase::Done(Outcome::Failed { .. }) => MigrationStatus::Failed,
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
        Phase::Queued | Phase::Done(_) => None,
    };
    let told = || observed.step().unwrap_or_else(|| row.step.clone());
    waited.unwrap_or_else(|| if row.phase.is_end() { row.step.clone() } else { told() })
}

/// Where the guest runs now, as far as anybody can say.
fn guest_at(row: &MigrationRow, observed: &Observed) -> Option<HostName> {
    let side = match &row.phase {
        // The source was never asked.
        Phase::Queued | Phase::Preparing => Some(Side::Source),
        Phase::Running | Phase::Cancelling { .. } => last_seen_at(observed),
        Phase::Clearing { .. } | Phase::Settling | Phase::Done(_) => row.phase.guest_at(),
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

/// These ends are reached only through the sides' own durable word that they are clean.
fn cleaned_up(row: &MigrationRow) -> Option<String> {
    let side = match &row.phase {
        Phase::Done(Outcome::Cancelled) => Side::Source,
        Phase::Done(Outcome::Failed { guest_at, .. }) => *guest_at,
        Phase::Done(Outcome::Completed)
        | Phase::Queued
        | Phase::Preparing
        | Phase::Running
        | Phase::Cancelling { .. }
        | Phase::Clearing { .. }
        | Phase::Settling => return None,
    };
    match side {
        Side::Source => Some(format!(
            "host '{}' holds nothing of this migration any more; on host '{}' the server is as it was before",
            row.target, row.source
        )),
        Side::Target => None,
    }
}
