//! From an instance to QEMU's command line, pure.
//!
//! ```text
//! pcie.0   2 rng · 4 to b NICs · c to 1d disks      (pci.0 of an i440fx machine)
//! disk     file-<name> (file) <- disk-<name> (format) <- vd-<name> (virtio-blk)
//! ```
//!
//! Ground rules: source and target must get the same machine, so all that the guest can see follows from the spec and from
//! nothing of the host; every address is explicit; QEMU always starts with `-S`, the agent says `cont`; no option ROM for
//! NICs, since its size is part of the machine and differs between QEMU's versions.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use whimbrel_core::{
    disk::{DiskFormat, DiskName},
    failure::{Failure, FailureCode},
    instance::{Boot, InstanceSpec},
};

use crate::hypervisor::{DiskIo, EMULATION};

const RNG_SLOT: u8 = 0x2;
const NIC_SLOT_FIRST: u8 = 0x4;
pub const NICS_MAX: usize = 8;
const DISK_SLOT_FIRST: u8 = 0xc;
/// The slots above belong to the chipset.
pub const DISKS_MAX: usize = 18;

pub const CONTROL_SOCKET: &str = "ctl.sock";
pub const OOB_SOCKET: &str = "oob.sock";
pub const PID_FILE: &str = "qemu.pid";
pub const CONSOLE_LOG: &str = "console.log";
/// QEMU's own words.
pub const QEMU_LOG: &str = "qemu.log";

/// Under emulation QEMU before 8.2.2 loses writes of a guest that migrates: for memory whose length is a multiple of 64
/// pages it clears the dirty log without telling the virtual CPUs' translation caches, which then write past the log
/// (`cpu_physical_memory_sync_dirty_bitmap` in include/exec/ram_addr.h). Memory that is two pages short takes the slower path
/// that tells them. Every version gets the same size, so that guests move between versions.
const EMULATED_RAM_SHORT_KIB: u64 = 8;

const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Node that holds a disk's content; exports and bitmaps are on it.
pub fn disk_node(name: &DiskName) -> String {
    format!("disk-{name}")
}

/// Node of a disk's file, below `disk_node`.
pub fn file_node(name: &DiskName) -> String {
    format!("file-{name}")
}

/// The guest's device.
pub fn disk_device(name: &DiskName) -> String {
    format!("vd-{name}")
}

/// The part of the guest's device that holds the disk: QEMU knows limits by it, and not by the device on the bus around it.
pub fn disk_backend(name: &DiskName) -> String {
    format!("/machine/peripheral/{}/virtio-backend", disk_device(name))
}

pub struct CommandLine<'a> {
    pub spec: &'a InstanceSpec,
    pub accel: &'a str,
    /// Holds sockets and pid file.
    pub run_dir: &'a Path,
    /// Holds the console's log.
    pub dir: &'a Path,
    pub images_dir: &'a Path,
    /// In the order of `spec.disks`.
    pub disks: &'a [(DiskName, PathBuf, DiskFormat)],
    pub disk_io: DiskIo,
    /// In the order of `spec.nics`.
    pub taps: &'a [String],
    /// Waits for a migration's stream.
    pub incoming: bool,
}

