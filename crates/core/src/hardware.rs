//! How the hardware of a guest that is off may change: more or fewer CPUs and RAM, disks that grow, a swap disk of another size.
//!
//! Ground rules: no byte that a guest wrote is given up but those of a swap disk, which hold nothing across a start; what the
//! guest's own configuration relies on (machine type, CPU model, NICs, the order of its disks) stays. What a disk's file lies on is
//! its host's own matter and no difference.

use crate::{
    disk::{DiskSpec, SWAP},
    failure::{Failure, FailureCode},
    instance::InstanceSpec,
};

/// What has to be done to the files, in the order of the wanted disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The hardware afterwards, each disk on what it lies on here.
    pub spec: InstanceSpec,
    pub disks: Vec<DiskChange>,
    /// Those that are not wanted any more.
    pub gone: Vec<DiskSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskChange {
    Keep,
    Grow,
    /// Made blank, in the place of one that may be there.
    Make,
}

/// `None` where `asked` is what is `here` already.
pub fn change(here: &InstanceSpec, asked: &InstanceSpec) -> Result<Option<Change>, Failure> {
    if bare(here) == bare(asked) {
        return Ok(None);
    }
    if frame(here) != frame(asked) {
        return Err(other(here, "other than in CPUs, RAM and the size of its disks"));
    }
    let mut spec = InstanceSpec { name: here.name.clone(), disks: Vec::new(), ..asked.clone() };
    let mut disks = Vec::new();
    for wanted in &asked.disks {
        let found = here.disks.iter().find(|disk| disk.name == wanted.name);
        let (disk, change) = disk(here, found, wanted)?;
        spec.disks.push(disk);
        disks.push(change);
    }
    let gone: Vec<DiskSpec> =
        here.disks.iter().filter(|disk| asked.disks.iter().all(|wanted| wanted.name != disk.name)).cloned().collect();
    if let Some(lost) = gone.iter().find(|disk| disk.name.as_str() != SWAP) {
        return Err(other(here, &format!("without its disk {}", lost.name)));
    }
    Ok(Some(Change { spec, disks, gone }))
}

fn disk(here: &InstanceSpec, found: Option<&DiskSpec>, wanted: &DiskSpec) -> Result<(DiskSpec, DiskChange), Failure> {
    let Some(found) = found else {
        return match &wanted.base {
            None => Ok((wanted.clone(), DiskChange::Make)),
            Some(_) => Err(other(here, &format!("with another disk {} that is not blank", wanted.name))),
        };
    };
    let kept = DiskSpec { virtual_bytes: wanted.virtual_bytes, ..found.clone() };
    if found.format != wanted.format || found.read_only != wanted.read_only {
        return Err(other(here, &format!("with a disk {} of another kind", wanted.name)));
    }
    if wanted.virtual_bytes == found.virtual_bytes {
        return Ok((kept, DiskChange::Keep));
    }
    if wanted.name.as_str() == SWAP {
        return Ok((kept, DiskChange::Make));
    }
    if wanted.virtual_bytes > found.virtual_bytes && !found.read_only {
        return Ok((kept, DiskChange::Grow));
    }
    let sizes = format!("of {} bytes and not {}", wanted.virtual_bytes, found.virtual_bytes);
    Err(other(here, &format!("with a disk {} {sizes}", wanted.name)))
}

fn other(here: &InstanceSpec, how: &str) -> Failure {
    let detail = format!("server {} is here with other hardware than asked for: it was asked for {how}", here.id);
    Failure::new(FailureCode::Conflict, detail).hint("disks only grow, and all else stays: make a new server")
}

/// Without what the guest does not see.
fn bare(spec: &InstanceSpec) -> InstanceSpec {
    let mut spec = InstanceSpec { name: String::new(), ..spec.clone() };
    spec.disks.iter_mut().for_each(|disk| disk.base = None);
    spec
}

/// What never changes.
fn frame(spec: &InstanceSpec) -> InstanceSpec {
    InstanceSpec { vcpus: 0, ram_mb: 0, disks: Vec::new(), ..bare(spec) }
}

