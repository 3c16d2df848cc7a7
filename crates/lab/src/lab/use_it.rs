//! Using a lab: the guest's image and flavor, guests with their peers, and the `whimbrel` command as a user gives it.

use std::{net::SocketAddrV4, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};
use whimbrel_api::{
    client::OpenStackClient,
    native::{Bootstrap, ImagePart, NewFlavor, NewImage, NewServer, Server},
};

use super::{Cloud, GuestSite, Lab};
use crate::{
    binary, daemons,
    image::{self, BootLine, Ingredients},
    net::GUEST_BRIDGE,
    peer::{PeerControl, Status},
    process::Start,
    wait,
};

pub(crate) const FLAVOR: &str = "med";
pub(crate) const IMAGE: &str = "guest";
pub(crate) const RAM_MB: u64 = 512;
pub(crate) const ROOT_GB: u64 = 10;
pub(crate) const EPHEMERAL_GB: u64 = 1;
pub(crate) const SWAP_MB: u64 = 512;
/// Id, name, CPUs, RAM in MB, root and ephemeral disk in GB, swap in MB: Nova's stock, and the lab's own.
const FLAVORS: [(&str, &str, u32, u64, u64, u64, u64); 6] = [
    ("1", "m1.tiny", 1, 512, 1, 0, 0),
    ("2", "m1.small", 1, 2048, 20, 0, 0),
    ("3", "m1.medium", 2, 4096, 40, 0, 0),
    ("4", "m1.large", 4, 8192, 80, 0, 0),
    ("5", "m1.xlarge", 8, 16384, 160, 0, 0),
    ("13", FLAVOR, 1, RAM_MB, ROOT_GB, EPHEMERAL_GB, SWAP_MB),
];
/// Of OpenStack's front door, on the bridge of the lab's guests.
const NETWORK: &str = "private";
const PEER_PORT: u16 = 7000;
const GUESTS_MAX: usize = 100;
const PEER_TIME_MAX: Duration = Duration::from_secs(10);
/// A kernel under emulation on a busy machine.
const BOOT_TIME_MAX: Duration = Duration::from_secs(120);
const COMMAND_TIME_MAX: Duration = Duration::from_secs(600);
pub(crate) const GUEST_PREFIX: u8 = 24;

/// What a command printed.
#[derive(Clone, Debug)]
pub struct Output {
    pub ok: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The last line, as the contract of `--json` has it.
    pub fn json(&self) -> Result<Value> {
        let line = self.stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("no JSON: {}{}", self.stdout, self.stderr))
    }

    /// The last line of a command that must have worked.
    pub fn expect_json(&self) -> Result<Value> {
        if !self.ok {
            bail!("the command failed with {:?}: {}{}", self.code, self.stderr, self.stdout);
        }
        self.json()
    }
}

impl Lab {
    /// Builds the guest's image where it is not cached, and brings it and its flavor to the controller.
    pub(crate) async fn bring_guest_image(&self, quiet: bool) -> Result<()> {
        let (from, cache) = (Ingredients::from_env()?, self.place().cache());
        if !quiet && !cache.exists() {
            eprintln!("building the guest's image in {}; the next lab finds it there", cache.display());
        }
        let made = tokio::task::spawn_blocking(move || image::prepare(&cache, &from)).await??;
        let client = self.site().client()?;
        // For servers that are made without a line of their own, as OpenStack's clients make them.
        // They are looked at by their consoles, if at all.
        let alone = Some(BootLine { quiet: false, ..BootLine::default() }.to_string());
        let new = NewImage { name: IMAGE.to_owned(), os_command_line: alone, disk: None, kernel: None, ramdisk: None };
        let id = client.create_image(&new).await?.id.to_string();
        client.upload_image(&id, ImagePart::Disk, &made.root_base).await?;
        client.upload_image(&id, ImagePart::Kernel, &made.kernel).await?;
        client.upload_image(&id, ImagePart::Ramdisk, &made.initrd).await?;
        for (id, name, vcpus, ram_mb, disk_gb, ephemeral_gb, swap_mb) in FLAVORS {
            let (name, flavorid) = (name.to_owned(), Some(id.to_owned()));
            let flavor = NewFlavor { name, flavorid, vcpus, ram_mb, disk_gb, ephemeral_gb, swap_mb };
            client.create_flavor(&flavor).await?;
        }
        Ok(())
    }

    /// The first administrator of OpenStack's front door; [`Site::variables`] has him from then on.
    pub(crate) async fn bootstrap(&mut self) -> Result<()> {
        let password = fs_err::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
        let made = self.site().client()?.bootstrap(&Bootstrap { password: password.clone() }).await?;
        let ca = fs_err::read_to_string(self.site().ca_file())?;
        let cloud = OpenStackClient::log_in(&self.site().url(), &ca, &made, &password).await?;
        let network = json!({"network": {
            "name": NETWORK, "shared": true, "provider:network_type": "flat",
            "provider:physical_network": GUEST_BRIDGE,
        }});
        let made_network = cloud.post("/network/v2.0/networks", &network).await?;
        let guests = &self.site().networks.guest;
        let (first, last) = guests.cloud();
        let subnet = json!({"subnet": {
            "name": NETWORK, "network_id": made_network["network"]["id"], "ip_version": 4, "enable_dhcp": false,
            "cidr": format!("{}/{GUEST_PREFIX}", guests.base()), "gateway_ip": guests.fabric().to_string(),
            "allocation_pools": [{"start": first.to_string(), "end": last.to_string()}],
        }});
        cloud.post("/network/v2.0/subnets", &subnet).await?;
        self.change_site(|site| site.cloud = Some(Cloud { made, password }))
    }

