//! Faults and changes that a lab is there for: links shaped, cut and healed, daemons and QEMUs killed and started again.

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::Lab;
use crate::{
    daemons,
    net::{self, LinkChange, LinkRate, Network},
    process::{self, ProcessId},
};

const QEMU: &str = "qemu-system-x86_64";
const STORAGE_DAEMON: &str = "qemu-storage-daemon";
/// A QEMU that is unpacked beside is started by a script of its name, which becomes the program with this at its end.
const UNPACKED: &str = ".unpacked";

/// One of the kinds of process that an agent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QemuKind {
    /// A guest's, running or waiting for it to come.
    System,
    /// The target's writer of a disk that comes in.
    StorageDaemon,
}

impl Lab {
    /// Changes the link of one host, or of all.
    pub fn link(&mut self, host: Option<&str>, network: Network, change: LinkChange) -> Result<()> {
        let site = self.site().clone();
        let hosts = match host {
            Some(name) => vec![site.host(name)?.clone()],
            None => site.hosts.clone(),
        };
        for host in &hosts {
            match change {
                LinkChange::Cut => net::cut(&site.fabric, &host.name, network)?,
                LinkChange::Heal => net::heal(&site.fabric, &host.name, network)?,
                LinkChange::Rate(rate) => net::shape(&host.namespace, network.device(), rate)?,
            }
        }
        match (change, host, network) {
            (LinkChange::Rate(rate), None, Network::Migration) => self.change_site(|site| site.link = rate),
            _ => Ok(()),
        }
    }

    /// Shapes the migration link of every host.
    pub fn shape(&mut self, rate: LinkRate) -> Result<()> {
        self.link(None, Network::Migration, LinkChange::Rate(rate))
    }

    pub fn agent(&self, host: &str) -> Result<ProcessId> {
        let purpose = daemons::agent_purpose(host);
        self.process(&purpose).with_context(|| format!("no agent runs on host '{host}'"))
    }

    /// As a crash would, and waits until it is gone.
    pub fn kill_agent(&self, host: &str) -> Result<()> {
        self.agent(host)?.end()
    }

    /// Starts the agent of a host whose agent does not run, and waits until the controller sees it.
    pub async fn start_agent(&mut self, host: &str) -> Result<()> {
        if self.agent(host).is_ok() {
            bail!("the agent of host '{host}' runs already");
        }
        daemons::start_agent(self, host, None)?;
        daemons::agents_up(self, &[host.to_owned()]).await
    }

    pub async fn restart_agent(&mut self, host: &str) -> Result<()> {
        self.kill_agent(host)?;
        self.start_agent(host).await
    }

    /// QEMU processes of that kind on a host.
    pub fn qemus(&self, host: &str, kind: QemuKind) -> Result<Vec<ProcessId>> {
        let program = match kind {
            QemuKind::System => QEMU,
            QemuKind::StorageDaemon => STORAGE_DAEMON,
        };
        let processes = process::within(&self.site().host(host)?.namespace)?;
        Ok(processes.into_iter().filter(|id| id.program().trim_end_matches(UNPACKED) == program).collect())
    }

    /// Kills all of that kind on a host; says how many there were.
    pub fn kill_qemu(&self, host: &str, kind: QemuKind) -> Result<usize> {
        let found = self.qemus(host, kind)?;
        for id in &found {
            id.end()?;
        }
        Ok(found.len())
    }

    /// Stops a process where it stands (or lets it go on), as a machine that hangs would.
    pub fn freeze_agent(&self, host: &str, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.agent(host)?.signal(signal)
    }

    /// Makes a host one that never had the guest's base image. Its agent starts anew, so that it does not remember either.
    pub async fn forget_base_image(&mut self, host: &str) -> Result<()> {
        let image = self.site().client()?.image(super::use_it::IMAGE).await?;
        let disk = image.disk.context("the lab's image has no disk")?;
        let copy = self.site().host(host)?.dir.join("state/images").join(disk.digest.as_str());
        if !copy.exists() {
            return Ok(());
        }
        self.kill_agent(host)?;
        fs_err::remove_file(&copy)?;
        self.start_agent(host).await
    }

    pub async fn restart_controller(&mut self) -> Result<()> {
        if let Some(id) = self.process(daemons::CONTROLLER) {
            id.end()?;
        }
        daemons::start_controller(self).await
    }
}
