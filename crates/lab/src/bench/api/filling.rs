//! Twenty thousand servers, put into the database beside the controller: to make them one by one would measure something else.

use std::fmt::Write;

use anyhow::Result;
use serde_json::json;
use uuid::Uuid;
use whimbrel_api::id::HostName;

use super::cloud::Cloud;

const ROWS_AT_ONCE: usize = 200;
const GIB: u64 = 1 << 30;
const CREATED_US: i64 = 1_700_000_000_000_000;

pub(super) struct Server {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) host: HostName,
}

/// Evenly on all hosts, each with three disks, an address, some metadata.
pub(super) fn fill(cloud: &Cloud, project: &str, user: &str, hosts: &[HostName], count: usize) -> Result<Vec<Server>> {
    let server = |number: usize| Server {
        id: Uuid::now_v7(),
        name: format!("server-{number:05}"),
        host: hosts[number % hosts.len()].clone(),
    };
    let servers: Vec<Server> = (0..count).map(server).collect();
    let mut text = String::from("BEGIN;\n");
    for (number, some) in servers.chunks(ROWS_AT_ONCE).enumerate() {
        let rows: Vec<String> = some
            .iter()
            .enumerate()
            .map(|(offset, server)| row(server, number * ROWS_AT_ONCE + offset, project, user))
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "INSERT INTO instances (id, name, spec, flavor, image, host, epoch, desired, power_state, write_bps, created_us, \
             updated_us, project, user_id, number, details, launched_us) VALUES\n{};",
            rows.join(",\n")
        );
        let claims: Vec<String> =
            some.iter().map(|server| format!("('{}', '{}', 2048, {})", server.host, server.id, 24 * GIB)).collect();
        let _ =
            writeln!(text, "INSERT INTO claims (host, instance, ram_mb, disk_bytes) VALUES\n{};", claims.join(",\n"));
    }
    text.push_str("COMMIT;\nANALYZE;\n");
    let file = cloud.dir().join("servers.sql");
    fs_err::write(&file, text)?;
    cloud.feed(&file)?;
    Ok(servers)
}

fn row(server: &Server, number: usize, project: &str, user: &str) -> String {
    let disk = |name: &str, gib: u64| json!({"name": name, "format": "qcow2", "virtual_bytes": gib * GIB, "base": null, "read_only": false});
    let mac = format!("fa:16:3e:{:02x}:{:02x}:{:02x}", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff);
    let spec = json!({
        "id": server.id,
        "name": server.name,
        "vcpus": 2,
        "ram_mb": 2048,
        "machine": "pc-q35-7.2",
        "cpu_model": "Nehalem",
        "disks": [disk("root", 20), disk("ephemeral0", 3), disk("swap", 1)],
        "nics": [{"mac": mac, "bridge": "br0", "vlan": 100}],
        "boot": "disk",
        "iothreads": false,
    });
    let details = json!({
        "description": server.name,
        "hostname": server.name,
        "metadata": {"role": "worker", "owner": "a team of some name"},
        "tags": [],
        "key": {"name": "mine", "kind": "ssh", "public_key": format!("ssh-ed25519 {} me@here", "A".repeat(68))},
        "config_drive": true,
        "reservation_id": format!("r-{number:08x}"),
        "flavor": {"id": "2", "name": "m1.small", "vcpus": 2, "ram_mb": 2048, "disk_gb": 20, "ephemeral_gb": 3,
            "swap_mb": 1024, "extra_specs": {}},
        "security_groups": ["default"],
        "nics": [{"network": "net", "mac": mac, "addresses": [format!("10.{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff)],
            "port": Uuid::now_v7()}],
    });
    let (flavor, image) = (Uuid::from_u128(1), Uuid::from_u128(2));
    format!(
        "('{}', '{}', '{spec}', '{flavor}', '{image}', '{}', 1, 'running', '\"running\"', 1000000, {CREATED_US}, {CREATED_US}, \
         '{project}', '{user}', {number}, '{details}', {CREATED_US})",
        server.id, server.name, server.host,
    )
}
