//! What an agent says of its host: all that scheduler, prechecks and forecast may know of it.
//!
//! The agent fills in what it can see. `memory_mb_used` and `disk_committed_bytes` are sums over instances *and* over
//! reservations of running migrations; the controller overrides them with its own books, which are never behind.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    disk::Storage,
    id::{HostName, ImageDigest, StorageId},
};

pub const RAM_ALLOCATION_RATIO: f64 = 1.0;
pub const RESERVED_MEMORY_MB: u64 = 512;
/// Name spaces of the UUIDs by which the Compute API knows what is on a host; never to be changed, since clients keep the UUIDs.
const SERVICES: Uuid = Uuid::from_u128(0x2f1d_6c0e_8f0b_4b5e_9a57_1d0c_3e62_74a1);
const HYPERVISORS: Uuid = Uuid::from_u128(0x8b0a_57e3_41d9_4c1f_b6e2_905f_c2d8_13b4);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    pub name: HostName,
    /// As QEMU says it: `7.2.22`, `10.0.2`.
    pub qemu_version: String,
    /// Versioned machine types that this QEMU knows.
    pub machines: Vec<String>,
    /// CPU models that this QEMU can give to a guest on this host.
    pub cpu_models: Vec<String>,
    /// `kvm` or `tcg`.
    pub accel: String,
    pub vcpus: u32,
    pub memory_mb: u64,
    /// Held by instances and reservations.
    pub memory_mb_used: u64,
    pub reserved_memory_mb: u64,
    pub ram_allocation_ratio: f64,
    /// Of the file system that holds the instances.
    pub disk_total_bytes: u64,
    pub disk_free_bytes: u64,
    /// What the instances here (and reservations) may still grow by: sum of virtual less allocated bytes.
    pub disk_committed_bytes: u64,
    pub bridges: Vec<String>,
    /// Base images already here.
    pub images: Vec<ImageDigest>,
    /// `ip:port` of the data listener on the migration network.
    pub migration_address: String,
    /// QEMU >= 9.0: a client may leave an NBD export of an iothread's disk.
    pub iothreads_safe: bool,
    /// Rate of the migration network, if the agent can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bps: Option<u64>,
    /// Rate at which its disks read and write, if measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bps: Option<u64>,
    /// `None` from an agent that does not tell it yet, as `uptime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_info: Option<CpuInfo>,
    /// As `uptime` prints it, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<String>,
    /// What its instances lie on, where other hosts may see that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageId>,
}

/// The host's own processors, in the fields that Nova tells of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuInfo {
    pub vendor: String,
    pub model: String,
    pub arch: String,
    pub features: Vec<String>,
    pub topology: CpuTopology,
}

/// Cores of a socket, threads of a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuTopology {
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

/// Of the compute service on a host: the same wherever and whenever it is asked for.
pub fn service_uuid(host: &HostName) -> Uuid {
    Uuid::new_v5(&SERVICES, host.as_str().as_bytes())
}

pub fn hypervisor_uuid(host: &HostName) -> Uuid {
    Uuid::new_v5(&HYPERVISORS, host.as_str().as_bytes())
}

impl HostFacts {
    /// Nova's `free_ram_mb`: (memory less the reserve) times the ratio, less what instances hold. May be negative.
    pub fn free_ram_mb(&self) -> i64 {
        let usable = self.memory_mb.saturating_sub(self.reserved_memory_mb);
        let offered = (usable as f64 * self.ram_allocation_ratio) as i64;
        offered.saturating_sub_unsigned(self.memory_mb_used)
    }

    /// Nova's `disk_available_least`: free bytes less what the instances here may still grow by. May be negative.
    pub fn disk_available_least_bytes(&self) -> i64 {
        i64::try_from(self.disk_free_bytes).unwrap_or(i64::MAX).saturating_sub_unsigned(self.disk_committed_bytes)
    }

