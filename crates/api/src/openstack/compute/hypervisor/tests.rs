//! What a hypervisor tells of itself at which version.

use super::{
    super::shape::seen::{admin, names},
    *,
};

fn hypervisor() -> Hypervisor {
    let service =
        HypervisorService { id: 5, uuid: Uuid::from_u128(5), host: "cn1".into(), enabled: true, disabled_reason: None };
    Hypervisor {
        id: 3,
        uuid: Uuid::from_u128(3),
        hostname: "cn1.lab".into(),
        up: true,
        service,
        kind: "QEMU".into(),
        version: 8_002_000,
        host_ip: Some("10.0.0.1".into()),
        sizes: Sizes { vcpus: 8, free_ram_mb: -1, ..Sizes::default() },
        cpu_info: json!({"arch": "x86_64"}),
        uptime: Some("up 1 day".into()),
        servers: None,
    }
}

const SIZES: [&str; 11] = [
    "current_workload",
    "disk_available_least",
    "free_disk_gb",
    "free_ram_mb",
    "local_gb",
    "local_gb_used",
    "memory_mb",
    "memory_mb_used",
    "running_vms",
    "vcpus",
    "vcpus_used",
];

#[test]
fn a_hypervisor_tells_its_sizes_until_it_tells_its_uptime() {
    let base = ["hypervisor_hostname", "id", "state", "status"];
    let always = [&base[..], &["hypervisor_type", "hypervisor_version", "host_ip", "service"]].concat();
    let check = |minor, added: &[&str]| {
        let mut want = [&always[..], added].concat();
        want.sort_unstable();
        assert_eq!(names(&show(&hypervisor(), &admin(minor))["hypervisor"]), want, "2.{minor}");
        assert_eq!(names(&list(&[hypervisor()], None, &admin(minor))["hypervisors"][0]), base, "2.{minor}");
    };
    let sizes = [&SIZES[..], &["cpu_info"]].concat();
    for minor in [1, 27, 28, 52, 53, 87] {
        check(minor, &sizes);
    }
    check(88, &["uptime"]);
    check(96, &["uptime"]);
    let body = uptime(&hypervisor(), &admin(1));
    assert_eq!(names(&body["hypervisor"]), ["hypervisor_hostname", "id", "state", "status", "uptime"]);
    let mut counted = [&SIZES[..], &["count"]].concat();
    counted.sort_unstable();
    assert_eq!(names(&statistics(2, &Sizes::default())["hypervisor_statistics"]), counted);
}

#[test]
fn ids_and_the_processor_change_their_form() {
    let check = |minor, field: &str, want: Value| {
        assert_eq!(show(&hypervisor(), &admin(minor))["hypervisor"][field], want, "{field} at 2.{minor}");
    };
    check(52, "id", json!(3));
    check(53, "id", json!(Uuid::from_u128(3)));
    check(52, "service", json!({"id": 5, "host": "cn1", "disabled_reason": null}));
    check(53, "service", json!({"id": Uuid::from_u128(5), "host": "cn1", "disabled_reason": null}));
    check(27, "cpu_info", json!("{\"arch\":\"x86_64\"}"));
    check(28, "cpu_info", json!({"arch": "x86_64"}));
    check(1, "free_ram_mb", json!(-1));
    check(1, "disk_available_least", json!(null));
    let body = |next, minor| list(&[hypervisor()], next, &admin(minor));
    assert_eq!(body(Some("marker=3"), 32).get("hypervisors_links"), None);
    assert_eq!(names(&body(Some("marker=3"), 33)), ["hypervisors", "hypervisors_links"]);
}

#[test]
fn servers_are_told_where_they_were_asked_for() {
    let check = |servers: Option<usize>, minor, want: Option<usize>| {
        let hosted = |count| vec![HostedServer { id: Uuid::from_u128(1), name: "web".into() }; count];
        let body = list(&[Hypervisor { servers: servers.map(hosted), ..hypervisor() }], None, &admin(minor));
        let got = body["hypervisors"][0].get("servers").and_then(Value::as_array).map(Vec::len);
        assert_eq!(got, want, "{servers:?} at 2.{minor}");
    };
    check(None, 53, None);
    check(None, 75, None);
    check(Some(1), 53, Some(1));
    check(Some(0), 74, None);
    check(Some(0), 75, Some(0));
}

#[test]
fn a_list_is_asked_for_as_its_version_has_it() {
    let check = |raw: &str, minor: u16, want: Result<(Option<&str>, bool, bool), &str>| {
        let got = parse_listing(Some(raw), Microversion::v2(minor));
        match (got, want) {
            (Ok(got), Ok(want)) => {
                assert_eq!((got.pattern.as_deref(), got.with_servers, got.page.is_some()), want, "{raw} at 2.{minor}");
            }
            (Err(got), Err(want)) => {
                assert!(got.status == 400 && got.message.contains(want), "{raw} at 2.{minor}: {}", got.message);
            }
            (got, want) => panic!("{raw} at 2.{minor}: {got:?} is not {want:?}"),
        }
    };
    check("limit=1&with_servers=maybe&colour=red", 32, Ok((None, false, false)));
    check("limit=1&hypervisor_hostname_pattern=a", 52, Ok((None, false, true)));
    check("limit=1&with_servers=True", 53, Ok((None, true, true)));
    check("hypervisor_hostname_pattern=h-1.lab&with_servers=0", 53, Ok((Some("h-1.lab"), false, false)));
    check("hypervisor_hostname_pattern=a&limit=1", 53, Err("is not supported."));
    check("hypervisor_hostname_pattern=a&marker=b", 96, Err("is not supported."));
    check("hypervisor_hostname_pattern=", 53, Err("does not match"));
    check("hypervisor_hostname_pattern=a/b", 53, Err("does not match"));
    check("with_servers=maybe", 53, Err("'maybe' is no boolean"));
    check("colour=red", 53, Err("('colour' was unexpected)"));
    let show = |raw, minor| parse_showing(Some(raw), Microversion::v2(minor)).map_err(|fault| fault.status);
    assert_eq!(show("with_servers=true", 52), Ok(false));
    assert_eq!(show("with_servers=true", 53), Ok(true));
    assert_eq!(show("limit=1", 53), Err(400));
}

#[test]
fn some_calls_end_with_a_version() {
    let check = |last: u16, call: fn(Microversion) -> Result<(), Fault>| {
        assert!(call(Microversion::v2(1)).is_ok() && call(Microversion::v2(last)).is_ok());
        assert_eq!(call(Microversion::v2(last + 1)).unwrap_err().status, 404);
    };
    check(52, calls_by_name);
    check(87, calls_for_sizes);
}

#[test]
fn sizes_add_up() {
    let one = Sizes { vcpus: 2, free_ram_mb: -5, disk_available_least_gb: Some(3), ..Sizes::default() };
    let sum = Sizes::sum([&one, &one]);
    assert_eq!((sum.vcpus, sum.free_ram_mb, sum.disk_available_least_gb), (4, -10, Some(6)));
    assert_eq!(Sizes::sum([]).disk_available_least_gb, Some(0));
}
