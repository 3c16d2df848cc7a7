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
            state(host),
            host.servers.to_string(),
            format!("{} MB", host.facts.free_ram_mb()),
            table::bytes(host.facts.disk_free_bytes),
            format!("{} ({})", host.facts.qemu_version, host.facts.accel),
        ]
    });
    table::print(&["name", "state", "servers", "free ram", "free disk", "QEMU"], rows.collect());
    Ok(())
}

/// `up, disabled (kernel)`
fn state(host: &native::Host) -> String {
    let mut words = vec![word(&host.state)];
    if host.forced_down {
        words.push("forced down".to_owned());
    }
    if host.disabled {
        let reason = host.disabled_reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        words.push(format!("disabled{reason}"));
    }
    words.join(", ")
}

fn details(host: &native::Host, json: bool) -> Result<()> {
    if json {
        return table::print_json(host);
    }
    let facts = &host.facts;
    table::print_pairs(&[
        ("name", host.name.to_string()),
        ("state", state(host)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_takes_no_servers_says_so() {
        let check = |more: serde_json::Value, want: &str| {
            let mut host = serde_json::json!({"name": "h1", "state": "up", "last_seen_us": 0, "servers": 0, "facts": {
                "name": "h1", "qemu_version": "7.2.22", "machines": [], "cpu_models": [], "accel": "tcg", "vcpus": 1,
                "memory_mb": 1, "memory_mb_used": 0, "reserved_memory_mb": 0, "ram_allocation_ratio": 1.0,
                "disk_total_bytes": 1, "disk_free_bytes": 1, "disk_committed_bytes": 0, "bridges": [], "images": [],
                "migration_address": "", "iothreads_safe": false}});
            let more = more.as_object().unwrap().clone();
            host.as_object_mut().unwrap().extend(more);
            assert_eq!(state(&serde_json::from_value(host).unwrap()), want);
        };
        check(serde_json::json!({}), "up");
        check(serde_json::json!({"disabled": true}), "up, disabled");
        check(serde_json::json!({"disabled": true, "disabled_reason": "kernel"}), "up, disabled (kernel)");
        check(serde_json::json!({"forced_down": true, "disabled": true}), "up, forced down, disabled");
    }
}
