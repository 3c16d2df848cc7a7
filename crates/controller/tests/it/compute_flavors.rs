//! Flavors of the Compute API, and what every call of it has in common: versions, refusals, who may.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cloud::{Cloud, on_project};

fn flavor(name: &str, more: Value) -> Value {
    let mut fields = json!({"name": name, "ram": 64, "vcpus": 1, "disk": 0});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "flavor": fields })
}

/// A user with a role on a project: the token, and the project's id.
async fn member(cloud: &Cloud, admin: &str) -> (String, String) {
    let project = cloud.make(admin, "project", json!({"name": "demo"})).await;
    let alice = cloud.make(admin, "user", json!({"name": "alice", "password": "secret-a"})).await;
    let role = cloud.role(admin, "member").await;
    let grant = format!("/v3/projects/{project}/users/{alice}/roles/{role}");
    assert_eq!(cloud.status(Method::PUT, &grant, admin).await, 204);
    (cloud.log_in("alice", "secret-a", on_project("demo")).await.token.unwrap(), project)
}

#[tokio::test]
async fn a_version_is_chosen_echoed_or_refused() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let check = async |at: &str, want: u16, echoed: &str| {
        let reply = cloud.compute(Method::GET, "/flavors", &admin, at, None).await;
        assert_eq!(reply.status, want, "{at}: {}", reply.body);
        assert_eq!(reply.headers["x-openstack-nova-api-version"], echoed, "{at}");
        let vary: Vec<_> = reply.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
        assert!(vary.contains(&"openstack-api-version"), "{vary:?}");
        reply.body
    };
    check("2.1", 200, "2.1").await;
    check("latest", 200, "2.96").await;
    let refused = check("9.9", 406, "2.1").await;
    assert_eq!(
        refused["computeFault"]["message"],
        "Version 9.9 is not supported by the API. Minimum is 2.1 and maximum is 2.96."
    );
    check("two", 400, "2.1").await;
    let nobody = cloud.compute(Method::GET, "/flavors", "0000", "2.1", None).await;
    assert_eq!(nobody.status, 401);
    let nowhere = cloud.compute(Method::GET, "/flavours", &admin, "2.1", None).await;
    assert_eq!((nowhere.status.as_u16(), &nowhere.body["itemNotFound"]["code"]), (404, &json!(404)));
    assert_eq!(cloud.compute(Method::PATCH, "/flavors", &admin, "2.1", None).await.status, 405);
}

#[tokio::test]
async fn a_flavor_is_made_shown_described_and_deleted() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let call = async |method: Method, path: &str, at: &str, body: Option<Value>, want: u16| {
        let reply = cloud.compute(method, path, &admin, at, body.clone()).await;
        assert_eq!(reply.status, want, "{path} at {at} {body:?}: {}", reply.body);
        reply.body
    };
    let sizes = json!({"id": "13", "swap": 512, "OS-FLV-EXT-DATA:ephemeral": 30, "disk": 10});
    let made = call(Method::POST, "/flavors", "2.1", Some(flavor("m1.medium", sizes)), 200).await;
    assert_eq!((&made["flavor"]["id"], &made["flavor"]["swap"]), (&json!("13"), &json!(512)));
    assert!(made["flavor"].get("description").is_none(), "{made}");
    call(Method::GET, "/flavors/m1.medium", "2.1", None, 404).await;
    let shown = call(Method::GET, "/flavors/13", "2.96", None, 200).await;
    assert_eq!((&shown["flavor"]["description"], &shown["flavor"]["extra_specs"]), (&Value::Null, &json!({})));

    let refused = call(Method::POST, "/flavors", "2.1", Some(flavor("other", json!({"id": "13"}))), 409).await;
    assert_eq!(refused["conflictingRequest"]["message"], "Flavor with ID 13 already exists.");
    let refused = call(Method::POST, "/flavors", "2.1", Some(flavor("m1.medium", json!({}))), 409).await;
    assert_eq!(refused["conflictingRequest"]["message"], "Flavor with name m1.medium already exists.");
    for bad in [json!({"description": "since 2.55"}), json!({"ram": 0}), json!({"ram": "many"}), json!({"name": ""})] {
        call(Method::POST, "/flavors", "2.54", Some(flavor("bad", bad)), 400).await;
    }
    call(Method::POST, "/flavors", "2.1", None, 415).await;

    let described = json!({"flavor": {"description": "a size"}});
    call(Method::PUT, "/flavors/13", "2.54", Some(described.clone()), 404).await;
    let told = call(Method::PUT, "/flavors/13", "2.55", Some(described), 200).await;
    assert_eq!(told["flavor"]["description"], "a size");

    let specs = "/flavors/13/os-extra_specs";
    call(Method::POST, specs, "2.1", Some(json!({"extra_specs": {"a": "1", "b": "2"}})), 200).await;
    call(Method::PUT, &format!("{specs}/a"), "2.1", Some(json!({"a": "3"})), 200).await;
    call(Method::PUT, &format!("{specs}/a"), "2.1", Some(json!({"b": "3"})), 400).await;
    assert_eq!(call(Method::GET, specs, "2.1", None, 200).await["extra_specs"], json!({"a": "3", "b": "2"}));
    call(Method::DELETE, &format!("{specs}/b"), "2.1", None, 200).await;
    call(Method::DELETE, &format!("{specs}/b"), "2.1", None, 404).await;
    assert_eq!(call(Method::GET, &format!("{specs}/a"), "2.1", None, 200).await, json!({"a": "3"}));
    call(Method::DELETE, "/flavors/13", "2.1", None, 202).await;
    call(Method::DELETE, "/flavors/13", "2.1", None, 404).await;
}

