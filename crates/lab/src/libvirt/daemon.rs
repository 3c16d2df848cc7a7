//! One libvirt daemon in the namespaces of its own.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, time::timeout};

use super::emulator;
use crate::{daemons, lab::Lab, process::Start, wait};

const START_TIME_MAX: Duration = Duration::from_secs(30);
/// For commands that answer at once when all is well.
pub(super) const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// Fixed paths of libvirt, each with the folder that takes its place. Mostly the folders above its own, which may not be
/// there and are not to be made on this machine.
const FOLDERS: [(&str, &str); 5] =
    [("etc", "/etc/libvirt"), ("run", "/run"), ("lib", "/var/lib"), ("log", "/var/log"), ("cache", "/var/cache")];

/// Files of this machine to which the daemon wants its users added, each with those.
const USERS: [(&str, &str); 2] = [
    ("passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n"),
    ("group", "libvirt:x:64054:\nlibvirt-qemu:x:64055:\n"),
];

const QEMU_CONF: &str = r#"user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"#;

#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    pub(super) host: String,
    pub(super) namespace: String,
    pub(super) control: Ipv4Addr,
    pub(super) migration: Ipv4Addr,
    dir: PathBuf,
    /// Where both daemons see their own images: one path, as a migration wants it.
    images: PathBuf,
    pub(crate) qemu: PathBuf,
    /// What a domain is to be started with.
    pub(super) emulator: PathBuf,
}

impl Daemon {
    /// Starts the daemon of a host of the lab that has no agent.
    pub(crate) async fn start(lab: &mut Lab, host: &str) -> Result<Daemon> {
        let site = lab.site().clone();
        let host = site.host(host)?;
        let (dir, images) = (host.dir.join("libvirt"), site.dir.join("images"));
        for (folder, _) in FOLDERS {
            fs_err::create_dir_all(dir.join(folder))?;
        }
        fs_err::create_dir_all(dir.join("images"))?;
        fs_err::create_dir_all(&images)?;
        fs_err::write(dir.join("etc/libvirtd.conf"), libvirtd_conf(host.index))?;
        fs_err::write(dir.join("etc/qemu.conf"), QEMU_CONF)?;
        for (file, added) in USERS {
            let users = fs_err::read_to_string(Path::new("/etc").join(file))?;
            fs_err::write(dir.join(file), users + added)?;
        }

        let log = host.dir.join("log");
        let words = ["unshare", "--mount", "--uts", "sh", "-ec", &script(&dir, &images, &host.name)].map(str::to_owned);
        let (namespace, words) = (&*host.namespace, words.into());
        let start = Start { lab_id: lab.id(), namespace, words, log: log.clone() };
        let process = start.start()?;
        lab.note(&format!("libvirtd {}", host.name), process)?;
        let daemon = Daemon {
            host: host.name.clone(),
            namespace: host.namespace.clone(),
            control: site.networks.control.host(host.index),
            migration: site.networks.migration.host(host.index),
            dir,
            images,
            qemu: host.qemu.clone(),
            emulator: emulator::write(&site.dir, &host.qemu)?,
        };
        let answers = async || {
            if !process.alive() {
                let said = [&log, &daemon.dir.join("log/libvirtd.log")].map(|log| daemons::last_lines(log));
                bail!("libvirtd ended at its start: {}", said.join("\n"));
            }
            Ok(daemon.virsh(&["uri"]).await.ok())
        };
        wait::until_async("libvirtd's answer", START_TIME_MAX, answers).await?;
        Ok(daemon)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same folder as the daemon sees it, and as everybody else does.
    pub(super) fn images_inside(&self) -> &Path {
        &self.images
    }
    pub(super) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let socket = self.dir.join("run/libvirt/libvirt-sock");
        let url = format!("qemu+unix:///system?socket={}", socket.display());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "virsh", "-q", "-c", &url]).args(words);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command of virsh and returns what it printed.
    pub(super) async fn virsh(&self, words: &[&str]) -> Result<String> {
        let what = || format!("virsh {} on {}", words.join(" "), self.host);
        let output =
            timeout(CALL_TIME_MAX, self.command(words).output()).await.with_context(what)?.with_context(what)?;
        if !output.status.success() {
            bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends the domain if there is one, and forgets its images.
    pub(crate) async fn clear(&self) -> Result<()> {
        // There may be none, or it may be on its way out.
        let _ = self.virsh(&["destroy", super::domain::NAME]).await;
        let gone = async || {
            let domains = self.virsh(&["list", "--all", "--name"]).await?;
            Ok((!domains.lines().any(|name| name == super::domain::NAME)).then_some(()))
        };
        wait::until_async("the end of libvirt's domain", CALL_TIME_MAX, gone).await?;
        // Emptied rather than replaced: the daemon's mount shows the folder that was there when it was made.
        for image in fs_err::read_dir(self.images())? {
            fs_err::remove_file(image?.path())?;
        }
        Ok(())
    }
}

fn libvirtd_conf(index: u8) -> String {
    format!(
        "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nauth_unix_rw = \"none\"\n\
         host_uuid = \"{index:08}-1111-2222-3333-444444444444\"\n\
         log_outputs = \"2:file:/var/log/libvirtd.log\"\n"
    )
}

fn script(dir: &Path, images: &Path, host: &str) -> String {
    let mut script = format!("echo {host} >/proc/sys/kernel/hostname\n");
    let mut bind = |folder: &str, at: &str| {
        script.push_str(&format!("mount --bind '{}' '{at}'\n", dir.join(folder).display()));
    };
    bind("images", &images.display().to_string());
    for (file, _) in USERS {
        bind(file, &format!("/etc/{file}"));
    }
    for (folder, at) in FOLDERS {
        bind(folder, at);
    }
    script.push_str("exec libvirtd --listen\n");
    script
}
