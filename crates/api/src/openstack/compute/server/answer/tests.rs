//! What of a server is told at which version and to whom.

use std::collections::BTreeMap;

use super::{
    super::{
        super::shape::seen::{admin, member, names},
        record::{AddressKind, HostStatus, ServerFault, ServerFlavor, Volume},
        state::{Power, TaskState},
    },
    *,
};

const WHEN: i64 = 1_767_323_045_000_000;

fn server() -> Server {
    Server {
        id: Uuid::from_u128(1),
        name: "web".into(),
        description: None,
        project_id: "p".into(),
        user_id: "u".into(),
        created: WHEN,
        updated: None,
        launched: Some(WHEN),
        terminated: None,
        vm_state: VmState::Active,
        task_state: None,
        power: Power::Running,
        progress: 40,
        fault: None,
        flavor: ServerFlavor {
            id: "42".into(),
            name: "m1.small".into(),
            vcpus: 1,
            ram_mb: 512,
            disk_gb: 5,
            ephemeral_gb: 0,
            swap_mb: 0,
            extra_specs: BTreeMap::new(),
        },
        image_id: Some(Uuid::from_u128(2)),
        addresses: vec![(
            "net".into(),
            vec![Address { ip: [10, 0, 0, 3].into(), kind: AddressKind::Fixed, mac: "52:54:00:00:00:01".into() }],
        )],
        access_ipv4: None,
        access_ipv6: None,
        metadata: BTreeMap::new(),
        tags: vec!["t".into()],
        security_groups: vec!["default".into()],
        volumes: vec![Volume { id: Uuid::from_u128(3), delete_on_termination: true }],
        server_groups: vec![],
        disk_config: DiskConfig::Manual,
        config_drive: true,
        key_name: None,
        availability_zone: Some("nova".into()),
        pinned_availability_zone: None,
        placed: Some(Placed { host: "cn1".into(), node: "cn1.lab".into(), status: HostStatus::Up }),
        host_id: "0a".into(),
        instance_name: "instance-00000001".into(),
        hostname: "web".into(),
        reservation_id: Some("r-1".into()),
        launch_index: 0,
        kernel_id: None,
        ramdisk_id: None,
        root_device_name: Some("/dev/vda".into()),
        user_data: None,
        locked: false,
        locked_reason: None,
        trusted_image_certificates: None,
    }
}

const OLDEST: [&str; 27] = [
    "OS-DCF:diskConfig",
    "OS-EXT-AZ:availability_zone",
    "OS-EXT-STS:power_state",
    "OS-EXT-STS:task_state",
    "OS-EXT-STS:vm_state",
    "OS-SRV-USG:launched_at",
    "OS-SRV-USG:terminated_at",
    "accessIPv4",
    "accessIPv6",
    "addresses",
    "config_drive",
    "created",
    "flavor",
    "hostId",
    "id",
    "image",
    "key_name",
    "links",
    "metadata",
    "name",
    "os-extended-volumes:volumes_attached",
    "progress",
    "security_groups",
    "status",
    "tenant_id",
    "updated",
    "user_id",
];

/// What each version adds, and who sees it.
const ADDED: [(u16, bool, &str); 19] = [
    (1, true, "OS-EXT-SRV-ATTR:host"),
    (1, true, "OS-EXT-SRV-ATTR:hypervisor_hostname"),
    (1, true, "OS-EXT-SRV-ATTR:instance_name"),
    (3, true, "OS-EXT-SRV-ATTR:hostname"),
    (3, true, "OS-EXT-SRV-ATTR:reservation_id"),
    (3, true, "OS-EXT-SRV-ATTR:launch_index"),
    (3, true, "OS-EXT-SRV-ATTR:kernel_id"),
    (3, true, "OS-EXT-SRV-ATTR:ramdisk_id"),
    (3, true, "OS-EXT-SRV-ATTR:root_device_name"),
    (3, true, "OS-EXT-SRV-ATTR:user_data"),
    (9, false, "locked"),
    (16, true, "host_status"),
    (19, false, "description"),
    (26, false, "tags"),
    (63, false, "trusted_image_certificates"),
    (71, false, "server_groups"),
    (73, false, "locked_reason"),
    (90, false, "OS-EXT-SRV-ATTR:hostname"),
    (96, false, "pinned_availability_zone"),
];

#[test]
fn a_server_has_the_fields_of_its_version_and_no_others() {
    for minor in 1..=96 {
        for (view, is_admin) in [(member(minor), false), (admin(minor), true)] {
            let added = ADDED.iter().filter(|(since, of_admin, _)| *since <= minor && (is_admin || !of_admin));
            let mut want: Vec<&str> = OLDEST.iter().copied().chain(added.map(|(_, _, name)| *name)).collect();
            want.sort_unstable();
            want.dedup();
            assert_eq!(names(&show(&server(), &view)["server"]), want, "2.{minor} {:?}", view.viewer);
            want.retain(|name| *name != "server_groups");
            assert_eq!(names(&detail(&[server()], None, &view)["servers"][0]), want, "2.{minor} {:?}", view.viewer);
        }
    }
}

