//! `whimbrel migration`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use whimbrel_api::{client::ControllerClient, id::MigrationId, native};

use super::server::word;
use crate::{args::Migration, receipt, table, watch};

pub async fn run(client: &ControllerClient, command: Migration, json: bool) -> Result<ExitCode> {
    match command {
        Migration::List => show(&client.migrations().await?, json)?,
        Migration::Show { migration } => details(&client.migration(id(&migration)?).await?, json)?,
        Migration::Watch { migration } => {
            let first = client.migration(id(&migration)?).await?;
            return watch::follow(client, first, json).await;
        }
        Migration::Cancel { migration } => details(&client.cancel_migration(id(&migration)?).await?, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn id(text: &str) -> Result<MigrationId> {
    text.parse().with_context(|| format!("'{text}' is no migration id (see `whimbrel migration list`)"))
}

fn show(migrations: &[native::Migration], json: bool) -> Result<()> {
    if json {
        return table::print_json(&migrations);
    }
    let rows = migrations.iter().map(|each| {
        let percent = each.progress.as_ref().map_or("-".to_owned(), |now| format!("{} %", now.permille / 10));
        vec![
            each.id.to_string(),
            each.server_name.clone(),
            each.source.to_string(),
            each.target.to_string(),
            word(&each.status),
            percent,
        ]
    });
    table::print(&["id", "server", "source", "target", "status", "done"], rows.collect());
    Ok(())
}

fn details(migration: &native::Migration, json: bool) -> Result<()> {
    if json {
        return table::print_json(migration);
    }
    let mut pairs = vec![
        ("id", migration.id.to_string()),
        ("server", migration.server_name.clone()),
        ("from", migration.source.to_string()),
        ("to", migration.target.to_string()),
        ("status", word(&migration.status)),
        ("now", migration.step.clone()),
    ];
    if let Some(host) = &migration.guest_at {
        pairs.push(("guest is at", host.to_string()));
    }
    if let Some(failure) = &migration.failure {
        pairs.push(("failure", failure.to_string()));
    }
    if let Some(cleaned_up) = &migration.cleaned_up {
        pairs.push(("cleaned up", cleaned_up.clone()));
    }
    if let Some(left_behind) = &migration.left_behind {
        pairs.push(("left behind", left_behind.clone()));
    }
    table::print_pairs(&pairs);
    if let Some(receipt) = &migration.receipt {
        println!();
        receipt::print(receipt, migration.verification, (&migration.server_name, ""));
    }
    Ok(())
}