impl CommandLine<'_> {
    /// QEMU's arguments, without the program.
    pub fn args(&self) -> Result<Vec<String>, Failure> {
        self.check()?;
        let mut args = self.machine();
        args.extend(self.monitors());
        args.extend(self.boot());
        args.extend(self.rng());
        for at in 0..self.spec.nics.len() {
            args.extend(self.nic(at));
        }
        for at in 0..self.disks.len() {
            args.extend(self.disk(at));
        }
        if self.incoming {
            args.extend(words(&["-incoming", "defer"]));
        }
        Ok(args)
    }

    fn check(&self) -> Result<(), Failure> {
        let spec = self.spec;
        let refuse = |detail: String, hint: &str| Err(Failure::new(FailureCode::BadRequest, detail).hint(hint));
        let id = spec.id;
        if spec.disks.len() > DISKS_MAX {
            return refuse(
                format!("server {id} has {} disks, at most {DISKS_MAX} fit", spec.disks.len()),
                "use fewer disks",
            );
        }
        if spec.nics.len() > NICS_MAX {
            return refuse(
                format!("server {id} has {} NICs, at most {NICS_MAX} fit", spec.nics.len()),
                "use fewer networks",
            );
        }
        let names = self.disks.iter().map(|(name, ..)| name);
        if !spec.disks.iter().map(|disk| &disk.name).eq(names) || self.taps.len() != spec.nics.len() {
            let detail =
                format!("server {id}: files {:?} and taps {:?} do not fit its disks and NICs", self.disks, self.taps);
            return Err(Failure::new(FailureCode::Internal, detail));
        }
        for word in [&spec.machine, &spec.cpu_model] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
            if word.is_empty() || !word.bytes().all(plain) {
                let hint = "use a versioned machine type such as pc-q35-7.2 and a named CPU model such as qemu64";
                return refuse(
                    format!("server {id} has the machine or CPU model '{word}', which is no such name"),
                    hint,
                );
            }
        }
        let mac = |text: &str| {
            let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            text.split(':').count() == 6 && text.split(':').all(digits)
        };
        match spec.nics.iter().find(|nic| !mac(&nic.mac)) {
            Some(nic) => {
                refuse(format!("server {id} has a NIC with the address '{}'", nic.mac), "a MAC is 52:54:00:xx:xx:xx")
            }
            None => Ok(()),
        }
    }

    fn machine(&self) -> Vec<String> {
        let spec = self.spec;
        let mut args = words(&["-name"]);
        args.push(format!("guest={},debug-threads=on", escaped(&spec.name)));
        args.extend(words(&["-uuid"]));
        args.push(spec.id.to_string());
        args.push("-machine".into());
        args.push(format!("{},accel={},usb=off,dump-guest-core=off", spec.machine, self.accel));
        args.extend(words(&["-cpu", &spec.cpu_model, "-smp"]));
        args.push(format!("cpus={0},maxcpus={0}", spec.vcpus));
        args.extend(words(&["-m", &format!("size={}K", ram_kib(spec.ram_mb, self.accel))]));
        args.extend(words(&["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-rtc", "base=utc"]));
        args.extend(words(&["-sandbox", SANDBOX, "-msg", "timestamp=on", "-S"]));
        args
    }

    fn monitors(&self) -> Vec<String> {
        let mut args = Vec::new();
        for (id, socket) in [("ctl", CONTROL_SOCKET), ("oob", OOB_SOCKET)] {
            let path = escaped(&self.run_dir.join(socket).to_string_lossy());
            args.extend(words(&["-chardev", &format!("socket,id={id},path={path},server=on,wait=off")]));
            args.extend(words(&["-mon", &format!("chardev={id},mode=control")]));
        }
        let console = escaped(&self.dir.join(CONSOLE_LOG).to_string_lossy());
        args.extend(words(&["-chardev", &format!("file,id=console,path={console},append=on")]));
        args.extend(words(&["-serial", "chardev:console", "-pidfile", &self.run_dir.join(PID_FILE).to_string_lossy()]));
        args
    }

    fn boot(&self) -> Vec<String> {
        match &self.spec.boot {
            Boot::Disk => words(&["-boot", "strict=on"]),
            Boot::Kernel { kernel, ramdisk, command_line } => {
                let path = |digest: &str| self.images_dir.join(digest).to_string_lossy().into_owned();
                let mut args = words(&["-kernel", &path(kernel.as_str())]);
                if let Some(ramdisk) = ramdisk {
                    args.extend(words(&["-initrd", &path(ramdisk.as_str())]));
                }
                args.extend(words(&["-append", command_line]));
                args
            }
        }
    }

    fn rng(&self) -> Vec<String> {
        let device = json!({"driver": "virtio-rng-pci", "id": "rng", "rng": "random", "bus": self.bus(), "addr": slot(RNG_SLOT)});
        words(&["-object", "rng-random,id=random,filename=/dev/urandom", "-device", &device.to_string()])
    }

    fn nic(&self, at: usize) -> Vec<String> {
        let id = format!("net{at}");
        let device = json!({
            "driver": "virtio-net-pci", "id": format!("nic{at}"), "netdev": id, "mac": self.spec.nics[at].mac,
            "romfile": "", "bus": self.bus(), "addr": slot(NIC_SLOT_FIRST + at as u8),
        });
        let netdev = format!("tap,id={id},ifname={},script=no,downscript=no", self.taps[at]);
        words(&["-netdev", &netdev, "-device", &device.to_string()])
    }

    fn disk(&self, at: usize) -> Vec<String> {
        let (name, path, format) = &self.disks[at];
        let mut device = json!({
            "driver": "virtio-blk-pci", "id": disk_device(name), "drive": disk_node(name),
            "bus": self.bus(), "addr": slot(DISK_SLOT_FIRST + at as u8),
        });
        let mut args = Vec::new();
        if self.spec.iothreads {
            let iothread = format!("io-{name}");
            device["iothread"] = Value::from(iothread.as_str());
            args.extend(words(&["-object", &format!("iothread,id={iothread}")]));
        }
        if at == 0 && self.spec.boot == Boot::Disk {
            device["bootindex"] = Value::from(1);
        }
        for mut node in disk_nodes(name, path, *format, self.disk_io) {
            // The device finds out by itself and tells the guest.
            if self.spec.disks[at].read_only {
                node["read-only"] = true.into();
            }
            args.extend(words(&["-blockdev", &node.to_string()]));
        }
        args.extend(words(&["-device", &device.to_string()]));
        args
    }

    fn bus(&self) -> &'static str {
        if self.spec.machine.starts_with("pc-q35") { "pcie.0" } else { "pci.0" }
    }
}

