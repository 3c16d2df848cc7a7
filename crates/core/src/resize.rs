//! A resize or a cold migration: its stages, and what each waits for.
//!
//! ```text
//!            on another host                in place, or it is there        new hardware
//!  begin ──▶ Moving ───────────────┬──────▶ Stopping ──────────────▶ Starting ──────┬──▶ Verify ──confirm──▶ (none)
//!               │ the move failed  │ same hardware                                  │      │
//!               ▼                  └────────────────────────────────────────────────┘      └──revert──▶ the same way back,
//!            as before                                                                                  with the old hardware
//! ```
//!
//! Ground rules: a guest that runs moves while it runs, and is off only for as long as its hardware changes; one that is off
//! moves off. Room for the larger of both hardwares is claimed before anything begins, and the way back is the same road: no
//! write of the guest is lost on it, and disks that grew stay as large as they are.

use serde::{Deserialize, Serialize};

use crate::{
    disk::{DiskFormat, DiskSpec, EPHEMERAL, ROOT, SWAP},
    failure::{Failure, FailureCode},
    id::{FlavorId, HostName, MigrationId},
    instance::InstanceSpec,
    server::FlavorCopy,
};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    pub stage: Stage,
    pub old: Hardware,
    pub new: Hardware,
    /// Where it was before.
    pub old_host: HostName,
    /// The guest ran, and shall run again.
    pub runs: bool,
    /// Of the action that it is.
    pub request_id: String,
    /// On the way back.
    pub reverting: bool,
    /// The one that is shown for it.
    pub migration: MigrationId,
    /// Of the way back, where it leads to another host.
    pub back: Option<MigrationId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    pub flavor: FlavorId,
    /// Of a server that the native API made nothing is kept.
    pub copy: Option<FlavorCopy>,
    pub spec: InstanceSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A migration is under way, and says itself how far it is.
    Moving,
    /// The guest is switched off.
    Stopping,
    /// It is given its hardware, and started if it ran.
    Starting,
    /// The owner looks at it, and confirms or reverts.
    Verify,
}

/// What is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Moved,
    /// The move ended with the guest where it was.
    NotMoved,
    /// Off.
    Stopped,
    /// With its hardware, and running if it shall.
    Started,
    /// Its host refuses for good.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Stay,
    Enter(Stage),
    /// Nothing of it is kept: it was given up, or reverted.
    Forget,
}

impl Resize {
    /// The hardware that it is on its way to.
    pub fn wanted(&self) -> &Hardware {
        if self.reverting { &self.old } else { &self.new }
    }

    pub fn changes_hardware(&self) -> bool {
        self.old.spec != self.new.spec
    }

    /// From where it begins when the host stays, or when it was reached.
    pub fn after_move(&self) -> Next {
        match (self.changes_hardware(), self.reverting) {
            (true, _) => Next::Enter(Stage::Stopping),
            (false, false) => Next::Enter(Stage::Verify),
            (false, true) => Next::Forget,
        }
    }

    pub fn next(&self, seen: Seen) -> Next {
        match (self.stage, seen) {
            (Stage::Moving, Seen::Moved) => self.after_move(),
            // A way back that failed may be tried again.
            (Stage::Moving, Seen::NotMoved) if self.reverting => Next::Enter(Stage::Verify),
            (Stage::Moving, Seen::NotMoved) => Next::Forget,
            (Stage::Stopping, Seen::Stopped) => Next::Enter(Stage::Starting),
            // It never went off: as it was before, where it is.
            (Stage::Stopping, Seen::Refused) if self.reverting => Next::Enter(Stage::Verify),
            (Stage::Stopping, Seen::Refused) => Next::Forget,
            (Stage::Starting, Seen::Started) if self.reverting => Next::Forget,
            // What cannot start with its new hardware can be reverted.
            (Stage::Starting, Seen::Started | Seen::Refused) => Next::Enter(Stage::Verify),
            (Stage::Moving, Seen::Stopped | Seen::Started | Seen::Refused)
            | (Stage::Stopping, Seen::Moved | Seen::NotMoved | Seen::Started)
            | (Stage::Starting, Seen::Moved | Seen::NotMoved | Seen::Stopped)
            | (Stage::Verify, Seen::Moved | Seen::NotMoved | Seen::Stopped | Seen::Started | Seen::Refused) => {
                Next::Stay
            }
        }
    }

