//! From flavor and image to the hardware of one guest, the same on every host.

use std::collections::{BTreeSet, HashSet};

use whimbrel_api::native::NewServer;
use whimbrel_core::{
    disk::{BaseImage, DiskFormat, DiskName, DiskSpec},
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::InstanceId,
    instance::{Boot, InstanceSpec, Nic},
};
use whimbrel_store::{FlavorRow, ImageDisk, ImageRow};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Known to every QEMU that Whimbrel works with.
const MACHINE_DEFAULT: &str = "pc-q35-7.2";
const MACHINE_FAMILY: &str = "pc-q35-";
/// The oldest with all of x86-64-v2, and complete under TCG in every QEMU since 7.2; then QEMU's least common one.
const CPU_MODELS: [&str; 2] = ["Nehalem", "qemu64"];
const CPU_MODEL_DEFAULT: &str = "qemu64";
const NICS_MAX: usize = 8;
/// Linux's IFNAMSIZ less the zero at the end.
const BRIDGE_BYTES_MAX: usize = 15;
const MAC_SALTS: u32 = 1_000;

/// `hosts`: the facts of all that are up. `taken`: MACs of other guests.
pub fn build(
    id: InstanceId,
    new: &NewServer,
    flavor: &FlavorRow,
    image: &ImageRow,
    hosts: &[HostFacts],
    taken: &HashSet<String>,
) -> Result<InstanceSpec, Failure> {
    Ok(InstanceSpec {
        id,
        name: new.name.clone(),
        vcpus: flavor.vcpus,
        ram_mb: flavor.ram_mb,
        machine: machine(new.machine.as_deref(), hosts)?,
        cpu_model: cpu_model(hosts),
        disks: disks(flavor, image)?,
        nics: nics(id, &new.networks, taken)?,
        boot: boot(new, image)?,
        iothreads: new.iothreads,
    })
}

fn bad(detail: String, hint: &str) -> Failure {
    Failure::new(FailureCode::BadRequest, detail).hint(hint)
}

fn machine(asked: Option<&str>, hosts: &[HostFacts]) -> Result<String, Failure> {
    if let Some(machine) = asked {
        return match version(machine) {
            Some(_) => Ok(machine.to_owned()),
            None => Err(bad(
                format!("'{machine}' is no versioned machine type"),
                "use a name with a version, such as pc-q35-7.2: an alias means something else on another QEMU",
            )),
        };
    }
    let knows = |host: &HostFacts, machine: &str| host.machines.iter().any(|known| known == machine);
    if hosts.iter().all(|host| knows(host, MACHINE_DEFAULT)) {
        return Ok(MACHINE_DEFAULT.to_owned());
    }
    let first = hosts.first().map(|host| host.machines.as_slice()).unwrap_or_default();
    let common = first
        .iter()
        .filter(|machine| machine.starts_with(MACHINE_FAMILY))
        .filter(|machine| hosts.iter().all(|host| knows(host, machine)));
    let newest = common.filter_map(|machine| Some((version(machine)?, machine))).max();
    newest.map(|(_, machine)| machine.clone()).ok_or_else(|| {
        let all: BTreeSet<&str> = hosts.iter().map(|host| host.qemu_version.as_str()).collect();
        let detail = format!("no {MACHINE_FAMILY} machine type is known to every host (their QEMU: {all:?})");
        Failure::new(FailureCode::Incompatible, detail).hint("name a machine type, and a host that knows it")
    })
}