/// What both take at least: room for it is enough before the change and after.
pub fn larger_of(one: &InstanceSpec, other: &InstanceSpec) -> InstanceSpec {
    let mut spec = one.clone();
    spec.vcpus = spec.vcpus.max(other.vcpus);
    spec.ram_mb = spec.ram_mb.max(other.ram_mb);
    for disk in &other.disks {
        match spec.disks.iter_mut().find(|known| known.name == disk.name) {
            Some(known) => known.virtual_bytes = known.virtual_bytes.max(disk.virtual_bytes),
            None => spec.disks.push(disk.clone()),
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        disk::{BaseImage, DiskFormat},
        id::InstanceId,
        instance::Boot,
    };

    fn disk(name: &str, virtual_bytes: u64) -> DiskSpec {
        let name = name.parse().unwrap();
        DiskSpec { name, format: DiskFormat::Qcow2, virtual_bytes, base: None, read_only: false }
    }

    fn spec(disks: &[(&str, u64)]) -> InstanceSpec {
        InstanceSpec {
            id: InstanceId(Uuid::from_u128(1)),
            name: "s".to_owned(),
            vcpus: 1,
            ram_mb: 512,
            machine: "pc-q35-7.2".to_owned(),
            cpu_model: "qemu64".to_owned(),
            disks: disks.iter().map(|(name, bytes)| disk(name, *bytes)).collect(),
            nics: Vec::new(),
            boot: Boot::Disk,
            iothreads: false,
        }
    }

    const HERE: &[(&str, u64)] = &[("root", 10), ("swap", 4)];

    #[test]
    fn disks_grow_and_only_a_swap_disk_is_made_anew() {
        use DiskChange::{Grow, Keep, Make};
        let check = |asked: &[(&str, u64)], want: Option<(&[DiskChange], usize)>| {
            let asked = InstanceSpec { ram_mb: 1024, ..spec(asked) };
            match (change(&spec(HERE), &asked), want) {
                (Ok(Some(change)), Some((disks, gone))) => {
                    assert_eq!((change.disks.as_slice(), change.gone.len()), (disks, gone));
                    assert_eq!(change.spec, asked);
                }
                (Err(failure), None) => assert!(failure.code == FailureCode::Conflict && failure.hint.is_some()),
                (got, want) => panic!("{got:?} where {want:?} was due"),
            }
        };
        check(HERE, Some((&[Keep, Keep], 0)));
        check(&[("root", 11), ("swap", 4)], Some((&[Grow, Keep], 0)));
        check(&[("root", 9), ("swap", 4)], None);
        check(&[("root", 10), ("swap", 3)], Some((&[Keep, Make], 0)));
        check(&[("root", 10), ("swap", 9)], Some((&[Keep, Make], 0)));
        check(&[("root", 10)], Some((&[Keep], 1)));
        check(&[("root", 10), ("ephemeral0", 5), ("swap", 4)], Some((&[Keep, Make, Keep], 0)));
        check(&[("swap", 4)], None);
    }

    #[test]
    fn the_same_hardware_is_no_change_and_another_machine_is_refused() {
        let here = spec(HERE);
        let mut on_image = here.clone();
        let digest = "a".repeat(64).parse().unwrap();
        on_image.disks[0].base = Some(BaseImage { digest, format: DiskFormat::Raw, file_bytes: 1 });
        on_image.name = "renamed".to_owned();
        assert_eq!(change(&here, &on_image), Ok(None));
        let grown = InstanceSpec { vcpus: 2, ..here.clone() };
        assert_eq!(change(&on_image, &grown).unwrap().unwrap().spec.disks[0].base, on_image.disks[0].base);
        let refused = |asked: InstanceSpec| assert!(change(&here, &asked).is_err(), "{asked:?}");
        refused(InstanceSpec { machine: "pc-q35-9.0".to_owned(), ..here.clone() });
        refused(InstanceSpec { cpu_model: "Nehalem".to_owned(), ..here.clone() });
        let mut read_only = here.clone();
        read_only.disks[0].read_only = true;
        refused(read_only);
        let mut more = InstanceSpec { vcpus: 2, ..on_image.clone() };
        more.disks.push(DiskSpec { name: "data".parse().unwrap(), ..on_image.disks[0].clone() });
        refused(more);
    }

    #[test]
    fn room_for_both_is_the_larger_of_each() {
        let (one, other) = (spec(HERE), InstanceSpec { vcpus: 4, ram_mb: 256, ..spec(&[("root", 12), ("swap", 1)]) });
        let both = larger_of(&one, &other);
        assert_eq!((both.vcpus, both.ram_mb), (4, 512));
        assert_eq!(both.disks.iter().map(|disk| disk.virtual_bytes).collect::<Vec<_>>(), [12, 4]);
    }
}
