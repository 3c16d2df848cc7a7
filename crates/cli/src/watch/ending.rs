//! How a move ended, for people and for scripts.

use std::process::ExitCode;

use anyhow::Result;
use whimbrel_api::{
    failure::Failure,
    native::{Migration, MigrationStatus},
};

use crate::{failure::CANCELLED, receipt, table};

pub(super) fn finish(migration: &Migration, json: bool) -> Result<ExitCode> {
    match (&migration.status, &migration.receipt) {
        (MigrationStatus::Completed, Some(receipt)) if json => table::print_json(receipt)?,
        (MigrationStatus::Completed, Some(receipt)) => {
            receipt::print(receipt, migration.verification, (&migration.server_name, ""));
        }
        (MigrationStatus::Completed, None) if json => table::print_json(migration)?,
        (MigrationStatus::Completed, None) => println!("{} moved to {}", migration.server_name, migration.target),
        (MigrationStatus::Cancelled, _) => {
            say_ending(migration, "was cancelled", json)?;
            return Ok(ExitCode::from(CANCELLED));
        }
        _ => {
            say_ending(migration, "failed", json)?;
            return Ok(ExitCode::FAILURE);
        }
    }
    match &migration.failure {
        Some(failure) => {
            eprintln!("error: {failure}");
            Ok(ExitCode::FAILURE)
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What failed, where the guest runs now, what was cleaned up, what to do.
fn say_ending(migration: &Migration, what: &str, json: bool) -> Result<()> {
    if json {
        table::print_json(migration)?;
    }
    let why = migration.failure.as_ref().map_or(String::new(), |failure| format!(": {failure}"));
    eprintln!(
        "error: the move of {} from {} to {} {what}{why}",
        migration.server_name, migration.source, migration.target
    );
    match &migration.guest_at {
        Some(host) => eprintln!("the guest is at {host} now"),
        None => eprintln!("where the guest is cannot be said yet: see `whimbrel migration show {}`", migration.id),
    }
    if let Some(cleaned_up) = &migration.cleaned_up {
        eprintln!("cleaned up: {cleaned_up}");
    }
    if let Some(left_behind) = &migration.left_behind {
        eprintln!("left to be cleaned up: {left_behind}");
    }
    if let Some(hint) = migration.failure.as_ref().and_then(|failure: &Failure| failure.hint.as_ref()) {
        eprintln!("hint: {hint}");
    }
    Ok(())
}
