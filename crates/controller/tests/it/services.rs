//! Compute services: listed, taken out of service and back, declared dead, deleted; and what that means for servers.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_api::{
    agent::Verification,
    native::{NewMigration, ServerStatus},
};
use whimbrel_core::{
    failure::FailureCode,
    receipt::{CpuSeconds, RamReceipt, Receipt},
};

use crate::{
    cloud::{Cloud, on_project},
    place::{name, until},
};

/// With hosts h1 and h2, which joined in this order, and an administrator's token.
pub async fn with_hosts() -> (Cloud, String) {
    let cloud = Cloud::new().await;
    cloud.place.host("h1").await;
    cloud.place.host("h2").await;
    let admin = cloud.admin().await;
    (cloud, admin)
}

/// Of somebody who is no administrator.
pub async fn member(cloud: &Cloud, admin: &str) -> String {
    let project = cloud.make(admin, "project", json!({"name": "demo"})).await;
    let alice = cloud.make(admin, "user", json!({"name": "alice", "password": "secret-a"})).await;
    let role = cloud.role(admin, "member").await;
    let grant = format!("/v3/projects/{project}/users/{alice}/roles/{role}");
    assert_eq!(cloud.status(Method::PUT, &grant, admin).await, 204);
    cloud.log_in("alice", "secret-a", on_project("demo")).await.token.unwrap()
}

async fn services(cloud: &Cloud, admin: &str, at: &str, query: &str) -> Vec<Value> {
    let reply = cloud.compute(Method::GET, &format!("/os-services{query}"), admin, at, None).await;
    assert_eq!(reply.status, 200, "{query} at {at}: {}", reply.body);
    reply.body["services"].as_array().unwrap().clone()
}

