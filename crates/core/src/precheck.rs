//! May this instance live on that host? Asked before anything is touched.
//!
//! Ground rules: every reason is told, each with its object and its numbers; a check never guesses in favour of the move.
//! The same checks serve a new server (no source), `--plan`, a move, and the choice of a host.

use std::collections::BTreeSet;

use crate::{
    copy_mode,
    disk::Storage,
    failure::{Failure, FailureCode},
    host::HostFacts,
    instance::InstanceSpec,
};

const MIB: u64 = 1 << 20;

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    pub instance: &'a InstanceSpec,
    /// Sum over its disks of what is allocated now; 0 for a new server.
    pub allocated_bytes: u64,
    /// Already held on the target by this instance's own retained copy, which the move reuses.
    pub retained_bytes: u64,
    /// `None` for a new server.
    pub source: Option<&'a HostFacts>,
    pub target: &'a HostFacts,
    /// Nova's `disk_over_commit`: count allocated instead of virtual bytes.
    pub disk_over_commit: bool,
}

impl Placement<'_> {
    /// Disks that the target sees where they are do not move.
    pub fn storage(&self) -> Storage {
        self.source.map_or(Storage::Local, |source| source.storage_towards(self.target))
    }

    /// What must be reserved on the target's file system.
    pub fn disk_bytes(&self) -> u64 {
        if self.storage().is_shared() {
            return 0;
        }
        let own = match self.disk_over_commit {
            true => self.allocated_bytes,
            false => self.instance.disks.iter().map(|disk| disk.virtual_bytes).sum(),
        };
        own.saturating_sub(self.retained_bytes).saturating_add(self.missing_base_bytes())
    }

    /// Base images that the target does not have, each once.
    pub fn missing_base_bytes(&self) -> u64 {
        let mut seen = BTreeSet::new();
        // A new raw disk is made from its image; one that moves lies on nothing.
        let needed = |disk| if self.source.is_some() { copy_mode::base(disk) } else { disk.base.as_ref() };
        self.instance
            .disks
            .iter()
            .filter_map(needed)
            .filter(|base| !self.target.has_image(&base.digest) && seen.insert(&base.digest))
            .map(|base| base.file_bytes)
            .sum()
    }

    /// Every reason against; empty means yes.
    pub fn check(&self) -> Vec<Failure> {
        if self.source.is_some_and(|source| source.name == self.target.name) {
            return vec![self.same_host()];
        }
        let mut reasons = Vec::new();
        reasons.extend(self.ram());
        reasons.extend(self.disk());
        reasons.extend(self.machine());
        reasons.extend(self.cpu_model());
        reasons.extend(self.accel());
        reasons.extend(self.iothreads());
        reasons.extend(self.bridges());
        reasons
    }

    fn same_host(&self) -> Failure {
        let detail = format!("server '{}' is on host '{}' already", self.instance.name, self.target.name);
        Failure::new(FailureCode::SameHost, detail).hint("name another host, or none to have one chosen")
    }

    fn ram(&self) -> Option<Failure> {
        let (need_mb, free_mb) = (self.instance.ram_mb, self.target.free_ram_mb());
        (i128::from(need_mb) > i128::from(free_mb)).then(|| {
            let target = self.target;
            let detail = format!(
                "host '{}' has {free_mb} MiB of RAM free, server '{}' needs {need_mb} MiB (host {} MiB, reserve {} MiB, held \
                 by instances {} MiB, ratio {})",
                target.name,
                self.instance.name,
                target.memory_mb,
                target.reserved_memory_mb,
                target.memory_mb_used,
                target.ram_allocation_ratio
            );
            Failure::new(FailureCode::NoRam, detail).hint("choose another host, or move other servers away first")
        })
    }

    fn disk(&self) -> Option<Failure> {
        // Where they lie already, they may fill what is left, as on the host that they come from.
        if self.storage().is_shared() {
            return None;
        }
        let need = self.disk_bytes();
        let (free, what) = match self.disk_over_commit {
            true => (i128::from(self.target.disk_free_bytes), "free"),
            false => (i128::from(self.target.disk_available_least_bytes()), "free after all its disks have grown"),
        };
        (i128::from(need) > free).then(|| {
            let counted = if self.disk_over_commit { "allocated" } else { "virtual" };
            let detail = format!(
                "host '{}' has {} MiB of disk {what}, server '{}' needs {} MiB ({counted} size of its disks less {} MiB already \
                 there, and {} MiB of base images that the host lacks)",
                self.target.name,
                free.div_euclid(i128::from(MIB)),
                self.instance.name,
                need.div_ceil(MIB),
                self.retained_bytes / MIB,
                self.missing_base_bytes().div_ceil(MIB)
            );
            let failure = Failure::new(FailureCode::NoDisk, detail);
            match self.disk_over_commit {
                true => failure.hint("choose another host, or free disk space there"),
                false => failure.hint("choose another host, free disk space there, or allow disk over-commit"),
            }
        })
    }

    fn machine(&self) -> Option<Failure> {
        let machine = &self.instance.machine;
        (!self.target.machines.contains(machine)).then(|| {
            let detail = format!(
                "QEMU {} on host '{}' does not know machine type '{machine}' of server '{}'",
                self.target.qemu_version, self.target.name, self.instance.name
            );
            Failure::new(FailureCode::Incompatible, detail)
                .hint("choose a host whose QEMU is as new as the server's machine type")
        })
    }

    fn cpu_model(&self) -> Option<Failure> {
        let model = &self.instance.cpu_model;
        (!self.target.cpu_models.contains(model)).then(|| {
            let detail = format!(
                "host '{}' cannot give CPU model '{model}' to server '{}'",
                self.target.name, self.instance.name
            );
            Failure::new(FailureCode::Incompatible, detail).hint("choose a host that offers this CPU model")
        })
    }

    fn accel(&self) -> Option<Failure> {
        let source = self.source?;
        (source.accel != self.target.accel).then(|| {
            let detail = format!(
                "server '{}' runs with '{}' on host '{}', host '{}' offers '{}'",
                self.instance.name, source.accel, source.name, self.target.name, self.target.accel
            );
            Failure::new(FailureCode::Incompatible, detail).hint("choose a host with the same accelerator")
        })
    }

    fn iothreads(&self) -> Vec<Failure> {
        if !self.instance.iothreads {
            return Vec::new();
        }
        // The target is the source of the next move: both must survive a client that leaves an export.
        self.source
            .into_iter()
            .chain([self.target])
            .filter(|host| !host.iothreads_safe)
            .map(|host| {
                let detail = format!(
                    "server '{}' has iothreads, QEMU {} on host '{}' is below 9.0 and would abort when its disks are copied",
                    self.instance.name, host.qemu_version, host.name
                );
                Failure::new(FailureCode::Incompatible, detail)
                    .hint("choose a host with QEMU 9.0 or newer, or restart the server without iothreads")
            })
            .collect()
    }

    fn bridges(&self) -> Vec<Failure> {
        let missing: BTreeSet<&str> = self
            .instance
            .nics
            .iter()
            .map(|nic| nic.bridge.as_str())
            .filter(|bridge| !self.target.bridges.iter().any(|known| known == bridge))
            .collect();
        missing
            .into_iter()
            .map(|bridge| {
                let detail = format!(
                    "host '{}' has no bridge '{bridge}', which server '{}' is connected to",
                    self.target.name, self.instance.name
                );
                Failure::new(FailureCode::Incompatible, detail).hint("make the bridge there, or choose another host")
            })
            .collect()
    }
}
