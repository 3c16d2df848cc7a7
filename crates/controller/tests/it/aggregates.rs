//! Aggregates and availability zones: made, filled, told, and kept apart.

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_api::native::ServerStatus;
use whimbrel_core::failure::FailureCode;

use crate::{
    cloud::Cloud,
    place::name,
    services::{member, with_hosts},
};

async fn call(
    cloud: &Cloud,
    token: &str,
    method: Method,
    path: &str,
    at: &str,
    body: Option<Value>,
    want: u16,
) -> Value {
    let reply = cloud.compute(method, path, token, at, body.clone()).await;
    assert_eq!(reply.status, want, "{path} at {at} {body:?}: {}", reply.body);
    reply.body
}

fn told(refusal: &Value, kind: &str, word: &str) {
    let message = refusal[kind]["message"].as_str().unwrap_or_default();
    assert!(message.contains(word), "{refusal} has no {kind} with '{word}'");
}

#[tokio::test]
async fn an_aggregate_lives_from_create_to_delete() {
    let (cloud, admin) = with_hosts().await;
    let ask = async |method: Method, path: &str, at: &str, body: Option<Value>, want: u16| {
        call(&cloud, &admin, method, &format!("/os-aggregates{path}"), at, body, want).await
    };
    let new = |name: &str, zone: Value| Some(json!({"aggregate": {"name": name, "availability_zone": zone}}));
    let act = |name: &str, value: Value| Some(json!({ name: value }));
    let made = ask(Method::POST, "", "2.1", new("fast", json!("z1")), 200).await["aggregate"].clone();
    assert_eq!(
        (&made["id"], &made["availability_zone"], made.get("hosts"), made.get("uuid")),
        (&json!(1), &json!("z1"), None, None)
    );
    assert!(ask(Method::GET, "/1", "2.41", None, 200).await["aggregate"]["uuid"].is_string());
    told(
        &ask(Method::POST, "", "2.1", new("fast", Value::Null), 409).await,
        "conflictingRequest",
        "Aggregate fast already exists.",
    );
    ask(Method::POST, "", "2.1", new("", Value::Null), 400).await;
    ask(Method::POST, "", "2.1", new("z", json!("a:b")), 400).await;
    ask(Method::POST, "", "2.1", new("slow", Value::Null), 200).await;

    let filled = ask(Method::POST, "/1/action", "2.1", act("add_host", json!({"host": "h1"})), 200).await;
    assert_eq!(filled["aggregate"]["hosts"], json!(["h1"]));
    let twice = ask(Method::POST, "/1/action", "2.1", act("add_host", json!({"host": "h1"})), 409).await;
    told(&twice, "conflictingRequest", "host h1 is in the aggregate already");
    for host in ["h9", "H1"] {
        ask(Method::POST, "/1/action", "2.1", act("add_host", json!({ "host": host })), 404).await;
        ask(Method::POST, "/1/action", "2.1", act("remove_host", json!({ "host": host })), 404).await;
    }
    let metadata = json!({"metadata": {"ssd": "true", "none": null}});
    let set = ask(Method::POST, "/1/action", "2.1", act("set_metadata", metadata), 200).await["aggregate"].clone();
    assert_eq!(set["metadata"], json!({"availability_zone": "z1", "ssd": "true"}));
    let unset = json!({"metadata": {"ssd": null}});
    let unset = ask(Method::POST, "/1/action", "2.1", act("set_metadata", unset), 200).await["aggregate"].clone();
    assert_eq!(unset["metadata"], json!({"availability_zone": "z1"}));
    for body in [json!({"metadata": {"availability_zone": null}}), json!({"metadata": {"availability_zone": ""}})] {
        let refused = ask(Method::POST, "/1/action", "2.1", act("set_metadata", body), 400).await;
        told(&refused, "badRequest", "does not support empty named availability zone");
    }
    let renamed =
        ask(Method::PUT, "/1", "2.1", Some(json!({"aggregate": {"name": "faster"}})), 200).await["aggregate"].clone();
    assert_eq!((&renamed["name"], &renamed["availability_zone"]), (&json!("faster"), &json!("z1")));
    assert!(renamed["updated_at"].is_string());
    ask(Method::PUT, "/1", "2.1", Some(json!({"aggregate": {"name": "slow"}})), 409).await;
    ask(Method::PUT, "/1", "2.1", Some(json!({"aggregate": {"availability_zone": null}})), 400).await;
    ask(Method::PUT, "/9", "2.1", Some(json!({"aggregate": {"name": "x"}})), 404).await;
    let moved = ask(Method::PUT, "/1", "2.1", Some(json!({"aggregate": {"availability_zone": "z2"}})), 200).await;
    assert_eq!(moved["aggregate"]["metadata"], json!({"availability_zone": "z2"}));

    told(&ask(Method::DELETE, "/1", "2.1", None, 400).await, "badRequest", "Host aggregate is not empty.");
    ask(Method::POST, "/1/action", "2.1", act("remove_host", json!({"host": "h1"})), 200).await;
    ask(Method::POST, "/1/action", "2.1", act("remove_host", json!({"host": "h1"})), 404).await;
    ask(Method::POST, "/1/action", "2.1", act("wake", json!({})), 400).await;
    ask(Method::POST, "/1/images", "2.81", Some(json!({"cache": []})), 404).await;
    ask(Method::DELETE, "/1", "2.1", None, 200).await;
    ask(Method::DELETE, "/1", "2.1", None, 404).await;
    ask(Method::GET, "/one", "2.1", None, 400).await;
    let left = ask(Method::GET, "", "2.96", None, 200).await;
    assert_eq!((left["aggregates"].as_array().unwrap().len(), &left["aggregates"][0]["name"]), (1, &json!("slow")));
}

