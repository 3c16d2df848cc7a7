//! What of flavors changes with the version, and what of a request is refused.

use super::{
    super::shape::seen::{member, names},
    *,
};

fn flavor() -> Flavor {
    Flavor {
        id: "42".into(),
        name: "m1.small".into(),
        ram_mb: 2048,
        vcpus: 2,
        disk_gb: 20,
        ephemeral_gb: 1,
        swap_mb: 0,
        rxtx_factor: 1.0,
        disabled: false,
        public: false,
        description: Some("small".into()),
        extra_specs: BTreeMap::from([("hw:mem".into(), "1".into())]),
        projects: vec!["p1".into(), "p2".into()],
    }
}

const OLDEST: [&str; 11] = [
    "OS-FLV-DISABLED:disabled",
    "OS-FLV-EXT-DATA:ephemeral",
    "disk",
    "id",
    "links",
    "name",
    "os-flavor-access:is_public",
    "ram",
    "rxtx_factor",
    "swap",
    "vcpus",
];

#[test]
fn a_flavor_has_the_fields_of_its_version() {
    let check = |minor, added: &[&str]| {
        let body = show(&flavor(), &member(minor));
        let mut want: Vec<&str> = OLDEST.iter().chain(added).copied().collect();
        want.sort_unstable();
        assert_eq!(names(&body["flavor"]), want, "2.{minor}");
    };
    check(1, &[]);
    check(54, &[]);
    check(55, &["description"]);
    check(60, &["description"]);
    check(61, &["description", "extra_specs"]);
    check(96, &["description", "extra_specs"]);
}

#[test]
fn no_swap_is_an_empty_text_before_it_is_a_number() {
    let check = |swap_mb, minor, want: Value| {
        let body = show(&Flavor { swap_mb, ..flavor() }, &member(minor));
        assert_eq!(body["flavor"]["swap"], want, "{swap_mb} at 2.{minor}");
    };
    check(0, 74, json!(""));
    check(0, 75, json!(0));
    check(512, 74, json!(512));
    check(512, 75, json!(512));
}

#[test]
fn lists_are_short_or_detailed_and_paged() {
    let flavors = [flavor()];
    assert_eq!(names(&list(&flavors, None, &member(54))["flavors"][0]), ["id", "links", "name"]);
    assert_eq!(names(&list(&flavors, None, &member(55))["flavors"][0]), ["description", "id", "links", "name"]);
    let body = detail(&flavors, Some("limit=1&marker=42"), &member(1));
    assert_eq!(names(&body), ["flavors", "flavors_links"]);
    assert_eq!(body["flavors_links"][0]["href"], "https://h:1/compute/v2.1/flavors/detail?limit=1&marker=42");
    assert_eq!(names(&body["flavors"][0]), OLDEST);
    assert_eq!(body["flavors"][0]["links"][1]["href"], "https://h:1/compute/flavors/42");
}

#[test]
fn extra_specs_and_access_are_told() {
    assert_eq!(extra_specs(&flavor().extra_specs), json!({"extra_specs": {"hw:mem": "1"}}));
    assert_eq!(extra_spec("hw:mem", "1"), json!({"hw:mem": "1"}));
    let both = json!([{"flavor_id": "42", "tenant_id": "p1"}, {"flavor_id": "42", "tenant_id": "p2"}]);
    assert_eq!(access(&flavor()), json!({ "flavor_access": both }));
}

/// A request with these keys over a complete one; `null` as an object's value removes nothing.
fn request(changes: Value) -> Value {
    let mut flavor = json!({"name": "f", "ram": 1, "vcpus": 1, "disk": 0});
    for (key, value) in changes.as_object().into_iter().flatten() {
        flavor[key] = value.clone();
    }
    json!({ "flavor": flavor })
}

#[test]
fn a_new_flavor_is_read_with_its_defaults() {
    let least = NewFlavor {
        name: "f".into(),
        id: None,
        ram_mb: 1,
        vcpus: 1,
        disk_gb: 0,
        ephemeral_gb: 0,
        swap_mb: 0,
        rxtx_factor: 1.0,
        public: true,
        description: None,
    };
    let check = |changes: Value, minor, want: NewFlavor| {
        assert_eq!(parse_create(&request(changes), Microversion::v2(minor)), Ok(want));
    };
    check(json!({}), 1, least.clone());
    check(json!({"id": null}), 1, least.clone());
    check(json!({"id": 7}), 1, NewFlavor { id: Some("7".into()), ..least.clone() });
    check(json!({"id": "a b"}), 1, NewFlavor { id: Some("a b".into()), ..least.clone() });
    check(json!({"ram": "512", "swap": "1"}), 1, NewFlavor { ram_mb: 512, swap_mb: 1, ..least.clone() });
    check(json!({"os-flavor-access:is_public": "no"}), 1, NewFlavor { public: false, ..least.clone() });
    check(json!({"rxtx_factor": "2.5"}), 1, NewFlavor { rxtx_factor: 2.5, ..least.clone() });
    check(json!({"description": "d"}), 55, NewFlavor { description: Some("d".into()), ..least.clone() });
    check(json!({"description": null}), 55, least);
}