    /// QEMU's version as one number: 8.2.0 is 8002000. What is missing or no number counts as zero.
    pub fn qemu_version_number(&self) -> u64 {
        let mut parts = self.qemu_version.split('.').map(|part| {
            let digits = part.find(|character: char| !character.is_ascii_digit()).map_or(part, |end| &part[..end]);
            digits.parse::<u64>().map_or(0, |number| number.min(999))
        });
        let mut next = || parts.next().unwrap_or(0);
        next() * 1_000_000 + next() * 1_000 + next()
    }

    /// Whether a server's disks on this host are files that `other` sees too.
    pub fn storage_towards(&self, other: &HostFacts) -> Storage {
        match self.storage.is_some() && self.storage == other.storage {
            true => Storage::Shared,
            false => Storage::Local,
        }
    }

    pub fn has_image(&self, digest: &ImageDigest) -> bool {
        self.images.contains(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As agents told it before there were processors and an uptime.
    const OLD: &str = r#"{"name": "h1", "qemu_version": "7.2.22", "machines": [], "cpu_models": [], "accel": "tcg", "vcpus": 1,
        "memory_mb": 1, "memory_mb_used": 0, "reserved_memory_mb": 0, "ram_allocation_ratio": 1.0, "disk_total_bytes": 1,
        "disk_free_bytes": 1, "disk_committed_bytes": 0, "bridges": [], "images": [], "migration_address": "",
        "iothreads_safe": false}"#;

    #[test]
    fn facts_of_an_older_agent_are_read() {
        let facts: HostFacts = serde_json::from_str(OLD).unwrap();
        assert_eq!((facts.cpu_info, facts.uptime, facts.storage), (None, None, None));
        let part: CpuInfo = serde_json::from_str(r#"{"arch": "x86_64"}"#).unwrap();
        assert_eq!(part, CpuInfo { arch: "x86_64".to_owned(), ..CpuInfo::default() });
    }

    #[test]
    fn disks_are_shared_only_where_both_hosts_name_the_same_storage() {
        let check = |here: Option<u128>, there: Option<u128>, want| {
            let facts = |storage: Option<u128>| {
                let known: HostFacts = serde_json::from_str(OLD).unwrap();
                HostFacts { storage: storage.map(|number| StorageId(Uuid::from_u128(number))), ..known }
            };
            assert_eq!(facts(here).storage_towards(&facts(there)), want, "{here:?} {there:?}");
        };
        check(Some(1), Some(1), Storage::Shared);
        check(Some(1), Some(2), Storage::Local);
        check(Some(1), None, Storage::Local);
        check(None, Some(1), Storage::Local);
        // Two hosts that say nothing share nothing.
        check(None, None, Storage::Local);
    }

    #[test]
    fn a_version_is_one_number() {
        let mut facts: HostFacts = serde_json::from_str(OLD).unwrap();
        let mut check = |text: &str, want: u64| {
            text.clone_into(&mut facts.qemu_version);
            assert_eq!(facts.qemu_version_number(), want, "{text}");
        };
        check("8.2.0", 8_002_000);
        check("7.2.22", 7_002_022);
        check("10.0.2 (Debian 1:10.0.2+ds-2)", 10_000_002);
        check("9.1", 9_001_000);
        check("", 0);
    }

    #[test]
    fn the_uuids_of_a_host_are_its_own_and_stay() {
        let (h1, h2): (HostName, HostName) = ("h1".parse().unwrap(), "h2".parse().unwrap());
        let all = [service_uuid(&h1), service_uuid(&h2), hypervisor_uuid(&h1), hypervisor_uuid(&h2)];
        assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])), "{all:?}");
        assert_eq!(service_uuid(&h1).get_version_num(), 5);
        assert_eq!(service_uuid(&h1).to_string(), "b2d86bf3-1bfe-5712-b30f-afd49ce8262e");
        assert_eq!(hypervisor_uuid(&h1).to_string(), "1d9ffcf6-fa42-56f9-abb7-4104f3b4e386");
    }
}
