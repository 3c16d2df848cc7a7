//! What a lab consists of and where it lies: what every later command needs to find it again.

use std::{
    fmt::Display,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use whimbrel_api::native::Bootstrapped;

use crate::net::{LinkRate, Networks};

pub const BASE_DEFAULT: &str = "/var/tmp/whimbrel-lab";
pub const NAME_DEFAULT: &str = "lab";
const NAME_BYTES_MAX: usize = 24;
const ID_DIGITS: usize = 6;
const CONTROLLER_PORT: u16 = 8770;

/// A lab's place: its files lie in a folder of its own below `base`, its record beside that folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub base: PathBuf,
    pub name: String,
}

impl Place {
    pub fn new(base: &Path, name: &str) -> Result<Place> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            bail!("'{name}' is no name of a lab: use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and '-'");
        }
        let base = std::path::absolute(base).with_context(|| format!("no folder for labs: {}", base.display()))?;
        Ok(Place { base, name: name.to_owned() })
    }

    /// Names namespaces, the link and the run folder; short, since names of links and sockets must be.
    pub(crate) fn id(&self) -> String {
        let hash = blake3::hash(self.dir().as_os_str().as_encoded_bytes());
        hash.to_hex()[..ID_DIGITS].to_owned()
    }
    pub(crate) fn labs(&self) -> PathBuf {
        self.base.join("labs")
    }
    pub(crate) fn dir(&self) -> PathBuf {
        self.labs().join(&self.name)
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.labs().join(format!("{}.json", self.name))
    }
    /// Kept when labs go.
    pub(crate) fn cache(&self) -> PathBuf {
        self.base.join("cache")
    }
    /// Sockets lie here: their paths are bounded to 107 bytes.
    pub(crate) fn run_dir(&self) -> PathBuf {
        Path::new("/run").join(format!("wb-{}", self.id()))
    }
}

/// `h1=/opt/qemu/bin`, or a folder for all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuOf {
    pub host: Option<String>,
    pub folder: PathBuf,
}

impl FromStr for QemuOf {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((host, folder)) => QemuOf { host: Some(host.to_owned()), folder: folder.into() },
            None => QemuOf { host: None, folder: text.into() },
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Site {
    pub networks: Networks,
    /// Namespace of bridges, controller and peers.
    pub fabric: String,
    pub root_link: String,
    pub dir: PathBuf,
    pub run_dir: PathBuf,
    pub link: LinkRate,
    pub hosts: Vec<HostSite>,
    pub guests: Vec<GuestSite>,
    /// The first administrator, once there is one.
    #[serde(default)]
    pub cloud: Option<Cloud>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cloud {
    pub made: Bootstrapped,
    pub password: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostSite {
    pub name: String,
    pub index: u8,
    pub namespace: String,
    pub dir: PathBuf,
    pub run_dir: PathBuf,
    /// Folder of its QEMU programs.
    pub qemu: PathBuf,
    /// Whether the lab runs an agent there.
    pub agent: bool,
    /// Where its instances lie, if other hosts see that too.
    #[serde(default)]
    pub shared_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuestSite {
    pub name: String,
    pub address: std::net::Ipv4Addr,
    /// Where its peer listens for it.
    pub peer: SocketAddrV4,
    /// Where its peer listens for the lab.
    pub control: PathBuf,
}

impl Site {
    pub fn controller_dir(&self) -> PathBuf {
        self.dir.join("controller")
    }
    pub fn controller_address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.networks.control.fabric(), CONTROLLER_PORT)
    }
    pub fn url(&self) -> String {
        format!("https://{}", self.controller_address())
    }

    pub fn host(&self, name: &str) -> Result<&HostSite> {
        let known = || names(self.hosts.iter().map(|host| &host.name));
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("the lab has no host '{name}'; hint: {}", known()))
    }

    /// The guest of that name, or the only one.
    pub fn guest(&self, name: Option<&str>) -> Result<&GuestSite> {
        let known = || names(self.guests.iter().map(|guest| &guest.name));
        match (name, self.guests.as_slice()) {
            (_, []) => bail!("no guest of the lab was booted; hint: `whimbrel lab guest boot`"),
            (None, [only]) => Ok(only),
            (None, _) => bail!("which guest? hint: {}", known()),
            (Some(name), guests) => guests
                .iter()
                .find(|guest| guest.name == name)
                .with_context(|| format!("the lab booted no guest '{name}'; hint: {}", known())),
        }
    }
}

fn names(names: impl Iterator<Item = impl Display>) -> String {
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    format!("there is {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_short_and_distinct_ids() {
        let place = |base: &str, name: &str| Place::new(Path::new(base), name);
        let (one, other) = (place("/a", "lab").unwrap(), place("/a", "lab2").unwrap());
        assert_eq!(one.id().len(), ID_DIGITS);
        assert_ne!(one.id(), other.id());
        assert_ne!(one.id(), place("/b", "lab").unwrap().id());
        assert_eq!(one.id(), place("/a", "lab").unwrap().id());
        for bad in ["", "a b", "../x", "Lab", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(place("/a", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_qemu_folder_is_for_one_host_or_all() {
        let parse = |text: &str| text.parse::<QemuOf>().unwrap();
        assert_eq!(parse("h1=/q"), QemuOf { host: Some("h1".into()), folder: "/q".into() });
        assert_eq!(parse("/q"), QemuOf { host: None, folder: "/q".into() });
    }
}