#[test]
fn values_change_their_form_with_the_version() {
    let check = |minor, field: &str, want: Value| {
        assert_eq!(show(&server(), &admin(minor))["server"][field], want, "{field} at 2.{minor}");
    };
    let link = json!({"id": "42", "links": [{"rel": "bookmark", "href": "https://h:1/compute/flavors/42"}]});
    let embedded = json!({
        "original_name": "m1.small", "vcpus": 1, "ram": 512, "disk": 5, "ephemeral": 0, "swap": 0, "extra_specs": {},
    });
    check(46, "flavor", link);
    check(47, "flavor", embedded);
    let id = Uuid::from_u128(3);
    check(2, "os-extended-volumes:volumes_attached", json!([{ "id": id }]));
    check(3, "os-extended-volumes:volumes_attached", json!([{"id": id, "delete_on_termination": true}]));
    check(1, "created", json!("2026-01-02T03:04:05Z"));
    check(1, "OS-SRV-USG:launched_at", json!("2026-01-02T03:04:05.000000"));
    check(1, "config_drive", json!("True"));
    check(1, "accessIPv4", json!(""));
    check(1, "OS-EXT-STS:power_state", json!(1));
    check(1, "OS-EXT-SRV-ATTR:host", json!("cn1"));
    check(1, "OS-EXT-SRV-ATTR:hypervisor_hostname", json!("cn1.lab"));
    check(16, "host_status", json!("UP"));
    let long = json!({
        "addr": "10.0.0.3", "version": 4, "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "52:54:00:00:00:01",
    });
    check(1, "addresses", json!({ "net": [long] }));
}

#[test]
fn an_update_says_less_until_it_says_what_show_says() {
    let body = updated(&server(), &admin(74));
    assert_eq!(body["server"]["addresses"], json!({"net": [{"addr": "10.0.0.3", "version": 4}]}));
    for (field, there) in [("key_name", false), ("OS-EXT-STS:vm_state", false), ("tags", true), ("server_groups", true)]
    {
        assert_eq!(body["server"].get(field).is_some(), there, "{field}");
    }
    assert_eq!(updated(&server(), &admin(75)), show(&server(), &admin(75)));
}

#[test]
fn what_is_told_depends_on_the_state() {
    let check = |change: fn(&mut Server), field: &str, want: Option<Value>| {
        let mut server = server();
        change(&mut server);
        assert_eq!(show(&server, &member(1))["server"].get(field), want.as_ref(), "{field}");
    };
    check(|server| server.task_state = Some(TaskState::Migrating), "status", Some(json!("MIGRATING")));
    check(|server| server.task_state = Some(TaskState::Migrating), "progress", Some(json!(40)));
    check(|server| server.vm_state = VmState::Paused, "progress", None);
    check(|server| server.vm_state = VmState::Building, "addresses", Some(json!({})));
    check(|server| server.image_id = None, "image", Some(json!("")));
    check(|server| server.security_groups.clear(), "security_groups", None);
    check(|server| server.config_drive = false, "config_drive", Some(json!("")));
    check(|server| server.updated = Some(WHEN + 1_000_000), "updated", Some(json!("2026-01-02T03:04:06Z")));
}

#[test]
fn a_fault_is_told_of_a_failed_server_and_its_details_not_to_everyone() {
    let check = |vm_state, code, view: View, want: Option<Value>| {
        let fault = ServerFault { code, created: WHEN, message: "no".into(), details: Some("why".into()) };
        let server = Server { vm_state, fault: Some(fault), ..server() };
        assert_eq!(show(&server, &view)["server"].get("fault"), want.as_ref(), "{code} {view:?}");
    };
    let bare = |code| json!({"code": code, "created": "2026-01-02T03:04:05Z", "message": "no"});
    let full = |code| json!({"code": code, "created": "2026-01-02T03:04:05Z", "message": "no", "details": "why"});
    check(VmState::Active, 500, admin(1), None);
    check(VmState::Error, 500, member(1), Some(bare(500)));
    check(VmState::Error, 500, admin(1), Some(full(500)));
    check(VmState::Error, 404, member(1), Some(full(404)));
}

#[test]
fn lists_are_short_and_a_create_says_where_it_will_be() {
    let body = list(&[server()], Some("limit=1&marker=x"), &member(96));
    assert_eq!(names(&body["servers"][0]), ["id", "links", "name"]);
    assert_eq!(body["servers_links"][0]["href"], "https://h:1/compute/v2.1/servers?limit=1&marker=x");
    let new = Created {
        id: Uuid::from_u128(1),
        disk_config: DiskConfig::Auto,
        security_groups: vec![],
        admin_pass: Some("secret".into()),
    };
    let body = created(&new, &member(1));
    assert_eq!(names(&body["server"]), ["OS-DCF:diskConfig", "adminPass", "id", "links", "security_groups"]);
    assert_eq!(body["server"]["security_groups"], json!([{"name": "default"}]));
    let body = created(&Created { admin_pass: None, ..new }, &member(1));
    assert_eq!(body["server"].get("adminPass"), None);
    assert_eq!(reserved("r-1"), json!({"reservation_id": "r-1"}));
}

#[test]
fn the_text_of_a_page_is_the_page() {
    let servers = [server(), server(), server()];
    for (count, next) in [(0, None), (1, None), (3, Some("limit=3&marker=x"))] {
        let mut text = DetailText::default();
        let view = admin(96);
        for server in &servers[..count] {
            text.add(server, &view).unwrap();
        }
        let text = text.finish(next, &view).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read, detail(&servers[..count], next, &view));
    }
}