#[test]
fn a_wrong_flavor_is_refused_by_the_name_of_what_is_wrong() {
    let check = |changes: Value, minor, want: &str| {
        let fault = parse_create(&request(changes), Microversion::v2(minor)).expect_err("refused");
        assert_eq!(fault.status, 400);
        assert!(fault.message.ends_with(want), "{} is not {want}", fault.message);
    };
    let unexpected = |name| format!("Additional properties are not allowed ('{name}' was unexpected)");
    check(json!({"description": "d"}), 54, &unexpected("description"));
    check(json!({"RAM": 1}), 1, &unexpected("RAM"));
    let about = |name, value, why| format!("Invalid input for field/attribute {name}. Value: {value}. {why}");
    check(json!({"ram": 0}), 1, &about("ram", "0", "0 is less than the minimum of 1"));
    check(json!({"vcpus": 2147483648_u64}), 1, "2147483648 is greater than the maximum of 2147483647");
    check(json!({"disk": -1}), 1, &about("disk", "-1", "-1 is less than the minimum of 0"));
    check(json!({"swap": null}), 1, &about("swap", "None", "None is not of type 'integer', 'string'"));
    check(json!({"id": " x"}), 1, "' x' does not match '^(?! )[a-zA-Z0-9. _-]+(?<! )$'");
    check(json!({"id": ""}), 1, &about("id", "", "'' should be non-empty"));
    check(json!({"rxtx_factor": 0}), 1, "0 is less than or equal to the minimum of 0");
    check(json!({"rxtx_factor": "1."}), 1, "'1.' does not match '^[0-9]+(\\.[0-9]+)?$'");
    check(json!({"os-flavor-access:is_public": 1}), 1, "'NO', 'No', 'no']");
    check(json!({"name": ""}), 1, &about("name", "", "'' should be non-empty"));
    let missing = parse_create(&json!({"flavor": {"name": "f"}}), Microversion::FIRST).expect_err("refused");
    assert!(missing.message.ends_with("'ram' is a required property"), "{}", missing.message);
}

#[test]
fn updates_extra_specs_and_access_are_read_strictly() {
    let at = Microversion::v2(55);
    assert_eq!(parse_update(&json!({"flavor": {"description": null}}), at), Ok(None));
    assert_eq!(parse_update(&json!({"flavor": {"description": "d"}}), at), Ok(Some("d".into())));
    assert!(parse_update(&json!({"flavor": {}}), at).is_err());
    let early = parse_update(&json!({"flavor": {"description": "d"}}), Microversion::v2(54));
    assert_eq!(early.map_err(|fault| fault.status), Err(404));
    assert!(parse_update(&json!({"flavor": {"description": "d", "name": "n"}}), at).is_err());

    let specs = parse_extra_specs(&json!({"extra_specs": {"hw:a": "1", "b": 2}}), at);
    assert_eq!(specs, Ok(BTreeMap::from([("hw:a".into(), "1".into()), ("b".into(), "2".into())])));
    assert!(parse_extra_specs(&json!({"extra_specs": {"a": null}}), at).is_err());
    assert!(parse_extra_specs(&json!({"extra_specs": {"a/b": "1"}}), at).is_err());
    assert_eq!(parse_extra_spec(&json!({"hw:a": "1"}), "hw:a", at), Ok("1".into()));
    for wrong in [json!({}), json!({"b": "1"}), json!({"hw:a": "1", "b": "1"})] {
        assert!(parse_extra_spec(&wrong, "hw:a", at).is_err(), "{wrong}");
    }

    assert_eq!(parse_access(&json!({"addTenantAccess": {"tenant": "p"}}), at), Ok(Access::Add("p".into())));
    assert_eq!(parse_access(&json!({"removeTenantAccess": {"tenant": "p"}}), at), Ok(Access::Remove("p".into())));
    for wrong in [json!({}), json!({"addTenantAccess": {}}), json!({"other": {"tenant": "p"}}), json!([])] {
        assert!(parse_access(&wrong, at).is_err(), "{wrong}");
    }
}
