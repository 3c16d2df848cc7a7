//! What an instance is made of: all that an agent needs to build its QEMU, equal on source and target.

use serde::{Deserialize, Serialize};

use crate::{
    disk::DiskSpec,
    id::{ImageDigest, InstanceId},
};

/// The hardware of one guest. Device addresses follow from the order of `disks` and `nics`, so the order never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    pub id: InstanceId,
    /// The server's name, for people.
    pub name: String,
    pub vcpus: u32,
    pub ram_mb: u64,
    /// Versioned machine type, never an alias (`pc-q35-7.2`): a newer QEMU on the target must still know it.
    pub machine: String,
    /// Named CPU model (`qemu64`, `max` only on TCG), never `host`.
    pub cpu_model: String,
    pub disks: Vec<DiskSpec>,
    pub nics: Vec<Nic>,
    pub boot: Boot,
    /// One iothread per disk. Granted only where source and target run QEMU >= 9.0.
    pub iothreads: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// `52:54:00:…`, lower case.
    pub mac: String,
    /// The host's bridge that carries this network, equal on all hosts.
    pub bridge: String,
    /// The VLAN of that bridge to which the NIC belongs, without knowing it. `None`: whatever the bridge gives to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// From the root disk, by firmware.
    Disk,
    /// Glance's `kernel_id`, `ramdisk_id` and `os_command_line`.
    Kernel { kernel: ImageDigest, ramdisk: Option<ImageDigest>, command_line: String },
}

/// A guest that only moves its disks is never let run, so its QEMU needs no more than firmware and devices.
const DORMANT_RAM_MB: u64 = 32;

impl InstanceSpec {
    /// The same disks in a machine that never runs: for the move of a guest that is off.
    pub fn dormant(&self) -> Self {
        let ram_mb = self.ram_mb.min(DORMANT_RAM_MB);
        InstanceSpec { vcpus: 1, ram_mb, nics: Vec::new(), boot: Boot::Disk, ..self.clone() }
    }
}

/// How a guest was when its move began, and is when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedAs {
    Running,
    Paused,
    /// Switched off: only its disks move.
    Off,
}

/// What the agent says of the guest's QEMU now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    Running,
    Paused,
    Stopped,
    /// There is no QEMU; the guest's memory and devices are in a file beside its disks.
    Suspended,
    /// The QEMU process ended by itself with an error, or cannot be asked.
    Crashed,
}
