//! What the controller knows of a server, as the answers need it.
//!
//! Ground rules: plain data, nothing computed: who fills it reads the store, who writes the answer reads the record.

use std::{collections::BTreeMap, net::IpAddr};

use uuid::Uuid;

use super::{
    super::times::Micros,
    state::{Power, TaskState, VmState},
};

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub id: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub project_id: String,
    pub user_id: String,
    pub created: Micros,
    pub updated: Option<Micros>,
    pub launched: Option<Micros>,
    pub terminated: Option<Micros>,
    pub vm_state: VmState,
    pub task_state: Option<TaskState>,
    pub power: Power,
    /// Of what is being done now, in percent.
    pub progress: u8,
    pub fault: Option<ServerFault>,
    pub flavor: ServerFlavor,
    /// `None` where it was made from a volume.
    pub image_id: Option<Uuid>,
    /// By name of the network, in the order of the NICs.
    pub addresses: Vec<(String, Vec<Address>)>,
    pub access_ipv4: Option<String>,
    pub access_ipv6: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub security_groups: Vec<String>,
    pub volumes: Vec<Volume>,
    pub server_groups: Vec<Uuid>,
    pub disk_config: DiskConfig,
    pub config_drive: bool,
    pub key_name: Option<String>,
    pub availability_zone: Option<String>,
    /// The zone that was asked for, if any was.
    pub pinned_availability_zone: Option<String>,
    /// `None` while no host is chosen.
    pub placed: Option<Placed>,
    /// SHA-224 of project and host: tells neighbours apart without naming the host. Empty while no host is chosen.
    pub host_id: String,
    /// `instance-0000002a`.
    pub instance_name: String,
    pub hostname: String,
    pub reservation_id: Option<String>,
    pub launch_index: u32,
    pub kernel_id: Option<String>,
    pub ramdisk_id: Option<String>,
    pub root_device_name: Option<String>,
    pub user_data: Option<String>,
    pub locked: bool,
    pub locked_reason: Option<String>,
    pub trusted_image_certificates: Option<Vec<String>>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub host: String,
    pub node: String,
    pub status: HostStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    Up,
    Unknown,
    Down,
    Maintenance,
}

/// The flavor as it was when the server was made or resized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFlavor {
    pub id: String,
    pub name: String,
    pub vcpus: u32,
    pub ram_mb: u64,
    pub disk_gb: u64,
    pub ephemeral_gb: u64,
    pub swap_mb: u64,
    pub extra_specs: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    pub kind: AddressKind,
    pub mac: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    Fixed,
    Floating,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: Uuid,
    pub delete_on_termination: bool,
}

/// Why a server is in error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFault {
    pub code: u16,
    pub created: Micros,
    pub message: String,
    pub details: Option<String>,
}

/// Whether the guest's partition grows with the flavor's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskConfig {
    Auto,
    Manual,
}

impl DiskConfig {
    pub const NAMES: [&str; 2] = ["AUTO", "MANUAL"];

    pub fn name(self) -> &'static str {
        match self {
            DiskConfig::Auto => "AUTO",
            DiskConfig::Manual => "MANUAL",
        }
    }

    pub fn of(name: &str) -> DiskConfig {
        if name == DiskConfig::Auto.name() { DiskConfig::Auto } else { DiskConfig::Manual }
    }
}

impl HostStatus {
    pub fn name(self) -> &'static str {
        match self {
            HostStatus::Up => "UP",
            HostStatus::Unknown => "UNKNOWN",
            HostStatus::Down => "DOWN",
            HostStatus::Maintenance => "MAINTENANCE",
        }
    }
}

impl AddressKind {
    pub fn name(self) -> &'static str {
        match self {
            AddressKind::Fixed => "fixed",
            AddressKind::Floating => "floating",
        }
    }
}
