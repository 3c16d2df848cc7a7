//! The agent's TOML file. Every key that an operator may misspell is refused, with line and column.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use whimbrel_core::{
    host::{RAM_ALLOCATION_RATIO, RESERVED_MEMORY_MB},
    id::HostName,
};
use whimbrel_daemon::config::{self, ConfigError};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// This host's name; also its identity in its certificate.
    pub name: HostName,
    /// Disks, images, journals and the identity. Survives a reboot.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// A directory that other hosts have mounted too, at whatever path: the instances and images lie there, and a server
    /// moves between those hosts by its RAM alone. O_DIRECT must work on it.
    #[serde(default)]
    pub shared_dir: Option<PathBuf>,
    /// Sockets and pid files. Short, since a socket's path has at most 107 bytes.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// Where the controller asks.
    pub control_listen: SocketAddr,
    /// This host's address on the migration network, where other agents bring guests.
    pub data_listen: SocketAddr,
    /// `https://NAME-OR-IP:PORT`.
    pub controller_url: String,
    /// Used only while there is no certificate.
    #[serde(default)]
    pub join_token: Option<String>,
    /// Holds qemu-system-x86_64, qemu-img and qemu-storage-daemon.
    #[serde(default = "default_qemu_dir")]
    pub qemu_dir: PathBuf,
    #[serde(default)]
    pub accel: Accel,
    /// `UID:GID` as which QEMU, qemu-img and the storage daemon run; the agent's own user if not set.
    #[serde(default)]
    pub qemu_user: Option<QemuUser>,
    /// Memory that guests never get.
    #[serde(default = "default_reserved_memory_mb")]
    pub reserved_memory_mb: u64,
    #[serde(default = "default_ram_allocation_ratio")]
    pub ram_allocation_ratio: f64,
    #[serde(default)]
    pub disk_cache: DiskCache,
    #[serde(default)]
    pub disk_aio: DiskAio,
    /// Rate of the migration network, if it should be told to forecasts.
    #[serde(default)]
    pub link_bps: Option<u64>,
}

impl AgentConfig {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load(path)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where /dev/kvm is there *and* the CPU says vmx or svm; else TCG.
    #[default]
    Auto,
    Kvm,
    Tcg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    /// O_DIRECT where the file system has it: `stop` has no page cache to wait for.
    #[default]
    Direct,
    Writeback,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAio {
    #[default]
    Threads,
    Native,
    IoUring,
}

impl DiskAio {
    /// QEMU's word. Linux's native AIO needs O_DIRECT.
    pub fn as_str(self, direct: bool) -> &'static str {
        match (self, direct) {
            (DiskAio::Threads, _) | (DiskAio::Native, false) => "threads",
            (DiskAio::Native, true) => "native",
            (DiskAio::IoUring, _) => "io_uring",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct QemuUser {
    pub uid: u32,
    pub gid: u32,
}

impl FromStr for QemuUser {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) =
            parsed.ok_or_else(|| format!("'{text}' is no user: give UID:GID as numbers, such as 64055:64055"))?;
        Ok(QemuUser { uid, gid })
    }
}

impl TryFrom<String> for QemuUser {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn default_state_dir() -> PathBuf {
    "/var/lib/whimbrel".into()
}
fn default_run_dir() -> PathBuf {
    "/run/whimbrel".into()
}
fn default_qemu_dir() -> PathBuf {
    "/usr/bin".into()
}
fn default_reserved_memory_mb() -> u64 {
    RESERVED_MEMORY_MB
}
fn default_ram_allocation_ratio() -> f64 {
    RAM_ALLOCATION_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "name = 'h1'\ncontrol_listen = '127.0.0.1:1'\ndata_listen = '127.0.0.2:2'\ncontroller_url = 'https://c:1'\n";

    #[test]
    fn defaults_suit_and_mistakes_are_named() {
        let check = |more: &str, want: Result<(), &str>| match (
            config::parse::<AgentConfig>(Path::new("a.toml"), &format!("{LEAST}{more}")),
            want,
        ) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, want) => panic!("{more}: {got:?} where {want:?} was due"),
        };
        check("", Ok(()));
        check("accel = 'kvm'\ndisk_aio = 'io_uring'\ndisk_cache = 'writeback'\nqemu_user = '107:108'", Ok(()));
        check("shared_dir = '/srv/instances'", Ok(()));
        check("acel = 'kvm'", Err("unknown field `acel`"));
        check("accel = 'xen'", Err("unknown variant `xen`"));
        check("qemu_user = 'libvirt-qemu'", Err("give UID:GID"));
        check("qemu_user = '1'", Err("give UID:GID"));

        let config: AgentConfig = config::parse(Path::new("a.toml"), LEAST).unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/whimbrel"));
        assert_eq!((config.accel, config.disk_cache), (Accel::Auto, DiskCache::Direct));
        assert_eq!((config.qemu_user, config.shared_dir), (None, None));
    }

    #[test]
    fn native_aio_is_never_asked_of_the_page_cache() {
        assert_eq!(DiskAio::Native.as_str(false), "threads");
        assert_eq!(DiskAio::Native.as_str(true), "native");
        assert_eq!(DiskAio::IoUring.as_str(false), "io_uring");
    }
}
