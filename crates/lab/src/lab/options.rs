//! What a lab shall consist of.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Place, QemuOf};
use crate::{net::LinkRate, process::ProcessId};

pub const HOSTS_DEFAULT: u8 = 2;
pub const HOSTS_MAX: u8 = 64;
/// Folder of the QEMU programs that hosts run unless told otherwise.
const QEMU_VARIABLE: &str = "WHIMBREL_QEMU_72";
pub(crate) const QEMU_NEXT_VARIABLE: &str = "WHIMBREL_QEMU_100";
const SYSTEM_FOLDER: &str = "/usr/bin";
const QEMU: &str = "qemu-system-x86_64";

#[derive(Clone, Debug)]
pub struct LabOptions {
    pub place: Place,
    pub hosts: Vec<HostOptions>,
    pub link: LinkRate,
    /// Whether to bring the guest's image and flavor to the controller.
    pub image: bool,
    /// The lab goes with this process.
    pub owner: Option<ProcessId>,
    /// Moves can be held at a named place, for tests of what breaks there.
    pub holds: bool,
    /// Hosts keep their state on file systems far larger than this machine's disk.
    pub vast: bool,
    /// Says nothing on its way.
    pub quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOptions {
    pub name: String,
    /// Folder of its QEMU programs.
    pub qemu: PathBuf,
    /// Without an agent a host is only a place in the network.
    pub agent: bool,
    /// Where its instances lie, if other hosts see that too. It is there, and stays when the lab goes.
    pub shared_dir: Option<PathBuf>,
}

impl LabOptions {
    /// Hosts `h1`, `h2`, … with agents; the lab stays until it is taken down.
    pub fn of(place: Place, hosts: u8, link: LinkRate, qemu: &[QemuOf]) -> Result<LabOptions> {
        if !(1..=HOSTS_MAX).contains(&hosts) {
            bail!("{hosts} hosts cannot be; hint: 1 to {HOSTS_MAX}");
        }
        let names: Vec<String> = (1..=hosts).map(|number| format!("h{number}")).collect();
        if let Some(stray) = qemu.iter().filter_map(|of| of.host.as_ref()).find(|host| !names.contains(host)) {
            bail!("--qemu names host '{stray}', which is not among {}", names.join(", "));
        }
        let host = |name: String| {
            let own = qemu.iter().find(|of| of.host.as_deref() == Some(&*name));
            let given = own.or_else(|| qemu.iter().find(|of| of.host.is_none()));
            let qemu = match given {
                Some(of) => of.folder.clone(),
                None => qemu_folder(),
            };
            with_qemu(&qemu)?;
            Ok(HostOptions { name, qemu, agent: true, shared_dir: None })
        };
        let hosts = names.into_iter().map(host).collect::<Result<_>>()?;
        Ok(LabOptions { place, hosts, link, image: true, owner: None, holds: false, vast: false, quiet: false })
    }

    /// A lab of its own that goes with this process.
    pub fn transient(base: &std::path::Path, purpose: &str, hosts: u8) -> Result<LabOptions> {
        let place = Place::new(base, &format!("{purpose}-{}", std::process::id()))?;
        let options = LabOptions::of(place, hosts, LinkRate::UNSHAPED, &[])?;
        Ok(LabOptions { owner: Some(ProcessId::own()), quiet: true, ..options })
    }

    /// The first host has its instances in the first directory, and so on.
    pub fn on_shared(mut self, dirs: &[&Path]) -> LabOptions {
        for (host, dir) in self.hosts.iter_mut().zip(dirs) {
            host.shared_dir = Some(dir.to_path_buf());
        }
        self
    }

    /// Lets one host run another QEMU: the newer one that `./x` unpacks, if `next`.
    pub fn host_with_next_qemu(mut self, name: &str) -> Result<LabOptions> {
        let folder = env::var_os(QEMU_NEXT_VARIABLE).map(PathBuf::from);
        let folder =
            folder.with_context(|| format!("{QEMU_NEXT_VARIABLE} is not set; hint: run through ./x, which sets it"))?;
        with_qemu(&folder)?;
        let host = self.hosts.iter_mut().find(|host| host.name == name);
        host.with_context(|| format!("the lab has no host '{name}'"))?.qemu = folder;
        Ok(self)
    }
}

pub(crate) fn qemu_folder() -> PathBuf {
    env::var_os(QEMU_VARIABLE).map_or_else(|| SYSTEM_FOLDER.into(), PathBuf::from)
}

fn with_qemu(folder: &std::path::Path) -> Result<()> {
    if !folder.join(QEMU).exists() {
        bail!("there is no {QEMU} in {}; hint: ./x deps, and run through ./x, or say --qemu FOLDER", folder.display());
    }
    Ok(())
}