/// Of `pc-q35-7.2`: (7, 2).
fn version(machine: &str) -> Option<(u32, u32)> {
    let (_, version) = machine.rsplit_once('-')?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn cpu_model(hosts: &[HostFacts]) -> String {
    let everywhere = |model: &&str| hosts.iter().all(|host| host.cpu_models.iter().any(|known| known == model));
    CPU_MODELS.into_iter().find(everywhere).unwrap_or(CPU_MODEL_DEFAULT).to_owned()
}

fn disks(flavor: &FlavorRow, image: &ImageRow) -> Result<Vec<DiskSpec>, Failure> {
    let Some(disk) = &image.disk else {
        let detail = format!("image '{}' has no disk content yet", image.name);
        return Err(Failure::new(FailureCode::BadImage, detail)
            .hint("upload it with `whimbrel image create`, or PUT /v1/images/{id}/content/disk"));
    };
    let mut disks = vec![root(flavor, image, disk)?];
    let empty = |name: &str, virtual_bytes: u64| DiskSpec {
        name: disk_name(name),
        format: DiskFormat::Qcow2,
        virtual_bytes,
        base: None,
        read_only: false,
    };
    if flavor.ephemeral_gb > 0 {
        disks.push(empty("ephemeral0", flavor.ephemeral_gb * GIB));
    }
    if flavor.swap_mb > 0 {
        disks.push(empty("swap", flavor.swap_mb * MIB));
    }
    Ok(disks)
}

fn root(flavor: &FlavorRow, image: &ImageRow, disk: &ImageDisk) -> Result<DiskSpec, Failure> {
    let virtual_bytes = if flavor.disk_gb == 0 { disk.virtual_bytes } else { flavor.disk_gb * GIB };
    if virtual_bytes < disk.virtual_bytes {
        return Err(bad(
            format!(
                "flavor '{}' has a root disk of {} GiB, image '{}' needs {} GiB",
                flavor.name,
                flavor.disk_gb,
                image.name,
                disk.virtual_bytes.div_ceil(GIB)
            ),
            "use a flavor with a larger root disk",
        ));
    }
    Ok(DiskSpec {
        name: disk_name("root"),
        format: DiskFormat::Qcow2,
        virtual_bytes,
        base: Some(BaseImage { digest: disk.digest.clone(), format: disk.format, file_bytes: disk.file_bytes }),
        read_only: false,
    })
}

fn disk_name(name: &str) -> DiskName {
    name.parse().unwrap_or_else(|error| unreachable!("a constant: {error}"))
}

fn boot(new: &NewServer, image: &ImageRow) -> Result<Boot, Failure> {
    match &image.kernel {
        Some(kernel) => Ok(Boot::Kernel {
            kernel: kernel.clone(),
            ramdisk: image.ramdisk.clone(),
            command_line: new.os_command_line.clone().or_else(|| image.os_command_line.clone()).unwrap_or_default(),
        }),
        None if new.os_command_line.is_some() => Err(bad(
            format!("image '{}' has no kernel of its own, so os_command_line cannot be given", image.name),
            "leave it out, or upload a kernel to the image",
        )),
        None => Ok(Boot::Disk),
    }
}

fn nics(id: InstanceId, bridges: &[String], taken: &HashSet<String>) -> Result<Vec<Nic>, Failure> {
    if bridges.len() > NICS_MAX {
        return Err(bad(format!("{} networks were asked for", bridges.len()), "at most 8 can be given to one server"));
    }
    let good = |bridge: &str| {
        (1..=BRIDGE_BYTES_MAX).contains(&bridge.len())
            && bridge.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
            && !bridge.starts_with(['-', '.'])
    };
    if let Some(wrong) = bridges.iter().find(|bridge| !good(bridge)) {
        let shown: String = wrong.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(bad(format!("'{shown}' is no bridge name"), "use 1 to 15 of a-z, A-Z, 0-9, '-', '_', '.'"));
    }
    let mut own = HashSet::new();
    bridges
        .iter()
        .enumerate()
        .map(|(at, bridge)| {
            let mac = (0..MAC_SALTS)
                .map(|salt| mac(id, at, salt))
                .find(|mac| !taken.contains(mac) && own.insert(mac.clone()));
            let mac = mac.ok_or_else(|| {
                Failure::new(FailureCode::Conflict, "no free MAC address was found").hint("try again")
            })?;
            Ok(Nic { mac, bridge: bridge.clone(), vlan: None })
        })
        .collect()
}

/// In QEMU's own range, and the same for the same guest and NIC.
fn mac(id: InstanceId, nic: usize, salt: u32) -> String {
    let hash = blake3::hash(format!("{id}/{nic}/{salt}").as_bytes());
    let [a, b, c, ..] = hash.as_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavor(disk_gb: u64) -> FlavorRow {
        FlavorRow {
            id: whimbrel_core::id::FlavorId(uuid::Uuid::now_v7()),
            name: "m1.medium".to_owned(),
            vcpus: 2,
            ram_mb: 512,
            disk_gb,
            ephemeral_gb: 1,
            swap_mb: 64,
            flavorid: "1".to_owned(),
            rxtx_factor: 1.0,
            public: true,
            description: None,
            created_us: 0,
        }
    }

    fn image(virtual_bytes: u64) -> ImageRow {
        let digest = blake3::hash(b"x").to_hex().parse().unwrap();
        ImageRow {
            id: whimbrel_core::id::ImageId(uuid::Uuid::now_v7()),
            name: "debian".to_owned(),
            os_command_line: Some("quiet".to_owned()),
            disk: Some(ImageDisk { digest, format: DiskFormat::Raw, file_bytes: 1, virtual_bytes }),
            kernel: None,
            ramdisk: None,
            created_us: 0,
        }
    }

    fn new() -> NewServer {
        NewServer {
            name: "s1".to_owned(),
            flavor: String::new(),
            image: String::new(),
            host: None,
            networks: vec!["br0".to_owned(), "br1".to_owned()],
            os_command_line: None,
            iothreads: false,
            machine: None,
            config_drive: false,
            user_data: None,
        }
    }

    fn id() -> InstanceId {
        InstanceId(uuid::Uuid::from_u128(7))
    }

    #[test]
    fn disks_follow_the_flavor() {
        let check = |disk_gb: u64, image_bytes: u64, want: Option<&[(&str, u64)]>| {
            let disks = disks(&flavor(disk_gb), &image(image_bytes)).ok();
            let got = disks.map(|disks| {
                disks.iter().map(|disk| (disk.name.as_str().to_owned(), disk.virtual_bytes)).collect::<Vec<_>>()
            });
            let want = want.map(|all| all.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect::<Vec<_>>());
            assert_eq!(got, want);
        };
        check(10, GIB, Some(&[("root", 10 * GIB), ("ephemeral0", GIB), ("swap", 64 * MIB)]));
        check(0, 3 * GIB, Some(&[("root", 3 * GIB), ("ephemeral0", GIB), ("swap", 64 * MIB)]));
        check(10, 10 * GIB + 1, None);
    }

    #[test]
    fn macs_are_stable_and_differ() {
        let first = nics(id(), &new().networks, &HashSet::new()).unwrap();
        assert_eq!(nics(id(), &new().networks, &HashSet::new()).unwrap(), first);
        assert!(first.iter().all(|nic| nic.mac.starts_with("52:54:00:") && nic.mac.len() == 17));
        assert_ne!(first[0].mac, first[1].mac);
        let taken = HashSet::from([first[0].mac.clone()]);
        assert_ne!(nics(id(), &new().networks, &taken).unwrap()[0].mac, first[0].mac);
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let check = |change: &dyn Fn(&mut NewServer), want: &str| {
            let mut new = new();
            change(&mut new);
            let built = build(id(), &new, &flavor(10), &image(GIB), &[], &HashSet::new());
            let failure = built.expect_err(want);
            assert!(failure.detail.contains(want) && failure.hint.is_some(), "{failure}");
        };
        check(&|new| new.networks = vec!["a b".to_owned()], "no bridge name");
        check(&|new| new.networks = vec!["br0".to_owned(); 9], "9 networks");
        check(&|new| new.machine = Some("q35".to_owned()), "no versioned machine type");
        check(&|new| new.os_command_line = Some("x".to_owned()), "no kernel of its own");
        assert!(build(id(), &new(), &flavor(10), &image(GIB), &[], &HashSet::new()).is_ok());
    }
}
