//! `whimbrel server plan` and `whimbrel server create --plan`: which hosts could take a server, and why the others could not.
//!
//! Ground rules: every number is the controller's; the exit code is 0 if at least one host will do.

use std::process::ExitCode;

use anyhow::Result;
use whimbrel_api::{
    client::ControllerClient,
    failure::{Failure, FailureCode},
    native::{HostVerdict, NewMigration, NewServer},
};

use crate::table;

pub async fn of_server(client: &ControllerClient, server: &str, host: Option<String>, json: bool) -> Result<ExitCode> {
    let plan = client.plan(server, &NewMigration { host, ..NewMigration::default() }).await?;
    let about_hosts: Vec<&Failure> = plan.hosts.iter().flat_map(|host| &host.reasons).collect();
    // What lies in the server itself; that there is no host is only the sum of the others.
    let own = |reason: &&Failure| reason.code != FailureCode::NoHost && !about_hosts.contains(reason);
    show(&plan.hosts, &plan.reasons.iter().filter(own).cloned().collect::<Vec<_>>(), json)
}

pub async fn of_new_server(client: &ControllerClient, new: &NewServer, json: bool) -> Result<ExitCode> {
    show(&client.plan_server(new).await?, &[], json)
}

fn show(hosts: &[HostVerdict], reasons: &[Failure], json: bool) -> Result<ExitCode> {
    let will_do = reasons.is_empty() && hosts.iter().any(|host| host.reasons.is_empty());
    let code = if will_do { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        table::print_json(&serde_json::json!({ "hosts": hosts, "reasons": reasons }))?;
        return Ok(code);
    }
    table::print(&["host", "verdict", "RAM needed", "RAM free", "disk needed", "disk free", "weights"], rows(hosts));
    for reason in hosts.iter().flat_map(|host| &host.reasons).chain(reasons) {
        println!("- {reason}");
        if let Some(hint) = &reason.hint {
            println!("  hint: {hint}");
        }
    }
    Ok(code)
}

fn rows(hosts: &[HostVerdict]) -> Vec<Vec<String>> {
    let row = |(at, host): (usize, &HostVerdict)| {
        let verdict = match (at, host.reasons.len()) {
            (0, 0) => "best".to_owned(),
            (_, 0) => "fits".to_owned(),
            (_, 1) => "no".to_owned(),
            (_, count) => format!("no, {count} reasons"),
        };
        let mut cells = vec![host.host.to_string(), verdict];
        cells.extend(match &host.room {
            Some(room) => [
                format!("{} MB", room.ram_mb),
                format!("{} MB", room.ram_free_mb),
                table::bytes(room.disk_bytes),
                signed(room.disk_free_bytes),
            ],
            None => std::array::from_fn(|_| "-".to_owned()),
        });
        let weights = host.weights.iter().map(|weight| format!("{}={}", weight.name, weight.value));
        cells.push(weights.collect::<Vec<_>>().join(" "));
        cells
    };
    hosts.iter().enumerate().map(row).collect()
}

fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", table::bytes(bytes.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use whimbrel_api::native::{Room, Weight};

    use super::*;

    #[test]
    fn a_verdict_is_a_row() {
        let room = Room { ram_mb: 512, ram_free_mb: -3, disk_bytes: 1 << 30, disk_free_bytes: -(1 << 31) };
        let host = |name: &str, reasons: usize, room: Option<Room>| HostVerdict {
            host: name.parse().unwrap(),
            reasons: vec![Failure::new(FailureCode::NoRam, "why"); reasons],
            weights: vec![Weight { name: "free_ram_mb".to_owned(), value: 7 }],
            room,
        };
        let hosts = [host("h1", 0, Some(room)), host("h2", 0, None), host("h3", 1, None), host("h4", 2, None)];
        let rows = rows(&hosts);
        let verdicts: Vec<_> = rows.iter().map(|row| row[1].as_str()).collect();
        assert_eq!(verdicts, ["best", "fits", "no", "no, 2 reasons"]);
        assert_eq!(rows[0][2..], ["512 MB", "-3 MB", "1.00 GiB", "-2.00 GiB", "free_ram_mb=7"]);
        assert_eq!(rows[1][2..6], ["-", "-", "-", "-"]);
    }
}
