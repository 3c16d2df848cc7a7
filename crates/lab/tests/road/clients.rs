//! OpenStack's own clients, as PyPI has them, against a lab: what an operator types, and what he then sees.

use std::{path::PathBuf, time::Duration};

use tokio::process::Command;
use whimbrel_lab::{Lab, wait};

use crate::harness::{options, turn, up};

const SETTLE_TIME_MAX: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 64 << 20;

/// A shell in which the clients are installed and pointed at the lab.
pub struct Shell<'a> {
    lab: &'a Lab,
    bin: PathBuf,
}

impl Shell<'_> {
    pub fn of(lab: &Lab) -> Shell<'_> {
        let bin =
            std::env::var_os("WHIMBREL_CLIENTS").expect("WHIMBREL_CLIENTS is not set; hint: run through ./x test");
        Shell { lab, bin: bin.into() }
    }

    /// What the line printed; `Err` with what it complained of.
    async fn run(&self, line: &str) -> Result<String, String> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(self.bin.join(words.next().unwrap()));
        command.args(words).envs(self.lab.site().variables()).env("PYTHONWARNINGS", "ignore").kill_on_drop(true);
        let output = command.output().await.unwrap_or_else(|error| panic!("{line}: {error}"));
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(told(&output.stdout)),
            false => Err(told(&output.stderr)),
        }
    }

    /// The line works and its output has all of these words.
    pub async fn check(&self, line: &str, words: &[&str]) -> String {
        let said = self.run(line).await.unwrap_or_else(|error| panic!("`{line}` failed: {error}"));
        for word in words {
            assert!(said.contains(word), "`{line}` does not say '{word}':\n{said}");
        }
        said
    }

    /// The line fails, and says why.
    async fn refused(&self, line: &str, word: &str) {
        let error = self.run(line).await.err().unwrap_or_else(|| panic!("`{line}` worked"));
        assert!(error.contains(word), "`{line}` does not complain of '{word}':\n{error}");
    }

    /// Waits until the server is so, as `openstack server show` has it: status, task, host.
    pub async fn server_is(&self, server: &str, status: &str, host: Option<&str>) {
        let line = format!("openstack server show {server} -f json");
        let so = async || {
            let said = self.run(&line).await.map_err(anyhow::Error::msg)?;
            let shown: serde_json::Value = serde_json::from_str(&said)?;
            let idle = shown["OS-EXT-STS:task_state"].is_null();
            let there = host.is_none_or(|host| shown["OS-EXT-SRV-ATTR:host"] == host);
            Ok((shown["status"] == status && idle && there).then_some(()))
        };
        let what = format!("server {server} {status} at {host:?}");
        wait::until_async(&what, SETTLE_TIME_MAX, so).await.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// The walk of an operator who moves a server with two more disks than its root, there and back.
#[tokio::test]
async fn a_server_is_made_moved_and_moved_back() {
    let _turn = turn();
    let lab = up(options(2)).await;
    let shell = Shell::of(&lab);
    shell.check("nova flavor-list", &["m1.medium", "med"]).await;
    shell.check("openstack image list", &["guest", "active"]).await;
    shell.check("nova boot --flavor med --image guest --nic net-name=private --poll server-01", &["server-01"]).await;
    shell.check("nova list", &["server-01", "ACTIVE", "Running", "private=198.18."]).await;
    let shown = shell.check("nova show server-01", &["ACTIVE", "hypervisor_hostname", "instance-00000001"]).await;
    let (from, to) = if shown.contains("| h1 ") { ("h1", "h2") } else { ("h2", "h1") };

    shell.check("nova live-migration --block-migrate server-01", &[]).await;
    shell.check("nova list", &["server-01", "MIGRATING", "migrating"]).await;
    let moving = shell.check("nova server-migration-list server-01", &["running", from, to]).await;
    assert!(moving.contains("Total Disk Bytes"), "{moving}");
    shell.server_is("server-01", "ACTIVE", Some(to)).await;
    shell.check("nova migration-list", &["completed", "live-migration"]).await;
    shell.check("openstack server event list server-01", &["live-migration", "create"]).await;

    let back = format!("openstack server migrate --live-migration --block-migration --host {from} server-01");
    shell.check(&back, &[]).await;
    shell.server_is("server-01", "ACTIVE", Some(from)).await;
    shell.check("openstack server migration list", &["completed"]).await;
    let same = format!("openstack server migrate --live-migration --host {from} server-01");
    shell.refused(&same, "current host").await;
    shell.refused("openstack server migrate --live-migration --host nowhere server-01", "could not be found").await;

    shell.check("openstack server pause server-01", &[]).await;
    shell.server_is("server-01", "PAUSED", Some(from)).await;
    shell.check("openstack server unpause server-01", &[]).await;
    shell.server_is("server-01", "ACTIVE", Some(from)).await;
    shell.check("openstack server stop server-01", &[]).await;
    shell.server_is("server-01", "SHUTOFF", Some(from)).await;
    shell.refused("openstack server migrate --live-migration server-01", "409").await;
    shell.check("openstack server start server-01", &[]).await;
    shell.server_is("server-01", "ACTIVE", Some(from)).await;
    shell.check("openstack server delete --wait server-01", &[]).await;
    assert!(!shell.check("openstack server list", &[]).await.contains("server-01"));
    lab.down().unwrap();
}

/// An image grows by `qemu-img resize`: its virtual size does, what is allocated does not.
#[tokio::test]
async fn an_image_that_was_resized_is_taken_as_it_is() {
    let _turn = turn();
    let lab = up(options(1)).await;
    let shell = Shell::of(&lab);
    let file = lab.site().dir.join("small.qcow2");
    let path = file.display();
    let tool = lab.site().hosts[0].qemu.join("qemu-img");
    for words in [format!("create -q -f qcow2 {path} {DISK_BYTES}"), format!("resize -q {path} {}", 2 * DISK_BYTES)] {
        let done = Command::new(&tool).args(words.split(' ')).status().await.unwrap();
        assert!(done.success(), "qemu-img {words}");
    }
    let create = format!("openstack image create --disk-format qcow2 --container-format bare --file {path} small");
    shell.check(&create, &["small", "active"]).await;
    let shown = shell.check("openstack image show small -f json", &[]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["virtual_size"], 2 * DISK_BYTES);
    assert!(shown["size"].as_u64().unwrap() < 1 << 20, "{shown}");
    let saved = lab.site().dir.join("saved.qcow2");
    shell.check(&format!("openstack image save --file {} small", saved.display()), &[]).await;
    assert_eq!(std::fs::read(&saved).unwrap(), std::fs::read(&file).unwrap());
    // It says qcow2 and is none.
    let liar = lab.site().dir.join("liar.qcow2");
    std::fs::write(&liar, vec![0_u8; 1 << 20]).unwrap();
    let lie =
        format!("openstack image create --disk-format qcow2 --container-format bare --file {} liar", liar.display());
    shell.refused(&lie, "qcow2").await;
    shell.check("openstack image delete small", &[]).await;
    lab.down().unwrap();
}

/// What operators look at and keep in order.
#[tokio::test]
async fn the_cloud_is_looked_at_and_kept_in_order() {
    let _turn = turn();
    let lab = up(options(2)).await;
    let shell = Shell::of(&lab);
    for (line, words) in [
        ("openstack catalog list", &["nova", "glance", "neutron", "keystone"][..]),
        ("openstack token issue", &["project_id"]),
        ("openstack project list", &["admin"]),
        ("openstack role list", &["admin", "manager", "member", "reader"]),
        ("openstack user list", &["admin"]),
        ("openstack network list", &["private"]),
        ("openstack subnet list", &["198.18."]),
        ("openstack security group list", &["default"]),
        ("openstack compute service list", &["nova-compute", "h1", "h2", "enabled", "up"]),
        ("openstack hypervisor list", &["h1", "h2", "QEMU", "up"]),
        ("openstack hypervisor stats show", &["memory_mb", "disk_available_least"]),
        ("openstack --os-compute-api-version 2.87 hypervisor show h1", &["vcpus", "free_disk_gb", "cpu_info"]),
        ("nova hypervisor-list", &["h1", "h2"]),
        ("nova hypervisor-servers h1", &[]),
        ("openstack availability zone list --compute", &["nova", "available"]),
        ("openstack aggregate create --zone z1 --property disk=ssd fast", &["z1"]),
        ("openstack aggregate add host fast h1", &["h1"]),
        ("openstack aggregate show fast", &["ssd", "h1"]),
        ("openstack aggregate remove host fast h1", &["fast"]),
        ("openstack aggregate delete fast", &[]),
        ("openstack compute service set --disable --disable-reason kernel h2 nova-compute", &[]),
        ("openstack compute service list --long", &["disabled", "kernel"]),
        ("openstack compute service set --enable h2 nova-compute", &[]),
        ("openstack flavor create --id 77 --ram 128 --disk 1 --vcpus 1 tiny", &["77"]),
        ("openstack flavor set --property a=b tiny", &[]),
        ("openstack flavor show tiny", &["a='b'"]),
        ("openstack flavor delete tiny", &[]),
        ("nova list", &["ID"]),
    ] {
        shell.check(line, words).await;
    }
    shell.refused("openstack server show nobody", "nobody").await;
    lab.down().unwrap();
}
