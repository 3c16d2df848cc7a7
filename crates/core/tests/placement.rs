//! May an instance live on a host, and which host is best: each rule alone, with its numbers in the refusal.

use whimbrel_core::{
    disk::{BaseImage, DiskFormat, DiskSpec},
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::{HostName, ImageDigest, StorageId},
    instance::{Boot, InstanceSpec, Nic},
    precheck::Placement,
    schedule::{Candidate, Wanted, choose, rank},
};

const GIB: u64 = 1 << 30;

fn digest(hex: char) -> ImageDigest {
    hex.to_string().repeat(64).parse().expect("a digest")
}

fn host(name: &str) -> HostFacts {
    HostFacts {
        name: name.parse::<HostName>().expect("a host name"),
        qemu_version: "7.2.22".to_owned(),
        machines: vec!["pc-q35-7.2".to_owned()],
        cpu_models: vec!["qemu64".to_owned()],
        accel: "tcg".to_owned(),
        vcpus: 2,
        memory_mb: 8_192,
        memory_mb_used: 4_096,
        reserved_memory_mb: 512,
        ram_allocation_ratio: 1.0,
        disk_total_bytes: 100 * GIB,
        disk_free_bytes: 40 * GIB,
        disk_committed_bytes: 10 * GIB,
        bridges: vec!["br0".to_owned()],
        images: vec![digest('a')],
        migration_address: "10.0.0.2:7000".to_owned(),
        iothreads_safe: false,
        link_bps: None,
        disk_bps: None,
        cpu_info: None,
        uptime: None,
        storage: None,
    }
}

fn disk(name: &str, gib: u64, base: Option<(char, u64)>) -> DiskSpec {
    DiskSpec {
        name: name.parse().expect("a disk name"),
        format: DiskFormat::Qcow2,
        virtual_bytes: gib * GIB,
        base: base.map(|(hex, gib)| BaseImage {
            digest: digest(hex),
            format: DiskFormat::Qcow2,
            file_bytes: gib * GIB,
        }),
        read_only: false,
    }
}

fn instance() -> InstanceSpec {
    InstanceSpec {
        id: "01890000-0000-7000-8000-000000000001".parse().expect("a UUID"),
        name: "server-01".to_owned(),
        vcpus: 1,
        ram_mb: 3_584,
        machine: "pc-q35-7.2".to_owned(),
        cpu_model: "qemu64".to_owned(),
        disks: vec![disk("root", 10, Some(('a', 1))), disk("ephemeral0", 15, None), disk("swap", 5, None)],
        nics: vec![Nic { mac: "52:54:00:00:00:01".to_owned(), bridge: "br0".to_owned(), vlan: None }],
        boot: Boot::Disk,
        iothreads: false,
    }
}

struct Case {
    instance: InstanceSpec,
    target: HostFacts,
    source: Option<HostFacts>,
    allocated_bytes: u64,
    retained_bytes: u64,
    disk_over_commit: bool,
}

fn case(change: impl FnOnce(&mut Case)) -> Case {
    let mut case = Case {
        instance: instance(),
        target: host("b"),
        source: Some(host("a")),
        allocated_bytes: 2 * GIB,
        retained_bytes: 0,
        disk_over_commit: false,
    };
    change(&mut case);
    case
}

fn reasons(case: &Case) -> Vec<Failure> {
    Placement {
        instance: &case.instance,
        allocated_bytes: case.allocated_bytes,
        retained_bytes: case.retained_bytes,
        source: case.source.as_ref(),
        target: &case.target,
        disk_over_commit: case.disk_over_commit,
    }
    .check()
}

/// Exactly these codes, and every word in the first refusal's text.
fn check(change: impl FnOnce(&mut Case), codes: &[FailureCode], words: &[&str]) {
    let found = reasons(&case(change));
    assert_eq!(found.iter().map(|reason| reason.code).collect::<Vec<_>>(), codes, "{found:?}");
    for word in words {
        assert!(found.iter().any(|reason| reason.detail.contains(word)), "no '{word}' in {found:?}");
    }
    assert!(found.iter().all(|reason| reason.hint.is_some()), "{found:?}");
}

