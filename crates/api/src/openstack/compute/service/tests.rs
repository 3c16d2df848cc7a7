//! What of a service is told, and how a change of it is asked for before and from 2.53.

use super::{
    super::shape::seen::{admin, names},
    *,
};

#[test]
fn a_service_has_the_fields_of_its_version() {
    let service = Service {
        id: 1,
        uuid: Uuid::from_u128(1),
        binary: COMPUTE.into(),
        host: "cn1".into(),
        zone: "nova".into(),
        enabled: false,
        disabled_reason: Some("kernel".into()),
        up: true,
        forced_down: false,
        updated: Some(0),
    };
    let check = |minor, forced_down: bool, id: Value| {
        let body = list(std::slice::from_ref(&service), &admin(minor));
        let mut want =
            vec!["binary", "disabled_reason", "host", "id", "state", "status", "updated_at", "zone", "forced_down"];
        want.retain(|name| forced_down || *name != "forced_down");
        want.sort_unstable();
        assert_eq!((names(&body["services"][0]), &body["services"][0]["id"]), (want, &id), "2.{minor}");
    };
    check(1, false, json!(1));
    check(10, false, json!(1));
    check(11, true, json!(1));
    check(52, true, json!(1));
    check(53, true, json!(Uuid::from_u128(1)));
    let body = show(&service, &admin(53));
    assert_eq!((&body["service"]["status"], &body["service"]["state"]), (&json!("disabled"), &json!("up")));
    assert_eq!(body["service"]["updated_at"], "1970-01-01T00:00:00.000000");
}

#[test]
fn a_change_from_2_53_is_in_the_body() {
    let check = |body: Value, want: Result<Change, &str>| {
        let got = parse_update(&body, Microversion::v2(53)).map_err(|fault| fault.message);
        match (&got, want) {
            (Ok(got), Ok(want)) => assert_eq!(*got, want, "{body}"),
            (Err(got), Err(want)) => assert!(got.contains(want), "{got} is not {want}"),
            (got, want) => panic!("{body}: {got:?} is not {want:?}"),
        }
    };
    check(json!({"status": "enabled"}), Ok(Change { enabled: Some(true), ..Change::default() }));
    let reason = Some("r".to_owned());
    let disabled = Change { enabled: Some(false), disabled_reason: reason, forced_down: None };
    check(json!({"status": "disabled", "disabled_reason": "r"}), Ok(disabled));
    check(json!({"forced_down": "true"}), Ok(Change { forced_down: Some(true), ..Change::default() }));
    check(json!({}), Err("No updates were requested."));
    check(json!({"disabled_reason": "r"}), Err("No updates were requested."));
    check(json!({"status": "enabled", "disabled_reason": "r"}), Err("with status 'enabled' is invalid"));
    check(json!({"status": "up"}), Err("'up' is not one of ['enabled', 'disabled']"));
    check(json!({"status": "enabled", "host": "cn1"}), Err("('host' was unexpected)"));
}

#[test]
fn a_change_until_2_52_is_in_the_path() {
    let check = |purpose, more: Value, minor, want: Result<Value, u16>| {
        let mut body = json!({"host": "cn1", "binary": "nova-compute"});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let got = parse_named(purpose, &body, Microversion::v2(minor));
        let got = got.map(|named| changed(&named)["service"].clone()).map_err(|fault| fault.status);
        assert_eq!(got, want, "{purpose} {more} at 2.{minor}");
    };
    let told = |more: (&str, Value)| json!({"host": "cn1", "binary": "nova-compute", more.0: more.1});
    check("enable", json!({}), 1, Ok(told(("status", json!("enabled")))));
    check("disable", json!({}), 1, Ok(told(("status", json!("disabled")))));
    let mut logged = told(("status", json!("disabled")));
    logged["disabled_reason"] = json!("r");
    check("disable-log-reason", json!({"disabled_reason": "r"}), 1, Ok(logged));
    check("disable-log-reason", json!({}), 1, Err(400));
    check("force-down", json!({"forced_down": true}), 11, Ok(told(("forced_down", json!(true)))));
    check("force-down", json!({"forced_down": true}), 10, Err(400));
    check("force-down", json!({}), 10, Err(404));
    check("force-down", json!({}), 11, Err(400));
    check("explode", json!({}), 1, Err(404));
    check("enable", json!({"binary": "nova-scheduler"}), 1, Err(400));
    check("enable", json!({"status": "x"}), 1, Err(400));
}

#[test]
fn the_end_of_the_path_is_a_purpose_and_then_an_id() {
    let at = Microversion::v2;
    let named = json!({"host": "cn1", "binary": COMPUTE});
    let change = Change { enabled: Some(true), ..Change::default() };
    let by_name = NamedChange { host: "cn1".into(), change: change.clone() };
    assert_eq!(parse_change("enable", &named, at(52)).unwrap(), Asked::Named(by_name));
    let (id, body) = (Uuid::from_u128(1), json!({"status": "enabled"}));
    assert_eq!(parse_change(&id.to_string(), &body, at(53)).unwrap(), Asked::ById(HostId::Uuid(id), change));
    let refused = |last: &str, body: &Value, minor| parse_change(last, body, at(minor)).unwrap_err();
    assert_eq!(refused("enable", &body, 53).message, "Invalid uuid enable");
    assert_eq!(refused(&id.to_string(), &named, 52).status, 404);
    assert_eq!(parse_id("x", at(1)).unwrap_err().status, 400);
}
