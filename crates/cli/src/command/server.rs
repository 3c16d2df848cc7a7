//! `whimbrel server`.

use std::process::ExitCode;

use anyhow::Result;
use whimbrel_api::{
    client::ControllerClient,
    native::{self, NewServer},
};

use super::plan;
use crate::{args::Server, table};

pub async fn run(client: &ControllerClient, command: Server, json: bool) -> Result<ExitCode> {
    match command {
        Server::Plan { server, host } => return plan::of_server(client, &server, host, json).await,
        Server::List => show(&client.servers().await?, json)?,
        Server::Show { server } => details(&client.server(&server).await?, json)?,
        Server::Start { server } => details(&client.start_server(&server).await?, json)?,
        Server::Stop { server } => details(&client.stop_server(&server).await?, json)?,
        Server::Delete { server } => client.delete_server(&server).await?,
        Server::Create { name, flavor, image, host, networks, command_line, iothreads, machine, plan } => {
            let new = NewServer {
                name,
                flavor,
                image,
                host,
                networks,
                os_command_line: command_line,
                iothreads,
                machine,
                config_drive: false,
                user_data: None,
            };
            if plan {
                return plan::of_new_server(client, &new, json).await;
            }
            details(&client.create_server(&new).await?, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(servers: &[native::Server], json: bool) -> Result<()> {
    if json {
        return table::print_json(&servers);
    }
    let rows = servers.iter().map(|server| {
        let host = server.host.as_ref().map_or("-".to_owned(), ToString::to_string);
        vec![server.name.clone(), word(&server.status), host, table::rate(server.write_bps), server.id.to_string()]
    });
    table::print(&["name", "status", "host", "writes", "id"], rows.collect());
    Ok(())
}

fn details(server: &native::Server, json: bool) -> Result<()> {
    if json {
        return table::print_json(server);
    }
    let disk = |disk: &whimbrel_api::disk::DiskSpec| format!("{} {}", disk.name, table::bytes(disk.virtual_bytes));
    let disks: Vec<String> = server.spec.disks.iter().map(disk).collect();
    let mut pairs = vec![
        ("name", server.name.clone()),
        ("id", server.id.to_string()),
        ("status", word(&server.status)),
        ("host", server.host.as_ref().map_or("-".to_owned(), ToString::to_string)),
        ("epoch", server.epoch.to_string()),
        ("vcpus", server.spec.vcpus.to_string()),
        ("ram", format!("{} MB", server.spec.ram_mb)),
        ("disks", disks.join(", ")),
        ("writes", table::rate(server.write_bps)),
    ];
    if let Some(migration) = server.migration {
        pairs.push(("migration", migration.to_string()));
    }
    if let Some(failure) = &server.failure {
        pairs.push(("failure", failure.to_string()));
    }
    table::print_pairs(&pairs);
    Ok(())
}

/// A status as it is written in JSON.
pub fn word(status: &impl serde::Serialize) -> String {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
