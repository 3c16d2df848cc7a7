//! What of a migration is told in its two views, at which version and to whom.

use super::{
    super::shape::seen::{admin, member, names},
    *,
};

fn migration() -> Migration {
    Migration {
        id: 7,
        uuid: Uuid::from_u128(7),
        server_id: Uuid::from_u128(1),
        kind: Kind::Live,
        status: Status::Running,
        source: Place { host: Some("cn1".into()), node: Some("cn1.lab".into()) },
        target: Place { host: Some("cn2".into()), node: Some("cn2.lab".into()) },
        target_ip: Some("10.0.0.2".into()),
        memory: Transfer { total: Some(3), processed: Some(2), remaining: Some(1) },
        disk: Transfer::default(),
        old_flavor: Some(1),
        new_flavor: Some(1),
        user_id: Some("u".into()),
        project_id: Some("p".into()),
        created: 0,
        updated: None,
    }
}

fn fields(common: &[&'static str], added: &[&'static str]) -> Vec<&'static str> {
    let hosts = ["source_compute", "source_node", "dest_compute", "dest_node", "dest_host"];
    let always = ["id", "status", "created_at", "updated_at"];
    let mut names: Vec<&str> = [&hosts[..], &always, common, added].concat();
    names.sort_unstable();
    names
}

#[test]
fn each_of_the_two_views_has_the_fields_of_its_version() {
    let (bytes, all) = (
        [
            "memory_total_bytes",
            "memory_processed_bytes",
            "memory_remaining_bytes",
            "disk_total_bytes",
            "disk_processed_bytes",
            "disk_remaining_bytes",
            "server_uuid",
        ],
        ["instance_uuid", "old_instance_type_id", "new_instance_type_id"],
    );
    let check_own = |minor, added: &[&'static str]| {
        for view in [admin(minor), member(minor)] {
            assert_eq!(names(&show(&migration(), &view)["migration"]), fields(&bytes, added), "2.{minor}");
        }
    };
    check_own(23, &[]);
    check_own(58, &[]);
    check_own(59, &["uuid"]);
    check_own(80, &["uuid", "user_id", "project_id"]);
    let check_all = |minor, added: &[&'static str]| {
        let body = list(&[migration()], Some("limit=1&marker=x"), &admin(minor));
        assert_eq!(names(&body["migrations"][0]), fields(&all, added), "2.{minor}");
        assert_eq!(body.get("migrations_links").is_some(), minor >= 59, "2.{minor}");
    };
    check_all(22, &[]);
    check_all(23, &["links", "migration_type"]);
    check_all(59, &["links", "migration_type", "uuid"]);
    check_all(79, &["links", "migration_type", "uuid"]);
    check_all(80, &["links", "migration_type", "uuid", "user_id", "project_id"]);
}

#[test]
fn hosts_are_for_administrators_and_bytes_may_be_unknown() {
    let body = show(&migration(), &admin(96));
    assert_eq!(
        (&body["migration"]["source_compute"], &body["migration"]["dest_host"]),
        (&json!("cn1"), &json!("10.0.0.2"))
    );
    assert_eq!(
        (&body["migration"]["memory_total_bytes"], &body["migration"]["disk_total_bytes"]),
        (&json!(3), &json!(null))
    );
    assert_eq!(body["migration"]["created_at"], "1970-01-01T00:00:00.000000");
    assert_eq!(body["migration"]["updated_at"], body["migration"]["created_at"], "never null of a server's own");
    assert_eq!(list(&[migration()], None, &admin(96))["migrations"][0]["updated_at"], Value::Null);
    for body in
        [&show(&migration(), &member(96))["migration"], &list(&[migration()], None, &member(96))["migrations"][0]]
    {
        for field in ["source_compute", "source_node", "dest_compute", "dest_node", "dest_host"] {
            assert_eq!(body[field], Value::Null, "{field}");
        }
    }
}

#[test]
fn only_live_moves_in_progress_are_linked_to() {
    let check = |kind, status, want: bool| {
        let body = list(&[Migration { kind, status, ..migration() }], None, &admin(23));
        assert_eq!(body["migrations"][0].get("links").is_some(), want, "{kind:?} {status:?}");
    };
    check(Kind::Live, Status::Queued, true);
    check(Kind::Live, Status::Running, true);
    check(Kind::Live, Status::RunningPostCopy, true);
    check(Kind::Live, Status::Accepted, false);
    check(Kind::Live, Status::Completed, false);
    check(Kind::Cold, Status::PostMigrating, false);
    let body = list(&[migration()], None, &admin(23));
    let own = format!("https://h:1/compute/v2.1/servers/{}/migrations/7", Uuid::from_u128(1));
    assert_eq!(body["migrations"][0]["links"][0]["href"], own);
}

#[test]
fn forcing_the_end_takes_null_only() {
    let check =
        |body: Value, want| assert_eq!(parse_force_complete(&body, Microversion::v2(22)).is_ok(), want, "{body}");
    check(json!({"force_complete": null}), true);
    check(json!({"force_complete": {}}), false);
    check(json!({"force": null}), false);
    check(json!({}), false);
}