async fn uuid(cloud: &Cloud, admin: &str, host: &str) -> String {
    let found = services(cloud, admin, "2.53", &format!("?host={host}")).await;
    found[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_service_is_changed_as_each_version_asks_for_it() {
    let (cloud, admin) = with_hosts().await;
    let all = services(&cloud, &admin, "2.1", "").await;
    let told: Vec<String> =
        all.iter().map(|one| format!("{} {} {} {}", one["id"], one["host"], one["zone"], one["state"])).collect();
    assert_eq!(told, [r#"1 "h1" "nova" "up""#, r#"2 "h2" "nova" "up""#]);
    assert!(all[0].get("forced_down").is_none() && all[0]["updated_at"].is_string(), "{all:?}");
    assert_eq!(services(&cloud, &admin, "2.1", "?host=h2&binary=nova-compute").await, all[1..]);
    assert!(services(&cloud, &admin, "2.1", "?binary=nova-scheduler").await.is_empty());

    let put = async |last: &str, at: &str, body: Value, want: u16| {
        let reply = cloud.compute(Method::PUT, &format!("/os-services/{last}"), &admin, at, Some(body.clone())).await;
        assert_eq!(reply.status, want, "{last} at {at} {body}: {}", reply.body);
        reply.body["service"].clone()
    };
    let h2 = async || services(&cloud, &admin, "2.11", "?host=h2").await.remove(0);
    let of = |more: Value| {
        let mut body = json!({"host": "h2", "binary": "nova-compute"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let done = put("disable-log-reason", "2.1", of(json!({"disabled_reason": "kernel"})), 200).await;
    assert_eq!(done, of(json!({"status": "disabled", "disabled_reason": "kernel"})));
    let now = h2().await;
    assert_eq!(
        (&now["status"], &now["disabled_reason"], &now["state"]),
        (&json!("disabled"), &json!("kernel"), &json!("up"))
    );
    let native = cloud.place.client.host("h2").await.unwrap();
    assert_eq!((native.disabled, native.disabled_reason.as_deref()), (true, Some("kernel")));
    put("force-down", "2.10", of(json!({})), 404).await;
    put("force-down", "2.11", of(json!({"forced_down": true})), 200).await;
    assert_eq!((&h2().await["state"], &h2().await["forced_down"]), (&json!("down"), &json!(true)));
    put("enable", "2.52", of(json!({})), 200).await;
    assert_eq!((&h2().await["status"], &h2().await["disabled_reason"]), (&json!("enabled"), &Value::Null));
    for (last, body, want) in [
        ("enable", json!({"host": "h9", "binary": "nova-compute"}), 404),
        ("enable", json!({"host": "H2", "binary": "nova-compute"}), 404),
        ("enable", json!({"host": "h2", "binary": "nova-scheduler"}), 400),
        ("enable", json!({"host": "h2"}), 400),
        ("wake", of(json!({})), 404),
    ] {
        put(last, "2.52", body, want).await;
    }

    let id = uuid(&cloud, &admin, "h2").await;
    let told =
        put(&id, "2.53", json!({"forced_down": false, "status": "disabled", "disabled_reason": "disk"}), 200).await;
    assert_eq!((&told["id"], &told["state"], &told["disabled_reason"]), (&json!(id), &json!("up"), &json!("disk")));
    put(&id, "2.96", json!({"status": "enabled"}), 200).await;
    put(&id, "2.53", json!({}), 400).await;
    put("enable", "2.53", of(json!({})), 400).await;
    put("2b8d4a4c-0000-4000-8000-000000000000", "2.53", json!({"status": "enabled"}), 404).await;
    let query = cloud.compute(Method::GET, "/os-services?colour=red", &admin, "2.75", None).await;
    assert_eq!(query.status, 400);
    let alice = member(&cloud, &admin).await;
    for (method, path) in [(Method::GET, "/os-services".to_owned()), (Method::PUT, format!("/os-services/{id}"))] {
        let reply = cloud.compute(method, &path, &alice, "2.53", Some(json!({"status": "disabled"}))).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.body);
    }
    assert_eq!(h2().await["status"], "enabled");
}

#[tokio::test]
async fn a_disabled_host_is_chosen_for_nothing_and_a_dead_one_is_not_even_taken_by_name() {
    let (cloud, admin) = with_hosts().await;
    let place = &cloud.place;
    place.image("debian", &[0; 4096]).await.unwrap();
    place.flavor("small", 512, 1).await;
    let id = uuid(&cloud, &admin, "h2").await;
    let change = async |body: Value| {
        let reply = cloud.compute(Method::PUT, &format!("/os-services/{id}"), &admin, "2.53", Some(body)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    change(json!({"status": "disabled", "disabled_reason": "kernel"})).await;
    let refused = place.server("s0", "small", Some("h2")).await.unwrap_err();
    assert!(refused.code == FailureCode::Excluded && refused.detail.contains("disabled (kernel)"), "{refused}");
    place.server("s1", "small", None).await.unwrap();
    assert_eq!(place.server_is("s1", ServerStatus::Active).await.host, Some(name("h1")));

    let plan = async |host: Option<&str>| {
        let new = NewMigration { host: host.map(str::to_owned), ..NewMigration::default() };
        place.client.plan("s1", &new).await.unwrap()
    };
    let chosen = plan(None).await;
    assert_eq!((chosen.target, chosen.why_not[0].1[0].code), (None, FailureCode::Excluded));
    let by_name = plan(Some("h2")).await;
    assert_eq!((by_name.target, by_name.reasons), (Some(name("h2")), Vec::new()));
    change(json!({"forced_down": true, "status": "enabled"})).await;
    let by_name = plan(Some("h2")).await;
    assert!(by_name.reasons[0].detail.contains("declared down by an administrator"), "{:?}", by_name.reasons);
    change(json!({"forced_down": false})).await;
    assert_eq!(plan(None).await.target, Some(name("h2")));
}

#[tokio::test]
async fn a_host_is_deleted_when_nothing_needs_it_and_comes_back_as_a_new_one() {
    let (cloud, admin) = with_hosts().await;
    let place = &cloud.place;
    place.image("debian", &[0; 4096]).await.unwrap();
    place.flavor("small", 512, 1).await;
    place.server("s1", "small", Some("h1")).await.unwrap();
    place.server_is("s1", ServerStatus::Active).await;
    let ids = [uuid(&cloud, &admin, "h1").await, uuid(&cloud, &admin, "h2").await];
    let delete = async |id: &str, at: &str, want: u16, why: &str| {
        let reply = cloud.compute(Method::DELETE, &format!("/os-services/{id}"), &admin, at, None).await;
        assert_eq!(reply.status, want, "{id} at {at}: {}", reply.body);
        let told = reply.body["conflictingRequest"]["message"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{told}");
    };
    delete(&ids[0], "2.53", 409, "has 1 servers").await;
    delete("1", "2.1", 409, "has 1 servers").await;
    delete("1", "2.53", 400, "").await;
    delete("9", "2.1", 404, "").await;
    delete("h2", "2.1", 400, "").await;
    delete(&ids[1], "2.53", 204, "").await;
    delete(&ids[1], "2.53", 404, "").await;

    // Its agent goes on reporting, and is not heard.
    for _ in 0..2 {
        let seen_us = place.client.host("h1").await.unwrap().last_seen_us;
        until("h1 to be heard again", async || {
            place.client.host("h1").await.ok().filter(|host| host.last_seen_us > seen_us)
        })
        .await;
    }
    assert_eq!(place.client.host("h2").await.unwrap_err().code, FailureCode::NotFound);
    place.host("h2").await;
    let back = services(&cloud, &admin, "2.1", "?host=h2").await;
    assert_eq!(back[0]["id"], 3);
    assert_eq!(uuid(&cloud, &admin, "h2").await, ids[1], "the name makes it");
}

#[tokio::test]
async fn a_server_goes_although_a_host_where_it_was_is_deleted() {
    let cloud = Cloud::new().await;
    let (h1, h2) = (cloud.place.host("h1").await, cloud.place.host("h2").await);
    let (place, admin) = (&cloud.place, cloud.admin().await);
    place.image("debian", &[0; 4096]).await.unwrap();
    place.flavor("small", 512, 1).await;
    place.server("s1", "small", Some("h1")).await.unwrap();
    place.server_is("s1", ServerStatus::Active).await;
    let to_h2 = NewMigration { host: Some("h2".to_owned()), ..NewMigration::default() };
    let moving = place.client.migrate("s1", &to_h2).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    let h1_service = format!("/os-services/{}", uuid(&cloud, &admin, "h1").await);
    let delete = async || cloud.compute(Method::DELETE, &h1_service, &admin, "2.53", None).await;
    let reply = delete().await;
    assert!(reply.status == 409 && reply.body.to_string().contains("unfinished migrations"), "{}", reply.body);

    h2.owns(moving.id);
    let receipt = Receipt {
        migration_id: moving.id,
        server: moving.server,
        source: moving.source.clone(),
        target: moving.target.clone(),
        epoch: moving.epoch,
        mode: whimbrel_core::disk::CopyMode::Full,
        total_ms: 1,
        downtime_ms: 1.0,
        phases_ms: BTreeMap::new(),
        disks: Vec::new(),
        ram: RamReceipt::default(),
        wire_bytes: 1,
        cpu_seconds: CpuSeconds::default(),
        guest_write_ratio: None,
    };
    h1.handed_over(moving.id, receipt, Verification::Equal);
    until("h1 to be free", async || delete().await.status.is_success().then_some(())).await;
    place.client.delete_server("s1").await.unwrap();
    until("the server to be gone", async || place.client.server("s1").await.err()).await;
    assert!(h2.told().guests.is_empty());
}
