//! A guest as users have it, Debian with cloud-init on a disk that boots by itself: what its config drive says is so in it, and
//! stays so when it moves.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;
use whimbrel_lab::{Lab, LabOptions, wait};

use crate::{
    clients::Shell,
    harness::{options, turn, up},
};

const IMAGE_VARIABLE: &str = "WHIMBREL_CLOUD_IMAGE";
const SERVER: &str = "debian-01";
/// Under emulation on a machine that does something else too: cloud-init alone is four programs in Python.
const BOOT_TIME_MAX: Duration = Duration::from_secs(300);
const LOG_IN_TIME_MAX: Duration = Duration::from_secs(60);
/// Facts as the guest sees them, then the drive's bytes again and again, read around its cache.
const USER_DATA: &str = r#"#!/bin/sh
exec >/dev/ttyS0 2>&1
echo "fact hostname=$(hostname)"
echo "fact key=$(cat /home/debian/.ssh/authorized_keys)"
echo "fact address=$(ip -4 -o address show scope global)"
echo "fact route=$(ip route show default)"
echo "fact meta=$(cloud-init query ds.meta_data.meta.role)"
setsid sh -c 'n=0; while sleep 1; do
    n=$((n + 1))
    drive=$(dd if=/dev/disk/by-label/config-2 iflag=direct bs=64k status=none | sha256sum)
    echo "tick $n $drive"
done' &
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_debian_guest_learns_from_its_drive_who_it_is() {
    let _turn = turn();
    let hosts = options(2).host_with_next_qemu("h2").unwrap();
    let lab = up(LabOptions { image: false, ..hosts }).await;
    let guest = Guest::boot(&lab).await;
    let facts = guest.said("h1", "tick 1 ").await;
    let fact = |name: &str| {
        let fact =
            facts.lines().find_map(|line| line.trim().strip_prefix("fact ")?.strip_prefix(name)?.strip_prefix('='));
        fact.unwrap_or_else(|| panic!("the guest did not tell its {name}:\n{facts}"))
    };
    assert_eq!(fact("hostname"), SERVER);
    assert_eq!(fact("key").trim(), guest.public_key.trim());
    assert!(fact("address").contains(&format!("inet {}/", guest.address)), "{}", fact("address"));
    assert!(fact("route").contains(&lab.site().networks.guest.fabric().to_string()), "{}", fact("route"));
    assert_eq!(fact("meta"), "web");
    let drive = tick(&facts).expect("the drive's digest").1;
    let boot = guest.log_in(&lab).await;

    for (from, to) in [("h1", "h2"), ("h2", "h1")] {
        let ticks = tick(&guest.console(from)).expect("it ticks").0;
        guest.shell.check(&format!("openstack server migrate --live-migration --host {to} {SERVER}"), &[]).await;
        guest.shell.server_is(SERVER, "ACTIVE", Some(to)).await;
        let after = guest.said_later(to, ticks).await;
        assert_eq!(tick(&after).map(|(_, drive)| drive), Some(drive.clone()), "the drive changed on its way");
        assert_eq!(guest.log_in(&lab).await, boot, "it is another boot of the guest");
    }
    lab.down().unwrap();
}

struct Guest<'a> {
    shell: Shell<'a>,
    lab: &'a Lab,
    id: String,
    address: String,
    public_key: String,
}

impl<'a> Guest<'a> {
    async fn boot(lab: &'a Lab) -> Guest<'a> {
        let shell = Shell::of(lab);
        let dir = &lab.site().dir;
        let image = std::env::var(IMAGE_VARIABLE)
            .unwrap_or_else(|_| panic!("{IMAGE_VARIABLE} is not set; hint: run through ./x test"));
        let (key, data) = (dir.join("key"), dir.join("user-data"));
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().await;
        assert!(made.unwrap().success());
        std::fs::write(&data, USER_DATA).unwrap();
        let public_key = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let (key, data) = (key.display(), data.display());
        for line in [
            format!("openstack keypair create --public-key {key}.pub lab"),
            "openstack flavor create --ram 512 --disk 3 --vcpus 1 small".to_owned(),
            format!("openstack image create --disk-format qcow2 --container-format bare --file {image} debian-12"),
            format!(
                "openstack --os-compute-api-version 2.74 server create --image debian-12 --flavor small --network private \
                 --key-name lab --user-data {data} --property role=web --host h1 {SERVER}"
            ),
        ] {
            shell.check(&line, &[]).await;
        }
        shell.server_is(SERVER, "ACTIVE", Some("h1")).await;
        let shown = shell.check(&format!("openstack server show {SERVER} -f json"), &[]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
        Guest { shell, lab, id: text(&shown["id"]), address: text(&shown["addresses"]["private"][0]), public_key }
    }

    /// All that it said there.
    fn console(&self, host: &str) -> String {
        let state = self.lab.site().host(host).unwrap().dir.join("state");
        let log = std::fs::read(state.join("instances").join(&self.id).join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    async fn said(&self, host: &str, word: &str) -> String {
        let look = async || Ok(Some(self.console(host)).filter(|said| said.contains(word)));
        let said = wait::until_async(&format!("'{word}' on the console at {host}"), BOOT_TIME_MAX, look).await;
        said.unwrap_or_else(|error| panic!("{error:#}\n{}", self.console(host)))
    }

    async fn said_later(&self, host: &str, than: u64) -> String {
        let look = async || Ok(Some(self.console(host)).filter(|said| tick(said).is_some_and(|(n, _)| n > than)));
        let said = wait::until_async(&format!("a tick after {than} at {host}"), LOG_IN_TIME_MAX, look).await;
        said.unwrap_or_else(|error| panic!("{error:#}\n{}", self.console(host)))
    }

    /// By its key, over its network: the id of the guest's boot.
    async fn log_in(&self, lab: &Lab) -> String {
        let key = lab.site().dir.join("key");
        let look = async || {
            let mut ssh = Command::new("ip");
            ssh.args(["netns", "exec", &lab.site().fabric, "ssh", "-i"]).arg(&key);
            ssh.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
            ssh.args(["-o", "ConnectTimeout=20", "-F", "/dev/null", &format!("debian@{}", self.address)]);
            ssh.args(["cat", "/proc/sys/kernel/random/boot_id"]).stdin(Stdio::null());
            let output = ssh.output().await?;
            Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
        };
        let said = wait::until_async("a log-in to the guest", LOG_IN_TIME_MAX, look).await;
        said.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// The last whole one: its number and the drive's digest.
fn tick(console: &str) -> Option<(u64, String)> {
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().rev().find_map(|line| {
        let mut words = line.trim().strip_prefix("tick ")?.split_whitespace();
        let number = words.next()?.parse().ok()?;
        words.next().filter(|digest| digest.len() == 64).map(|digest| (number, digest.to_owned()))
    })
}
