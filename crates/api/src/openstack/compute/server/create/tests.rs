//! What a request for a server may say at which version, and what is refused of it.

use super::*;
use serde_json::json;

const ID: &str = "00000000-0000-0000-0000-000000000001";

/// A request with these keys over the least that is complete at every version.
fn request(changes: Value) -> Value {
    let mut server = json!({"name": "web", "flavorRef": "42", "networks": []});
    for (key, value) in changes.as_object().into_iter().flatten() {
        server[key] = value.clone();
    }
    json!({ "server": server })
}

fn least() -> NewServer {
    parse(&request(json!({})), Microversion::FIRST).expect("the least")
}

#[test]
fn the_least_has_its_defaults() {
    let least = least();
    assert_eq!((least.name.as_str(), least.flavor.as_str(), least.image), ("web", "42", None));
    assert_eq!((least.count_min, least.count_max, least.config_drive), (1, 1, false));
    assert_eq!(least.networks, Networks::Listed(vec![]));
    let unsaid = parse(&json!({"server": {"name": "web", "flavorRef": 42}}), Microversion::v2(36));
    assert_eq!(unsaid, Ok(NewServer { networks: Networks::Unsaid, ..least }));
}

#[test]
fn what_is_said_is_kept() {
    let check = |changes: Value, minor, want: NewServer| {
        assert_eq!(parse(&request(changes.clone()), Microversion::v2(minor)), Ok(want), "{changes} at 2.{minor}");
    };
    let text = |text: &str| Some(text.to_owned());
    check(json!({ "imageRef": ID }), 1, NewServer { image: Some(Uuid::from_u128(1)), ..least() });
    check(json!({"imageRef": ""}), 1, NewServer { image: None, ..least() });
    check(json!({"flavorRef": "http://h/flavors/7"}), 1, NewServer { flavor: "7".into(), ..least() });
    check(json!({"min_count": "2"}), 1, NewServer { count_min: 2, count_max: 2, ..least() });
    check(json!({"max_count": 3}), 1, NewServer { count_max: 3, ..least() });
    check(json!({"config_drive": "True"}), 1, NewServer { config_drive: true, ..least() });
    check(json!({"user_data": "aGk="}), 1, NewServer { user_data: text("aGk="), ..least() });
    check(
        json!({"security_groups": [{"name": "a"}, {}]}),
        1,
        NewServer { security_groups: vec!["a".into()], ..least() },
    );
    check(json!({"accessIPv4": "10.0.0.1"}), 1, NewServer { access_ipv4: Some([10, 0, 0, 1].into()), ..least() });
    let file = InjectedFile { path: "/a".into(), contents: "aGk=".into() };
    let personality = json!({"personality": [{"path": "/a", "contents": "aGk="}]});
    check(personality, 56, NewServer { personality: vec![file], ..least() });
    check(json!({"networks": "none"}), 37, NewServer { networks: Networks::None, ..least() });
    check(json!({"description": "d"}), 19, NewServer { description: text("d"), ..least() });
    check(json!({"tags": ["a", "b"]}), 52, NewServer { tags: vec!["a".into(), "b".into()], ..least() });
    check(json!({"trusted_image_certificates": null}), 63, least());
    check(json!({"host": "cn1"}), 74, NewServer { host: text("cn1"), ..least() });
    check(json!({"hostname": "web-1"}), 90, NewServer { hostname: text("web-1"), ..least() });
    check(json!({"hostname": "web.lab"}), 94, NewServer { hostname: text("web.lab"), ..least() });
}

#[test]
fn a_key_is_taken_from_and_until_its_version() {
    let check = |key: &str, value: Value, minor: u16, taken: bool| {
        let got = parse(&request(json!({ key: value })), Microversion::v2(minor));
        let unexpected = format!("('{key}' was unexpected)");
        let refused = got.as_ref().is_err_and(|fault| fault.message.ends_with(&unexpected));
        assert_eq!((got.is_ok(), refused), (taken, !taken), "{key} at 2.{minor}: {got:?}");
    };
    let since = |key: &str, value: Value, minor: u16| {
        check(key, value.clone(), minor - 1, false);
        check(key, value.clone(), minor, true);
        check(key, value, 96, true);
    };
    since("description", json!("d"), 19);
    since("tags", json!([]), 52);
    since("trusted_image_certificates", json!(["c"]), 63);
    since("host", json!("cn1"), 74);
    since("hypervisor_hostname", json!("cn1"), 74);
    since("hostname", json!("h1"), 90);
    check("personality", json!([]), 56, true);
    check("personality", json!([]), 57, false);
    check("status", json!("ACTIVE"), 96, false);
}

#[test]
fn what_is_wrong_is_refused_with_its_name() {
    let check = |body: Value, minor, want: &str| {
        let fault = parse(&body, Microversion::v2(minor)).expect_err(want);
        assert!(fault.status == 400 && fault.message.ends_with(want), "{} is not {want}", fault.message);
    };
    check(json!({"server": {"name": "web", "flavorRef": "42"}}), 37, "'networks' is a required property");
    check(json!({"server": {"name": "web", "networks": []}}), 1, "'flavorRef' is a required property");
    check(json!({"server": {}, "meta": {}}), 1, "('meta' was unexpected)");
    check(json!({"name": "web"}), 1, "('name' was unexpected)");
    check(request(json!({"name": null})), 1, "name. Value: None. None is not of type 'string'");
    check(request(json!({"flavorRef": ""})), 1, "flavorRef. Value: . '' should be non-empty");
    check(request(json!({"flavorRef": 1.5})), 1, "1.5 is not of type 'string'");
    check(request(json!({"imageRef": "ubuntu"})), 1, "'ubuntu' is not valid under any of the given schemas");
    check(request(json!({"user_data": "a"})), 1, "'a' is not a 'base64'");
    check(request(json!({"user_data": "A".repeat(65_536)})), 1, "is too long");
    check(request(json!({"min_count": 2, "max_count": 1})), 1, "min_count must be <= max_count");
    check(request(json!({"min_count": 0})), 1, "0 is less than the minimum of 1");
    check(request(json!({"OS-DCF:diskConfig": "x"})), 1, "'x' is not one of ['AUTO', 'MANUAL']");
    check(request(json!({"accessIPv4": "x"})), 1, "'x' is not a 'ipv4'");
    check(request(json!({"metadata": {"k": 1}})), 1, "k. Value: 1. 1 is not of type 'string'");
    check(request(json!({"tags": ["a/b"]})), 52, "0. Value: a/b. 'a/b' does not match '^[^,/]*$'");
    check(request(json!({"tags": vec!["t"; 51]})), 52, "is too long");
    check(request(json!({"trusted_image_certificates": []})), 63, "[] should be non-empty");
    check(request(json!({"trusted_image_certificates": ["c", "c"]})), 63, "['c', 'c'] has non-unique elements");
    check(request(json!({"hostname": "web.lab"})), 93, "'^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$'");
    check(request(json!({"hostname": "w"})), 93, "'w' is too short");
    check(request(json!({"security_groups": [{"id": 1}]})), 1, "('id' was unexpected)");
    check(request(json!({"personality": [{"path": "/a"}]})), 56, "Bad personality format: missing 'contents'");
}

#[test]
fn hints_are_taken_under_both_names() {
    for name in HINTS {
        let body = json!({"server": {"name": "web", "flavorRef": "42"}, name: {"group": ID}});
        let hints = parse(&body, Microversion::FIRST).map(|server| server.hints.group);
        assert_eq!(hints, Ok(Some(Uuid::from_u128(1))), "{name}");
    }
}