#[tokio::test]
async fn a_private_flavor_is_there_for_those_with_access() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, project) = member(&cloud, &admin).await;
    let make = async |name: &str, more: Value| {
        let reply = cloud.compute(Method::POST, "/flavors", &admin, "2.1", Some(flavor(name, more))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    make("open", json!({"id": "1"})).await;
    make("closed", json!({"id": "2", "os-flavor-access:is_public": false, "ram": 32})).await;
    let seen = async |token: &str, query: &str| {
        let reply = cloud.compute(Method::GET, &format!("/flavors{query}"), token, "2.1", None).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.body);
        let flavors = reply.body["flavors"].as_array().unwrap().clone();
        flavors.iter().map(|flavor| flavor["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seen(&admin, "").await, "1");
    assert_eq!(seen(&admin, "?is_public=None").await, "1 2");
    assert_eq!(seen(&admin, "?is_public=false").await, "2");
    assert_eq!(seen(&admin, "?is_public=None&sort_key=memory_mb").await, "2 1");
    assert_eq!(seen(&admin, "?is_public=None&sort_dir=desc&limit=1").await, "2");
    assert_eq!(seen(&admin, "?is_public=None&minRam=33").await, "1");
    assert_eq!(seen(&alice, "?is_public=None").await, "1");
    let status = async |method: Method, path: &str, token: &str, body: Option<Value>| {
        cloud.compute(method, path, token, "2.1", body).await.status.as_u16()
    };
    assert_eq!(status(Method::GET, "/flavors/2", &alice, None).await, 404);
    let allow = json!({"addTenantAccess": {"tenant": project}});
    assert_eq!(status(Method::POST, "/flavors/2/action", &alice, Some(allow.clone())).await, 403);
    assert_eq!(status(Method::POST, "/flavors/1/action", &admin, Some(allow.clone())).await, 409);
    assert_eq!(status(Method::POST, "/flavors/2/action", &admin, Some(allow.clone())).await, 200);
    assert_eq!(status(Method::POST, "/flavors/2/action", &admin, Some(allow)).await, 409);
    let nobody = json!({"addTenantAccess": {"tenant": "nobody"}});
    assert_eq!(status(Method::POST, "/flavors/2/action", &admin, Some(nobody)).await, 400);
    assert_eq!(seen(&alice, "").await, "1 2");
    assert_eq!(status(Method::GET, "/flavors/2", &alice, None).await, 200);
    assert_eq!(status(Method::GET, "/flavors/2/os-flavor-access", &admin, None).await, 200);
    assert_eq!(status(Method::GET, "/flavors/1/os-flavor-access", &admin, None).await, 404);
    let forbid = json!({"removeTenantAccess": {"tenant": project}});
    assert_eq!(status(Method::POST, "/flavors/2/action", &admin, Some(forbid)).await, 200);
    assert_eq!(seen(&alice, "").await, "1");
    for (method, path) in [(Method::POST, "/flavors"), (Method::DELETE, "/flavors/1")] {
        assert_eq!(status(method, path, &alice, Some(flavor("mine", json!({})))).await, 403, "{path}");
    }
    let bad = cloud.compute(Method::GET, "/flavors?colour=red", &admin, "2.75", None).await;
    assert_eq!((bad.status.as_u16(), bad.body["badRequest"]["code"].as_u64()), (400, Some(400)));
    for bad in ["?limit=x", "?marker=9", "?minRam=x", "?is_public=perhaps", "?sort_key=colour"] {
        assert_eq!(status(Method::GET, &format!("/flavors{bad}"), &admin, None).await, 400, "{bad}");
    }
}
