//! `whimbrel move`.

use std::process::ExitCode;

use anyhow::Result;
use whimbrel_api::{
    agent::MoveOptions,
    client::ControllerClient,
    disk::CopyMode,
    failure::{Failure, FailureCode},
    native::{NewMigration, Plan},
};

use crate::{args::Move, table, watch};

pub async fn run(client: &ControllerClient, command: Move) -> Result<ExitCode> {
    let json = command.json;
    let new = NewMigration { host: command.host.clone(), options: options(&command) };
    if command.plan {
        let plan = client.plan(&command.server, &new).await?;
        return show_plan(&plan, json);
    }
    let migration = client.migrate(&command.server, &new).await.map_err(|failure| unsure(&command.server, failure))?;
    if command.detach {
        match json {
            true => table::print_json(&migration)?,
            false => println!("{}", migration.id),
        }
        return Ok(ExitCode::SUCCESS);
    }
    watch::follow(client, migration, json).await
}

/// A request whose answer was lost may have been taken.
fn unsure(server: &str, failure: Failure) -> Failure {
    if failure.code != FailureCode::HostDown {
        return failure;
    }
    let detail = format!("the move of {server} was asked for, but not confirmed: {}", failure.detail);
    let look = "once the controller answers, `whimbrel migration list` says whether the move began";
    let hint = failure.hint.map_or(look.to_owned(), |hint| format!("{hint} {look}"));
    Failure::new(failure.code, detail).hint(hint)
}

fn options(command: &Move) -> MoveOptions {
    let default = MoveOptions::default();
    MoveOptions {
        streams: command.streams.unwrap_or(default.streams),
        bandwidth_bps_max: command.bandwidth,
        downtime_ms_max: command.downtime_ms_max.unwrap_or(default.downtime_ms_max),
        deadline_ms: command.deadline.map(|seconds| seconds.saturating_mul(1_000)),
        allow_throttle: !command.no_throttle,
        allow_auto_converge: !command.no_throttle,
        verify: !command.no_verify,
    }
}

fn show_plan(plan: &Plan, json: bool) -> Result<ExitCode> {
    let code = if plan.reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        table::print_json(plan)?;
        return Ok(code);
    }
    let mode = match plan.mode {
        CopyMode::Full => "full",
        CopyMode::Delta => "delta",
        CopyMode::Digest => "digest",
        CopyMode::Shared => "shared",
    };
    table::print_pairs(&[
        ("server", plan.server.clone()),
        ("from", plan.source.to_string()),
        ("to", plan.target.as_ref().map_or("nowhere".to_owned(), ToString::to_string)),
        ("mode", mode.to_owned()),
        ("disks", table::bytes(plan.disk_bytes)),
        ("RAM", table::bytes(plan.ram_bytes)),
        ("time", format!("{} to {}", table::time_ms(plan.time_ms.0), table::time_ms(plan.time_ms.1))),
        ("downtime", format!("{} to {}", table::time_ms(plan.downtime_ms.0), table::time_ms(plan.downtime_ms.1))),
    ]);
    for (at, step) in plan.steps.iter().enumerate() {
        println!("{:2}. {step}", at + 1);
    }
    for (host, reasons) in &plan.why_not {
        for reason in reasons {
            println!("not {host}: {reason}");
        }
    }
    for reason in &plan.reasons {
        eprintln!("error: {reason}");
        if let Some(hint) = &reason.hint {
            eprintln!("hint: {hint}");
        }
    }
    Ok(code)
}