#[test]
fn ram() {
    // 8192 - 512 - 4096 = 3584: fits to the last MiB.
    check(|_| {}, &[], &[]);
    check(
        |case| case.instance.ram_mb += 1,
        &[FailureCode::NoRam],
        &["3584 MiB", "needs 3585 MiB", "host 'b'", "server-01"],
    );
    check(|case| case.target.memory_mb_used = 10_000, &[FailureCode::NoRam], &["-2320 MiB of RAM free"]);
    check(
        |case| {
            case.instance.ram_mb = 7_424;
            case.target.ram_allocation_ratio = 1.5;
        },
        &[],
        &[],
    );
}

#[test]
fn disk_space() {
    // Virtual: 30 GiB against 40 - 10.
    check(
        |case| case.target.disk_committed_bytes += 1,
        &[FailureCode::NoDisk],
        &["needs 30720 MiB", "30719 MiB of disk free after"],
    );
    // A base image that the host lacks comes on top, once.
    check(|case| case.target.images.clear(), &[FailureCode::NoDisk], &["31744 MiB", "1024 MiB of base images"]);
    check(
        |case| {
            case.target.images.clear();
            case.instance.disks[1].base = case.instance.disks[0].base.clone();
        },
        &[FailureCode::NoDisk],
        &["31744 MiB"],
    );
    // A raw disk is made from its image and lies on nothing then: only a new one needs it.
    let raw = |case: &mut Case| {
        case.target.images.clear();
        case.instance.disks[0].format = DiskFormat::Raw;
    };
    check(raw, &[], &[]);
    check(
        |case| {
            raw(case);
            case.source = None;
        },
        &[FailureCode::NoDisk],
        &["31744 MiB"],
    );
    // What the target has of this instance is there already.
    check(
        |case| {
            case.target.images.clear();
            case.retained_bytes = GIB;
        },
        &[],
        &[],
    );
    // Over-commit: allocated bytes against free bytes, base images too.
    check(
        |case| {
            case.disk_over_commit = true;
            case.target.disk_committed_bytes = 100 * GIB;
        },
        &[],
        &[],
    );
    check(
        |case| {
            case.disk_over_commit = true;
            case.allocated_bytes = 40 * GIB;
            case.target.images.clear();
        },
        &[FailureCode::NoDisk],
        &["allocated", "41984 MiB", "40960 MiB of disk free"],
    );
    check(|case| case.target.disk_free_bytes = 0, &[FailureCode::NoDisk], &["-10240 MiB"]);
}

/// What does not move is not counted, whatever the other host has left; its RAM is.
#[test]
fn disks_that_stay_where_they_are_need_no_room() {
    let (shared, other) = (StorageId(uuid::Uuid::from_u128(1)), StorageId(uuid::Uuid::from_u128(2)));
    let full = |storage| {
        move |case: &mut Case| {
            case.source.as_mut().expect("a move").storage = Some(shared);
            case.target.storage = storage;
            case.target.disk_free_bytes = 0;
            case.target.images.clear();
        }
    };
    check(full(Some(shared)), &[], &[]);
    check(full(Some(other)), &[FailureCode::NoDisk], &["needs 31744 MiB"]);
    check(full(None), &[FailureCode::NoDisk], &["needs 31744 MiB"]);
    for disk_over_commit in [false, true] {
        let over = |case: &mut Case| {
            full(Some(shared))(case);
            case.disk_over_commit = disk_over_commit;
            case.instance.ram_mb += 1;
        };
        check(over, &[FailureCode::NoRam], &["needs 3585 MiB"]);
    }
    let new = |case: &mut Case| {
        full(Some(shared))(case);
        case.source = None;
    };
    check(new, &[FailureCode::NoDisk], &["needs 31744 MiB"]);
}

