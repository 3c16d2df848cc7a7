//! From a request to a record to a body.

use super::{
    super::{create, schema},
    *,
};

fn record(said: Said) -> ImageRecord {
    ImageRecord {
        id: "i1".to_owned(),
        said,
        status: ImageStatus::Active,
        file_bytes: Some(512),
        virtual_bytes: Some(1024),
        md5: Some("m".to_owned()),
        sha512: Some("s".to_owned()),
        created_us: 0,
        updated_us: 1_000_000,
    }
}

#[test]
fn what_is_said_is_shown() {
    let request = json!({
        "name": "debian", "disk_format": "qcow2", "container_format": "bare", "visibility": "private", "protected": true,
        "os_hidden": true, "min_disk": 1, "min_ram": 2, "owner": "p1", "tags": ["b", "a", "b"],
        "owner_specified.openstack.md5": "", "os_distro": "debian",
    });
    let new = create::parse(&request).unwrap();
    assert!(new.names_owner && new.id.is_none());
    let body = record(new.said).body();
    let mut want = request;
    want["tags"] = json!(["a", "b"]);
    for (name, value) in json!({
        "id": "i1", "status": "active", "size": 512, "virtual_size": 1024, "checksum": "m", "os_hash_algo": "sha512",
        "os_hash_value": "s", "created_at": "1970-01-01T00:00:00Z", "updated_at": "1970-01-01T00:00:01Z",
        "self": "/v2/images/i1", "file": "/v2/images/i1/file", "schema": "/v2/schemas/image",
    })
    .as_object()
    .unwrap()
    {
        want[name] = value.clone();
    }
    assert_eq!(body, want);
}

#[test]
fn what_is_not_said_is_null_or_the_default() {
    let new = create::parse(&json!({})).unwrap();
    assert!(!new.names_owner);
    let queued = ImageRecord {
        status: ImageStatus::Queued,
        file_bytes: None,
        virtual_bytes: None,
        md5: None,
        sha512: None,
        ..record(new.said)
    };
    let body = queued.body();
    for name in [
        "name",
        "owner",
        "disk_format",
        "container_format",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
    ] {
        assert_eq!(body.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!((&body["visibility"], &body["tags"], &body["protected"]), (&json!("shared"), &json!([]), &json!(false)));
}

#[test]
fn a_wrong_request_is_refused() {
    let check = |request: Value, want: u16| {
        assert_eq!(create::parse(&request).map_err(|fault| fault.status), Err(want), "{request}");
    };
    check(json!([]), 400);
    check(json!({"name": 1}), 400);
    check(json!({"name": "n".repeat(256)}), 400);
    check(json!({"visibility": "Public"}), 400);
    check(json!({"visibility": null}), 400);
    check(json!({"protected": "true"}), 400);
    check(json!({"min_disk": -1}), 400);
    check(json!({"min_disk": 1.5}), 400);
    check(json!({"min_ram": 1_u64 << 31}), 400);
    check(json!({"disk_format": "vmdk"}), 400);
    check(json!({"container_format": "docker"}), 400);
    check(json!({"tags": "a"}), 400);
    check(json!({"tags": [1]}), 400);
    check(json!({"tags": ["a".repeat(256)]}), 400);
    check(json!({"id": "1"}), 400);
    check(json!({"id": "0123456789abcdef0123456789abcdef"}), 400);
    check(json!({"colour": 1}), 400);
    check(json!({"colour": {"red": "1"}}), 400);
    check(json!({"": "x"}), 400);
    check(json!({"k".repeat(256): "x"}), 400);
    check(json!({"os_command_line": "a\nb"}), 400);
    for name in ["self", "file", "schema", "stores", "direct_url", "status", "size", "checksum", "created_at"] {
        check(json!({ name: "x" }), 403);
    }
    check(json!({"deleted": "x"}), 403);
    check(json!({"os_glance_importing": "x"}), 403);
    let many: Map<String, Value> = (0..129).map(|at| (format!("k{at}"), json!(""))).collect();
    check(Value::Object(many), 413);
    check(json!({"tags": (0..129).map(|at| at.to_string()).collect::<Vec<_>>()}), 413);
    let id = "01234567-89ab-cdef-0123-456789abcdef";
    assert_eq!(create::parse(&json!({ "id": id })).unwrap().id.map(|id| id.to_string()).as_deref(), Some(id));
}

#[test]
fn the_schema_has_every_field_of_a_body() {
    let schema = schema::image();
    let body = record(Said::default()).body();
    for name in body.as_object().unwrap().keys() {
        assert!(schema["properties"].get(name).is_some(), "{name}");
    }
    assert_eq!(schema["properties"]["size"]["readOnly"], json!(true));
    assert_eq!(schema["properties"]["id"].get("readOnly"), None);
    assert_eq!(schema::images()["properties"]["images"]["items"], schema);
    assert_eq!(schema::members()["properties"]["members"]["items"], schema::member());
    assert_eq!(schema::members()["properties"].get("next"), None);
}
