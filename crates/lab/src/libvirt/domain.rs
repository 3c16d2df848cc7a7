//! The guest as libvirt gets it: the domain and its three disks.

use std::path::PathBuf;

use anyhow::Result;

use super::Daemon;
use crate::{
    image::{BootLine, GuestImage, ROOT_VIRTUAL_BYTES},
    lab,
    net::GUEST_BRIDGE,
    tool,
};

pub(super) const NAME: &str = "guest";
/// Disk files in the order of their devices.
const ROOT: &str = "root.qcow2";
const EPHEMERAL: &str = "ephemeral0.qcow2";
const SWAP: &str = "swap.qcow2";
const DEVICES: [(&str, &str); 3] = [("vda", ROOT), ("vdb", EPHEMERAL), ("vdc", SWAP)];
pub(super) const DEVICE_LIST: &str = "vda,vdb,vdc";

/// What the disks of a side are made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    /// The root disk an overlay on the base image, the others empty.
    Fresh,
    /// Empty ones of the same size, to be copied into.
    Empty,
}

#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) image: GuestImage,
    pub(crate) line: BootLine,
}

pub(crate) fn make_disks(image: &GuestImage, daemon: &Daemon, disks: Disks) -> Result<()> {
    let create = |file: &str, options: &[&str], bytes: u64| {
        let path = daemon.images().join(file).display().to_string();
        let tool = daemon.qemu.join("qemu-img").display().to_string();
        let bytes = bytes.to_string();
        let args = [&["create", "-q", "-f", "qcow2"], options, &[&*path, &*bytes]].concat();
        tool::run(&tool, &args).map(drop)
    };
    let base = image.root_base.display().to_string();
    let backing = ["-b", &*base, "-F", "qcow2"];
    let root: &[&str] = match disks {
        Disks::Fresh => &backing,
        Disks::Empty => &[],
    };
    create(ROOT, root, ROOT_VIRTUAL_BYTES)?;
    create(EPHEMERAL, &[], lab::EPHEMERAL_GB << 30)?;
    create(SWAP, &[], lab::SWAP_MB << 20)
}

impl Domain {
    /// Starts it; it goes for good when it ends.
    pub(crate) async fn start(&self, daemon: &Daemon) -> Result<()> {
        let path = self.write_xml(daemon)?;
        daemon.virsh(&["create", &path.display().to_string()]).await.map(drop)
    }

    fn write_xml(&self, daemon: &Daemon) -> Result<PathBuf> {
        let path = daemon.images().join("domain.xml");
        fs_err::write(&path, self.xml(daemon))?;
        Ok(path)
    }

    fn xml(&self, daemon: &Daemon) -> String {
        let images = daemon.images_inside().display();
        let disk = |(device, file): (&str, &str)| {
            format!(
                "<disk type='file' device='disk'>\
                 <driver name='qemu' type='qcow2' cache='none' discard='unmap' detect_zeroes='unmap'/>\
                 <source file='{images}/{file}'/><target dev='{device}' bus='virtio'/></disk>"
            )
        };
        let disks: String = DEVICES.into_iter().map(disk).collect();
        format!(
            "<domain type='qemu'><name>{NAME}</name><memory unit='MiB'>{ram}</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>\
             <cmdline>{line}</cmdline></os><features><acpi/><apic/></features><cpu mode='maximum'/><on_poweroff>destroy</on_poweroff><devices>\
             <emulator>{emulator}</emulator>{disks}\
             <interface type='bridge'><source bridge='{GUEST_BRIDGE}'/><model type='virtio'/><driver name='qemu'/></interface>\
             <serial type='file'><source path='{images}/serial'/><target port='0'/></serial>\
             <memballoon model='none'/></devices></domain>\n",
            ram = lab::RAM_MB,
            kernel = self.image.kernel.display(),
            initrd = self.image.initrd.display(),
            line = self.line,
            emulator = daemon.emulator.display(),
        )
    }
}