#[test]
fn compatibility() {
    let incompatible = [FailureCode::Incompatible];
    check(|case| case.instance.machine = "pc-q35-10.0".to_owned(), &incompatible, &["pc-q35-10.0", "QEMU 7.2.22"]);
    check(|case| case.instance.cpu_model = "Skylake-Server".to_owned(), &incompatible, &["Skylake-Server"]);
    check(|case| case.target.accel = "kvm".to_owned(), &incompatible, &["'tcg'", "'kvm'"]);
    check(|case| case.target.bridges = vec!["br1".to_owned()], &incompatible, &["no bridge 'br0'"]);
    // Both ends must survive a client that leaves an iothread's export.
    check(
        |case| case.instance.iothreads = true,
        &[FailureCode::Incompatible; 2],
        &["host 'a'", "host 'b'", "below 9.0"],
    );
    check(
        |case| {
            case.instance.iothreads = true;
            case.target.iothreads_safe = true;
            if let Some(source) = &mut case.source {
                source.iothreads_safe = true;
            }
        },
        &[],
        &[],
    );
    check(|case| case.source = Some(host("b")), &[FailureCode::SameHost], &["on host 'b' already"]);
}

#[test]
fn every_reason_is_told_at_once() {
    use FailureCode::{Incompatible, NoDisk, NoRam};
    let all = |case: &mut Case| {
        case.instance.ram_mb = 100_000;
        case.instance.disks[0].virtual_bytes = 1_000 * GIB;
        case.instance.machine = "pc-q35-99".to_owned();
        case.instance.cpu_model = "none".to_owned();
        case.target.bridges.clear();
    };
    check(all, &[NoRam, NoDisk, Incompatible, Incompatible, Incompatible], &[]);
}

fn wanted<'a>(instance: &'a InstanceSpec, source: Option<&'a HostFacts>) -> Wanted<'a> {
    Wanted { allocated_bytes: 2 * GIB, source, ..Wanted::new(instance) }
}

fn names(hosts: &[HostName]) -> Vec<&str> {
    hosts.iter().map(HostName::as_str).collect()
}

#[test]
fn the_host_with_most_free_ram_wins() {
    let instance = instance();
    let (source, mut b, mut c, mut d) = (host("a"), host("b"), host("c"), host("d"));
    b.memory_mb_used = 1_000;
    c.memory_mb_used = 500;
    d.memory_mb_used = 500;
    d.disk_free_bytes += GIB;
    let hosts = [&source, &b, &c, &d].map(Candidate::new);
    let ranking = rank(&wanted(&instance, Some(&source)), &hosts);
    assert_eq!(names(&ranking.fit), ["d", "c", "b"]);
    assert_eq!(ranking.why_not.len(), 1);
    assert_eq!(ranking.why_not[0].reasons[0].code, FailureCode::SameHost);
    // A new server may go to any of them.
    assert_eq!(names(&rank(&wanted(&instance, None), &hosts).fit), ["d", "c", "b", "a"]);
    // The order in which they are asked does not matter.
    let mut backwards = hosts;
    backwards.reverse();
    assert_eq!(names(&rank(&wanted(&instance, Some(&source)), &backwards).fit), ["d", "c", "b"]);
}

#[test]
fn no_host_says_why_for_each() {
    let mut instance = instance();
    instance.ram_mb = 50_000;
    let (source, b) = (host("a"), host("b"));
    let hosts = [&source, &b].map(Candidate::new);
    let failure = choose(&wanted(&instance, Some(&source)), &hosts).expect_err("nothing fits");
    assert_eq!(failure.code, FailureCode::NoHost);
    assert!(
        failure.detail.contains("on host 'a' already") && failure.detail.contains("needs 50000 MiB"),
        "{failure:?}"
    );
    let failure = choose(&wanted(&instance, None), &[]).expect_err("no hosts");
    assert!(failure.detail.contains("no host is up"), "{failure:?}");
}