    /// The way back.
    pub fn reverted(&self, stage: Stage) -> Resize {
        let spec = no_smaller(&self.old.spec, &self.new.spec);
        Resize { stage, reverting: true, old: Hardware { spec, ..self.old.clone() }, ..self.clone() }
    }
}

/// `old` again, but for disks that grew: what a guest wrote there is not cut off.
fn no_smaller(old: &InstanceSpec, now: &InstanceSpec) -> InstanceSpec {
    let mut spec = old.clone();
    for disk in spec.disks.iter_mut().filter(|disk| disk.name.as_str() != SWAP) {
        let grown = now.disks.iter().find(|other| other.name == disk.name);
        disk.virtual_bytes = disk.virtual_bytes.max(grown.map_or(0, |grown| grown.virtual_bytes));
    }
    // A disk that came with the new flavor may hold something by now.
    let came = now.disks.iter().filter(|disk| old.disks.iter().all(|known| known.name != disk.name));
    spec.disks.extend(came.filter(|disk| disk.name.as_str() != SWAP).cloned());
    spec
}

/// The hardware of a guest that gets another flavor. Refused where a disk would have to shrink.
pub fn with_flavor(spec: &InstanceSpec, flavor: &FlavorCopy) -> Result<InstanceSpec, Failure> {
    let mut resized = InstanceSpec { vcpus: flavor.vcpus, ram_mb: flavor.ram_mb, disks: Vec::new(), ..spec.clone() };
    let rest = spec.disks.iter().filter(|disk| ![ROOT, EPHEMERAL, SWAP].contains(&disk.name.as_str()));
    for (name, bytes) in
        [(ROOT, flavor.disk_gb * GIB), (EPHEMERAL, flavor.ephemeral_gb * GIB), (SWAP, flavor.swap_mb * MIB)]
    {
        let found = spec.disks.iter().find(|disk| disk.name.as_str() == name);
        match found {
            // A flavor without a root disk takes it as it is.
            Some(disk) if bytes == 0 && name == ROOT => resized.disks.push(disk.clone()),
            Some(disk) if bytes < disk.virtual_bytes && name != SWAP => return Err(shrinks(disk, bytes)),
            Some(disk) if bytes > 0 => resized.disks.push(DiskSpec { virtual_bytes: bytes, ..disk.clone() }),
            None if bytes > 0 => resized.disks.push(blank(name, bytes)?),
            Some(_) | None => {}
        }
    }
    resized.disks.extend(rest.cloned());
    Ok(resized)
}

fn blank(name: &str, virtual_bytes: u64) -> Result<DiskSpec, Failure> {
    let name = name.parse().map_err(|error| Failure::new(FailureCode::Internal, format!("{error}")))?;
    Ok(DiskSpec { name, format: DiskFormat::Qcow2, virtual_bytes, base: None, read_only: false })
}