#[tokio::test]
async fn aggregates_are_for_administrators() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let named = |name: &str| Some(json!({"aggregate": {"name": name}}));
    call(&cloud, &admin, Method::POST, "/os-aggregates", "2.1", named("one"), 200).await;
    let alice = member(&cloud, &admin).await;
    for (method, path, body) in [
        (Method::GET, "", None),
        (Method::GET, "/1", None),
        (Method::POST, "", named("mine")),
        (Method::PUT, "/1", named("mine")),
        (Method::DELETE, "/1", None),
        (Method::POST, "/1/action", Some(json!({"add_host": {"host": "h1"}}))),
    ] {
        call(&cloud, &alice, method, &format!("/os-aggregates{path}"), "2.1", body, 403).await;
    }
}

#[tokio::test]
async fn zones_are_told_and_a_host_is_in_one_of_them() {
    let (cloud, admin) = with_hosts().await;
    let alice = member(&cloud, &admin).await;
    let zones = async |token: &str, path: &str| {
        let body = call(&cloud, token, Method::GET, &format!("/os-availability-zone{path}"), "2.1", None, 200).await;
        body["availabilityZoneInfo"].as_array().unwrap().clone()
    };
    let short = async |token: &str| {
        let told = |zone: &Value| format!("{} {} {}", zone["zoneName"], zone["zoneState"]["available"], zone["hosts"]);
        zones(token, "").await.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(short(&alice).await, [r#""nova" true null"#]);
    let post = async |path: &str, body: Value, want: u16| {
        call(&cloud, &admin, Method::POST, &format!("/os-aggregates{path}"), "2.1", Some(body), want).await
    };
    for (name, zone) in [("one", "z1"), ("two", "z2")] {
        post("", json!({"aggregate": {"name": name, "availability_zone": zone}}), 200).await;
    }
    post("/1/action", json!({"add_host": {"host": "h1"}}), 200).await;
    let both = post("/2/action", json!({"add_host": {"host": "h1"}}), 409).await;
    told(&both, "conflictingRequest", "would be in 2 availability zones at once (z1, z2)");
    assert_eq!(short(&alice).await, [r#""nova" true null"#, r#""z1" true null"#]);
    let disable = json!({"host": "h2", "binary": "nova-compute"});
    call(&cloud, &admin, Method::PUT, "/os-services/disable", "2.1", Some(disable), 200).await;
    assert_eq!(short(&alice).await, [r#""z1" true null"#, r#""nova" false null"#]);
    let detail = zones(&admin, "/detail").await;
    let h1 = &detail[0]["hosts"]["h1"]["nova-compute"];
    assert_eq!((&h1["active"], &h1["available"], &detail[1]["hosts"]), (&json!(true), &json!(true), &Value::Null));
    assert!(h1["updated_at"].is_string());
    call(&cloud, &alice, Method::GET, "/os-availability-zone/detail", "2.1", None, 403).await;
    let services = call(&cloud, &admin, Method::GET, "/os-services?host=h1", "2.1", None, 200).await;
    assert_eq!(services["services"][0]["zone"], "z1");
}

#[tokio::test]
async fn a_flavor_asks_for_hosts_of_an_aggregate() {
    let (cloud, admin) = with_hosts().await;
    let place = &cloud.place;
    place.image("debian", &[0; 4096]).await.unwrap();
    place.flavor("plain", 512, 1).await;
    let flavor = json!({"flavor": {"name": "fast", "id": "7", "ram": 512, "vcpus": 1, "disk": 1}});
    call(&cloud, &admin, Method::POST, "/flavors", "2.1", Some(flavor), 200).await;
    let specs = json!({"extra_specs": {"aggregate_instance_extra_specs:ssd": "true"}});
    call(&cloud, &admin, Method::POST, "/flavors/7/os-extra_specs", "2.1", Some(specs), 200).await;
    let refused = place.server("s0", "fast", None).await.unwrap_err();
    assert!(refused.code == FailureCode::Excluded && refused.detail.contains("wants 'ssd' to be 'true'"), "{refused}");
    call(&cloud, &admin, Method::POST, "/os-aggregates", "2.1", Some(json!({"aggregate": {"name": "ssd"}})), 200).await;
    for action in [json!({"set_metadata": {"metadata": {"ssd": "true"}}}), json!({"add_host": {"host": "h2"}})] {
        call(&cloud, &admin, Method::POST, "/os-aggregates/1/action", "2.1", Some(action), 200).await;
    }
    place.server("s1", "fast", None).await.unwrap();
    assert_eq!(place.server_is("s1", ServerStatus::Active).await.host, Some(name("h2")));
    let refused = place.server("s2", "fast", Some("h1")).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Excluded, "{refused}");
    // The zone of a host with servers stays as it is.
    let zone = json!({"set_metadata": {"metadata": {"availability_zone": "z1"}}});
    let refused = call(&cloud, &admin, Method::POST, "/os-aggregates/1/action", "2.1", Some(zone), 400).await;
    told(&refused, "badRequest", "host h2 has 1 servers and would change its availability zone from 'nova' to 'z1'");
}
