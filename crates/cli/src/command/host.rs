//! `whimbrel host`.

use anyhow::{Context, Result};
use whimbrel_api::{
    client::ControllerClient,
    native::{self, NewJoinToken},
};

use super::server::word;
use crate::{args::Host, table};

pub async fn run(client: &ControllerClient, command: Host, json: bool) -> Result<()> {
    match command {
        Host::List => show(&client.hosts().await?, json),
        Host::Show { host } => details(&client.host(&host).await?, json),
        Host::Token { host } => {
            let host = host.parse().context("hint: a host is named as in its agent's configuration")?;
            let token = client.create_join_token(&NewJoinToken { host }).await?;
            if json {
                return table::print_json(&token);
            }
            println!("{}", token.token);
            Ok(())
        }
    }
}

fn show(hosts: &[native::Host], json: bool) -> Result<()> {
    if json {
        return table::print_json(&hosts);
    }
    let rows = hosts.iter().map(|host| {
        vec![
            host.name.to_string(),
            word(&host.state),
            host.servers.to_string(),
            format!("{} MB", host.facts.free_ram_mb()),
            table::bytes(host.facts.disk_free_bytes),
            format!("{} ({})", host.facts.qemu_version, host.facts.accel),
        ]
    });
    table::print(&["name", "state", "servers", "free ram", "free disk", "QEMU"], rows.collect());
    Ok(())
}

fn details(host: &native::Host, json: bool) -> Result<()> {
    if json {
        return table::print_json(host);
    }
    let facts = &host.facts;
    table::print_pairs(&[
        ("name", host.name.to_string()),
        ("state", word(&host.state)),
        ("servers", host.servers.to_string()),
        ("QEMU", format!("{} ({})", facts.qemu_version, facts.accel)),
        ("vcpus", facts.vcpus.to_string()),
        ("ram", format!("{} MB, {} MB used, {} MB free", facts.memory_mb, facts.memory_mb_used, facts.free_ram_mb())),
        ("disk", format!("{}, {} free", table::bytes(facts.disk_total_bytes), table::bytes(facts.disk_free_bytes))),
        ("bridges", facts.bridges.join(", ")),
        ("migration address", facts.migration_address.clone()),
    ]);
    Ok(())
}