/// Nova's words, with numbers.
fn shrinks(disk: &DiskSpec, bytes: u64) -> Failure {
    let detail = format!(
        "Resize error: Unable to resize disk down: disk {} has {} GiB, the flavor {} GiB.",
        disk.name,
        disk.virtual_bytes.div_ceil(GIB),
        bytes / GIB
    );
    Failure::new(FailureCode::BadRequest, detail).hint("take a flavor with disks that are at least as large")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::{id::InstanceId, instance::Boot};

    fn flavor(ram_mb: u64, disk_gb: u64, ephemeral_gb: u64, swap_mb: u64) -> FlavorCopy {
        let (id, name) = ("1".to_owned(), "f".to_owned());
        FlavorCopy { id, name, vcpus: 1, ram_mb, disk_gb, ephemeral_gb, swap_mb, extra_specs: BTreeMap::new() }
    }

    fn spec(disks: &[(&str, u64)]) -> InstanceSpec {
        InstanceSpec {
            id: InstanceId(Uuid::from_u128(1)),
            name: "s".to_owned(),
            vcpus: 1,
            ram_mb: 512,
            machine: "pc-q35-7.2".to_owned(),
            cpu_model: "qemu64".to_owned(),
            disks: disks.iter().map(|(name, bytes)| blank(name, *bytes).unwrap()).collect(),
            nics: Vec::new(),
            boot: Boot::Disk,
            iothreads: false,
        }
    }

    fn resize(stage: Stage, reverting: bool, new: InstanceSpec) -> Resize {
        let hardware = |spec| Hardware { flavor: FlavorId(Uuid::from_u128(2)), copy: None, spec };
        Resize {
            stage,
            old: hardware(spec(&[(ROOT, GIB)])),
            new: hardware(new),
            old_host: "h1".parse().unwrap(),
            runs: true,
            request_id: "req-1".to_owned(),
            reverting,
            migration: MigrationId(Uuid::from_u128(3)),
            back: None,
        }
    }

    #[test]
    fn each_stage_waits_for_its_own_end() {
        use Seen::{Moved, NotMoved, Refused, Started, Stopped};
        use Stage::{Moving, Starting, Stopping, Verify};
        let check = |stage, reverting, seen, want: Next| {
            let larger = resize(stage, reverting, spec(&[(ROOT, 2 * GIB)]));
            assert_eq!(larger.next(seen), want, "{stage:?} {reverting} {seen:?}");
        };
        for reverting in [false, true] {
            check(Moving, reverting, Moved, Next::Enter(Stopping));
            check(Stopping, reverting, Stopped, Next::Enter(Starting));
            check(Moving, reverting, Stopped, Next::Stay);
            check(Stopping, reverting, Started, Next::Stay);
            check(Starting, reverting, Stopped, Next::Stay);
            check(Verify, reverting, Moved, Next::Stay);
        }
        check(Moving, false, NotMoved, Next::Forget);
        check(Moving, true, NotMoved, Next::Enter(Verify));
        check(Stopping, false, Refused, Next::Forget);
        check(Stopping, true, Refused, Next::Enter(Verify));
        check(Starting, false, Started, Next::Enter(Verify));
        check(Starting, false, Refused, Next::Enter(Verify));
        check(Starting, true, Started, Next::Forget);
        check(Starting, true, Refused, Next::Enter(Verify));
    }

    #[test]
    fn a_cold_migration_is_over_with_its_move() {
        let same = |reverting| resize(Stage::Moving, reverting, spec(&[(ROOT, GIB)])).next(Seen::Moved);
        assert_eq!((same(false), same(true)), (Next::Enter(Stage::Verify), Next::Forget));
    }

    #[test]
    fn a_flavor_gives_disks_and_takes_none_that_holds_something() {
        let check = |flavor: FlavorCopy, want: Option<&[(&str, u64)]>| {
            let here = spec(&[(ROOT, 2 * GIB), (EPHEMERAL, GIB), (SWAP, 64 * MIB), ("config", MIB)]);
            let got = with_flavor(&here, &flavor).map(|spec| {
                spec.disks.iter().map(|disk| (disk.name.as_str().to_owned(), disk.virtual_bytes)).collect::<Vec<_>>()
            });
            let want = want.map(|all| all.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect::<Vec<_>>());
            assert_eq!(got.ok(), want);
        };
        let (root, ephemeral, swap, config) = ((ROOT, 2 * GIB), (EPHEMERAL, GIB), (SWAP, 64 * MIB), ("config", MIB));
        check(flavor(1, 2, 1, 64), Some(&[root, ephemeral, swap, config]));
        check(flavor(1, 0, 1, 64), Some(&[root, ephemeral, swap, config]));
        check(flavor(1, 3, 2, 32), Some(&[(ROOT, 3 * GIB), (EPHEMERAL, 2 * GIB), (SWAP, 32 * MIB), config]));
        check(flavor(1, 2, 1, 0), Some(&[root, ephemeral, config]));
        check(flavor(1, 1, 1, 64), None);
        check(flavor(1, 2, 0, 64), None);
    }

    #[test]
    fn a_way_back_keeps_what_grew() {
        let bigger = resize(Stage::Verify, false, spec(&[(ROOT, 2 * GIB), (EPHEMERAL, GIB), (SWAP, MIB)]));
        let back = bigger.reverted(Stage::Stopping);
        let sizes: Vec<_> =
            back.wanted().spec.disks.iter().map(|disk| (disk.name.as_str(), disk.virtual_bytes)).collect();
        assert_eq!(sizes, [(ROOT, 2 * GIB), (EPHEMERAL, GIB)]);
        assert!(back.reverting && back.stage == Stage::Stopping);
    }
}
