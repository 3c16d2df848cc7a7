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
