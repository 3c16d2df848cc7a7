//! Lists as clients ask for them.

use super::{super::resource::Attribute, *};

const THING: Resource = Resource::new(
    ["thing", "things", "things"],
    ("ThingNotFound", "Thing", "could not be found."),
    &[
        Attribute::shown("id"),
        Attribute::shown("name"),
        Attribute::shown("shared"),
        Attribute::shown("mtu"),
        Attribute::shown("vlan"),
        Attribute::shown("subnets"),
        Attribute::shown("fixed_ips"),
    ],
);

fn things() -> Vec<Value> {
    vec![
        json!({"id": "1", "name": "b", "shared": true, "mtu": 9000, "vlan": null, "subnets": ["s1", "s2"],
               "fixed_ips": [{"ip_address": "10.0.0.1", "subnet_id": "s1"}, {"ip_address": "10.0.0.2", "subnet_id": "s2"}]}),
        json!({"id": "2", "name": "a", "shared": false, "mtu": 1500, "vlan": 7, "subnets": [],
               "fixed_ips": [{"ip_address": "10.0.0.2", "subnet_id": "s1"}]}),
        json!({"id": "3", "name": "", "shared": false, "mtu": 1500, "vlan": 70, "subnets": ["s2"], "fixed_ips": []}),
    ]
}

fn answer(raw: &str) -> Result<Value, Fault> {
    Query::parse(Some(raw), &THING)?.answer(things(), &THING, "https://h/v2.0")
}

#[test]
fn a_filter_takes_what_matches_and_order_and_limit_apply() {
    let check = |raw: &str, want: &str| {
        let body = answer(raw).unwrap();
        let ids: Vec<&str> = body["things"].as_array().unwrap().iter().filter_map(|item| item["id"].as_str()).collect();
        assert_eq!(ids.join(" "), want, "{raw}");
    };
    check("", "1 2 3");
    check("name=a", "2");
    check("name=a&name=b", "1 2");
    check("name=a&shared=True", "");
    check("name=", "3");
    check("shared=false", "2 3");
    check("mtu=1500&vlan=7", "2");
    check("vlan=", "1");
    check("subnets=s2", "1 3");
    check("fixed_ips=ip_address%3D10.0.0.2", "1 2");
    check("fixed_ips=ip_address%3D10.0.0.2&fixed_ips=subnet_id%3Ds1", "2");
    check("fixed_ips=ip_address%3D10.0.0.1&fixed_ips=ip_address%3D10.0.0.2", "1 2");
    check("fixed_ips=nonsense", "");
    check("sort_key=name", "3 2 1");
    check("sort_key=mtu&sort_dir=desc", "1 2 3");
    check("sort_key=mtu&sort_key=vlan&sort_dir=asc&sort_dir=desc", "3 2 1");
    check("limit=2", "1 2");
    check("limit=2&marker=2", "3");
    check("limit=1&marker=3&page_reverse=True", "2");
    check("limit=0", "1 2 3");
    check("marker=3", "");
    check("shared=True&limit=1", "1");
}

#[test]
fn what_is_no_attribute_or_no_value_of_it_is_refused() {
    let check = |raw: &str, status: u16, part: &str| {
        let fault = answer(raw).expect_err(raw);
        assert!(fault.status == status && fault.message.contains(part), "{raw}: {fault:?}");
    };
    check("colour=red", 400, "['colour'] is invalid attribute for filtering");
    check("sort_key=colour", 400, "invalid attribute for sort_keys");
    check("sort_dir=asc", 400, "must be same");
    check("sort_key=name&sort_dir=up", 400, "sort_dir");
    check("limit=-1", 400, "'-1'");
    check("limit=many", 400, "'many'");
    check("marker=9", 404, "Thing 9 could not be found.");
    check("shared=perhaps", 400, "cannot be converted to boolean");
}

#[test]
fn pages_are_linked_and_fields_narrow() {
    let body = answer("limit=1&name=a&name=b&fields=name&fields=colour").unwrap();
    assert_eq!(body["things"], json!([{"name": "b"}]));
    let next = "https://h/v2.0/things?limit=1&name=a&name=b&fields=name&fields=colour&marker=1";
    assert_eq!(body["things_links"], json!([{"rel": "next", "href": next}]));
    let middle = answer("limit=1&marker=1").unwrap();
    let rels: Vec<&Value> = middle["things_links"].as_array().unwrap().iter().map(|link| &link["rel"]).collect();
    assert_eq!(rels, ["next", "previous"]);
    let previous = "https://h/v2.0/things?limit=1&marker=2&page_reverse=True";
    assert_eq!(middle["things_links"][1]["href"], previous);
    assert!(answer("").unwrap().get("things_links").is_none());
    assert!(answer("limit=3").unwrap().get("things_links").is_none(), "a page that is just full has no next");
}