/// File and format node of a disk, for QEMU and storage daemon alike.
pub fn disk_nodes(name: &DiskName, path: &Path, format: DiskFormat, io: DiskIo) -> [Value; 2] {
    let mut file = json!({
        "driver": "file", "node-name": file_node(name), "filename": path, "aio": io.aio, "discard": "unmap", "locking": "auto",
        "cache": {"direct": io.direct, "no-flush": false},
    });
    let mut top = json!({
        "driver": format.driver(), "node-name": disk_node(name), "file": file_node(name), "discard": "unmap",
        "cache": {"direct": io.direct, "no-flush": false},
    });
    for node in [&mut file, &mut top] {
        node["detect-zeroes"] = Value::from("off");
    }
    [file, top]
}

fn slot(slot: u8) -> String {
    format!("{slot:#x}")
}

/// Size of the guest's memory.
fn ram_kib(ram_mb: u64, accel: &str) -> u64 {
    let short = if accel == EMULATION { EMULATED_RAM_SHORT_KIB } else { 0 };
    (ram_mb << 10) - short
}

/// A value in QEMU's `key=value,…` syntax.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_core::{
        disk::DiskSpec,
        id::{ImageDigest, InstanceId},
        instance::Nic,
    };

    use super::*;

    fn spec() -> InstanceSpec {
        let disk = |name: &str, format| {
            let (name, virtual_bytes) = (name.parse().unwrap(), 1 << 30);
            DiskSpec { name, format, virtual_bytes, base: None, read_only: false }
        };
        let digest = |letter: &str| letter.repeat(64).parse::<ImageDigest>().unwrap();
        InstanceSpec {
            id: InstanceId(Uuid::from_u128(7)),
            name: "web, one".into(),
            vcpus: 2,
            ram_mb: 256,
            machine: "pc-q35-7.2".into(),
            cpu_model: "qemu64".into(),
            disks: vec![disk("root", DiskFormat::Qcow2), disk("swap", DiskFormat::Raw)],
            nics: vec![Nic { mac: "52:54:00:00:00:01".into(), bridge: "br0".into(), vlan: None }],
            boot: Boot::Kernel {
                kernel: digest("a"),
                ramdisk: Some(digest("b")),
                command_line: "console=ttyS0 a=b,c".into(),
            },
            iothreads: false,
        }
    }

    fn args(spec: &InstanceSpec, incoming: bool, direct: bool) -> Result<Vec<String>, Failure> {
        let file = |disk: &DiskSpec| {
            (disk.name.clone(), format!("/i/{}.{}", disk.name, disk.format.driver()).into(), disk.format)
        };
        let disks: Vec<_> = spec.disks.iter().map(file).collect();
        let taps: Vec<_> = (0..spec.nics.len()).map(|at| format!("wb{at}")).collect();
        let line = CommandLine {
            spec,
            accel: "tcg",
            run_dir: Path::new("/run/w,b"),
            dir: Path::new("/i"),
            images_dir: Path::new("/images"),
            disks: &disks,
            disk_io: DiskIo { direct, aio: "threads" },
            taps: &taps,
            incoming,
        };
        line.args()
    }

    /// One option a line.
    fn text(args: &[String]) -> String {
        args.join(" ").replace(" -", "\n-")
    }

    #[test]
    fn a_guest_with_a_kernel() {
        insta::assert_snapshot!(text(&args(&spec(), false, true).unwrap()));
    }

    #[test]
    fn a_target_with_iothreads_that_boots_from_disk() {
        let spec = InstanceSpec { boot: Boot::Disk, iothreads: true, machine: "pc-i440fx-7.2".into(), ..spec() };
        insta::assert_snapshot!(text(&args(&spec, true, false).unwrap()));
    }

    #[test]
    fn source_and_target_differ_in_the_incoming_flag_only() {
        let (source, mut target) = (args(&spec(), false, true).unwrap(), args(&spec(), true, true).unwrap());
        assert_eq!(target.split_off(target.len() - 2), ["-incoming", "defer"]);
        assert_eq!(source, target);
        assert!(source.contains(&"-S".to_owned()));
    }

    #[test]
    fn only_what_may_be_read_only_is_opened_so() {
        let mut spec = spec();
        spec.disks[1].read_only = true;
        let nodes: Vec<Value> = args(&spec, false, true)
            .unwrap()
            .windows(2)
            .filter(|words| words[0] == "-blockdev")
            .map(|words| serde_json::from_str(&words[1]).unwrap())
            .collect();
        let read_only = nodes.iter().filter(|node| node["read-only"] == true).map(|node| node["node-name"].as_str());
        assert_eq!(read_only.collect::<Vec<_>>(), [Some("file-swap"), Some("disk-swap")]);
        assert_eq!(nodes.len(), 4);
    }

    /// Seen as guests that hung or panicked after a move on QEMU 7.2: pages written late in the stream were missing.
    #[test]
    fn emulated_memory_keeps_off_the_lossy_path() {
        const LOSSY_MULTIPLE_KIB: u64 = 64 * 4;
        for ram_mb in [32, 512, 4096, 65_537] {
            assert_ne!(ram_kib(ram_mb, EMULATION) % LOSSY_MULTIPLE_KIB, 0);
            assert_eq!(ram_kib(ram_mb, "kvm"), ram_mb << 10);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |change: &dyn Fn(&mut InstanceSpec), part: &str| {
            let mut spec = spec();
            change(&mut spec);
            let failure = args(&spec, false, true).unwrap_err();
            assert!(failure.detail.contains(part) && failure.hint.is_some(), "{failure:?}");
        };
        check(&|spec| spec.machine = "q35,usb=on".into(), "q35,usb=on");
        check(&|spec| spec.cpu_model = String::new(), "''");
        check(&|spec| spec.nics[0].mac = "52:54".into(), "52:54");
        check(&|spec| spec.nics = vec![spec.nics[0].clone(); NICS_MAX + 1], "9 NICs");
        check(&|spec| spec.disks = vec![spec.disks[0].clone(); DISKS_MAX + 1], "19 disks");
    }
}