    /// Starts the witness of a guest to come and gives the guest its address.
    pub async fn start_peer(&mut self, name: &str) -> Result<GuestSite> {
        let site = self.site().clone();
        let used = |index: usize| {
            let port = PEER_PORT + index as u16;
            site.guests.iter().any(|guest| guest.name != name && guest.peer.port() == port)
        };
        let index = (0..GUESTS_MAX).find(|&index| !used(index)).context("the lab has no address for another guest")?;
        let control = site.run_dir.join(format!("peer-{index}.sock"));
        let peer = SocketAddrV4::new(site.networks.guest.fabric(), PEER_PORT + index as u16);
        let guest = GuestSite { name: name.to_owned(), address: site.networks.guest.guest(index as u8), peer, control };
        self.stop_peer(name)?;
        self.change_site(|site| site.guests.push(guest.clone()))?;

        let words = ["lab", "peer", "--listen", &peer.to_string(), "--control", &guest.control.display().to_string()]
            .map(str::to_owned);
        let words = [binary::path()?.display().to_string()].into_iter().chain(words).collect();
        let log = site.dir.join(format!("peer-{index}.log"));
        let start = Start { lab_id: self.id(), namespace: &site.fabric, words, log: log.clone() };
        let id = start.start()?;
        self.note(&peer_purpose(name), id)?;
        let answers = async || {
            if !id.alive() {
                bail!("the peer ended at its start: {}", daemons::last_lines(&log));
            }
            let Ok(mut control) = PeerControl::connect(&guest.control).await else { return Ok(None) };
            Ok(control.status().await.ok())
        };
        wait::until_async("the peer's answer", PEER_TIME_MAX, answers).await?;
        Ok(guest)
    }

    /// Ends the witness of a guest that is gone.
    pub fn stop_peer(&mut self, name: &str) -> Result<()> {
        if let Some(id) = self.process(&peer_purpose(name)) {
            id.end()?;
        }
        if let Some(old) = self.site().guests.iter().find(|guest| guest.name == name) {
            remove_file(&old.control)?;
        }
        self.change_site(|site| site.guests.retain(|guest| guest.name != name))
    }

    /// Creates a server from the lab's image and waits until its guest works.
    pub async fn boot_guest(&mut self, host: Option<&str>, line: BootLine) -> Result<GuestSite> {
        self.boot_guest_as(host, line, false).await
    }

    /// The same with an iothread per disk; needs QEMU 9.0 or later.
    pub async fn boot_guest_with_iothreads(&mut self, host: Option<&str>, line: BootLine) -> Result<GuestSite> {
        self.boot_guest_as(host, line, true).await
    }

    async fn boot_guest_as(&mut self, host: Option<&str>, mut line: BootLine, iothreads: bool) -> Result<GuestSite> {
        let guest = self.start_peer(&line.name).await?;
        line.ip = Some((guest.address, GUEST_PREFIX));
        line.peer = Some(guest.peer);
        let new = NewServer {
            name: line.name.clone(),
            flavor: FLAVOR.to_owned(),
            image: IMAGE.to_owned(),
            host: host.map(str::to_owned),
            networks: vec![GUEST_BRIDGE.to_owned()],
            os_command_line: Some(line.to_string()),
            iothreads,
            machine: None,
            config_drive: false,
            user_data: None,
        };
        self.boot(&new, &guest).await?;
        Ok(guest)
    }

    /// Creates a server of one's own making, whose command line names the peer of `guest`.
    pub async fn boot(&self, new: &NewServer, guest: &GuestSite) -> Result<Server> {
        let client = self.site().client()?;
        let server = client.create_server(new).await?;
        let name = &new.name;
        let works = async || {
            let server = client.server(name).await?;
            if let Some(failure) = server.failure {
                return Err(anyhow::Error::new(failure).context(format!("guest '{name}' did not start")));
            }
            Ok(working(guest).await?.then_some(()))
        };
        wait::until_async(&format!("guest '{name}' at work"), BOOT_TIME_MAX, works).await?;
        Ok(server)
    }

    pub async fn peer_of(&self, name: &str) -> Result<PeerControl> {
        Ok(PeerControl::connect(&self.site().guest(Some(name))?.control).await?)
    }

    pub async fn guest_status(&self, name: &str) -> Result<Status> {
        Ok(self.peer_of(name).await?.status().await?)
    }

    /// The binary with these words, pointed at this lab.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary::path()?);
        command.args(words).envs(self.site().variables()).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs `whimbrel WORD…` to its end.
    pub async fn cli(&self, words: &[&str]) -> Result<Output> {
        let run = self.command(words)?.output();
        let what = || format!("whimbrel {}", words.join(" "));
        let output = timeout(COMMAND_TIME_MAX, run).await.with_context(what)?.with_context(what)?;
        Ok(Output {
            ok: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Whether the guest is connected to its peer and says so.
pub(crate) async fn working(guest: &GuestSite) -> Result<bool> {
    let status = PeerControl::connect(&guest.control).await?.status().await?;
    Ok(status.connected && status.beats > 0)
}

fn peer_purpose(name: &str) -> String {
    format!("peer {name}")
}

fn remove_file(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}
