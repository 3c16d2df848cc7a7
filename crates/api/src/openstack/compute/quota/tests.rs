//! Which quotas are told at which version, and what is taken of a change.

use super::{
    super::shape::seen::{member, names},
    *,
};

fn quotas() -> Quotas {
    let said = Said::from([(Quota::ServerGroupMembers, -1), (Quota::SecurityGroups, 7)]);
    Quotas {
        limits: Limits::of_layers([&said]),
        servers: ProjectUse { instances: 2, cores: 3, ram_mb: 512 },
        server_groups: 1,
    }
}

fn limits_of() -> Limits {
    quotas().limits
}

const KEPT: [&str; 5] = ["cores", "instances", "ram", "key_pairs", "metadata_items"];
const GROUPS: [&str; 2] = ["server_groups", "server_group_members"];
const NETWORK: [&str; 4] = ["fixed_ips", "floating_ips", "security_groups", "security_group_rules"];
const FILES: [&str; 3] = ["injected_files", "injected_file_content_bytes", "injected_file_path_bytes"];

fn sorted(lists: &[&[&'static str]]) -> Vec<&'static str> {
    let mut all = lists.concat();
    all.sort_unstable();
    all
}

#[test]
fn quotas_are_told_until_the_version_that_dropped_them() {
    let check = |minor, want: &[&[&'static str]]| {
        let view = member(minor);
        assert_eq!(names(&updated(&limits_of(), &view)["quota_set"]), sorted(want), "2.{minor}");
        let with_id = sorted(&[want, &[&["id"]]].concat());
        assert_eq!(names(&show("p", &limits_of(), &view)["quota_set"]), with_id, "2.{minor}");
        assert_eq!(names(&detail("p", &quotas(), &view)["quota_set"]), with_id, "2.{minor}");
    };
    check(1, &[&KEPT, &GROUPS, &NETWORK, &FILES]);
    check(35, &[&KEPT, &GROUPS, &NETWORK, &FILES]);
    check(36, &[&KEPT, &GROUPS, &FILES]);
    check(56, &[&KEPT, &GROUPS, &FILES]);
    check(57, &[&KEPT, &GROUPS]);
    let body = detail("p", &quotas(), &member(57));
    assert_eq!(body["quota_set"]["cores"], json!({"limit": 20, "in_use": 3, "reserved": 0}));
    assert_eq!(body["quota_set"]["key_pairs"], json!({"limit": 100, "in_use": 0, "reserved": 0}));
    assert_eq!(body["quota_set"]["server_group_members"]["limit"], -1);
    assert_eq!(show("p", &limits_of(), &member(57))["quota_set"]["id"], "p");
}

#[test]
fn a_class_knew_nothing_of_groups_before_2_50() {
    let check = |minor, want: &[&[&'static str]]| {
        let view = member(minor);
        assert_eq!(names(&updated_class(&limits_of(), &view)["quota_class_set"]), sorted(want), "2.{minor}");
        let with_id = sorted(&[want, &[&["id"]]].concat());
        assert_eq!(names(&show_class("default", &limits_of(), &view)["quota_class_set"]), with_id, "2.{minor}");
    };
    check(1, &[&KEPT, &NETWORK, &FILES]);
    check(49, &[&KEPT, &NETWORK, &FILES]);
    check(50, &[&KEPT, &GROUPS, &FILES]);
    check(57, &[&KEPT, &GROUPS]);
}

#[test]
fn limits_lose_what_is_no_longer_there() {
    let always = sorted(&[&[
        "maxServerGroupMembers",
        "maxServerGroups",
        "maxServerMeta",
        "maxTotalCores",
        "maxTotalInstances",
        "maxTotalKeypairs",
        "maxTotalRAMSize",
        "totalCoresUsed",
        "totalInstancesUsed",
        "totalRAMUsed",
        "totalServerGroupsUsed",
    ]]);
    let network = [
        "maxSecurityGroups",
        "maxSecurityGroupRules",
        "maxTotalFloatingIps",
        "totalSecurityGroupsUsed",
        "totalFloatingIpsUsed",
    ];
    let files = ["maxPersonality", "maxPersonalitySize"];
    let check = |minor, added: &[&[&'static str]]| {
        let body = limits(&quotas(), &member(minor));
        assert_eq!(names(&body["limits"]["absolute"]), sorted(&[&[&always[..]], added].concat()), "2.{minor}");
        assert_eq!(body["limits"]["rate"], json!([]));
    };
    check(35, &[&network, &files, &["maxImageMeta"]]);
    check(36, &[&files, &["maxImageMeta"]]);
    check(38, &[&files, &["maxImageMeta"]]);
    check(39, &[&files]);
    check(56, &[&files]);
    check(57, &[]);
    let told = &limits(&quotas(), &member(1))["limits"]["absolute"];
    let check = |name: &str, want: i64| assert_eq!(told[name], want, "{name}");
    check("maxTotalRAMSize", 51_200);
    check("totalRAMUsed", 512);
    check("totalInstancesUsed", 2);
    check("totalServerGroupsUsed", 1);
    check("maxSecurityGroups", 7);
    check("maxPersonalitySize", 10_240);
}

#[test]
fn a_change_takes_what_the_version_has() {
    let check = |set: Value, minor, want: Option<QuotaUpdate>| {
        let got = parse_update(&json!({ "quota_set": set }), Microversion::v2(minor));
        assert_eq!(got.as_ref().ok(), want.as_ref(), "{set} at 2.{minor}: {got:?}");
    };
    let update = |limits: &[(Quota, i64)], force| Some(QuotaUpdate { limits: limits.iter().copied().collect(), force });
    check(json!({}), 1, update(&[], false));
    check(json!({"cores": "5", "ram": -1, "force": "True"}), 57, update(&[(Quota::Cores, 5), (Quota::Ram, -1)], true));
    check(json!({"cores": -2}), 57, None);
    check(json!({"cores": 2_147_483_648_u64}), 57, None);
    check(json!({"cores": null}), 57, None);
    check(json!({"floating_ips": 1}), 35, update(&[(Quota::FloatingIps, 1)], false));
    check(json!({"floating_ips": 1}), 36, None);
    check(json!({"injected_files": 1}), 56, update(&[(Quota::InjectedFiles, 1)], false));
    check(json!({"injected_files": 1}), 57, None);
    check(json!({"gigabytes": 1}), 1, None);
    let class =
        |set: Value, minor| parse_update_class(&json!({ "quota_class_set": set }), Microversion::v2(minor)).is_ok();
    assert!(
        class(json!({"fixed_ips": 1}), 49) && !class(json!({"fixed_ips": 1}), 50) && !class(json!({"force": true}), 1)
    );
}
