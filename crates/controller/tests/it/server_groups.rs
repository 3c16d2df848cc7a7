//! Server groups of the Compute API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cloud::Cloud;

fn group(fields: Value) -> Option<Value> {
    Some(json!({ "server_group": fields }))
}

#[tokio::test]
async fn a_group_is_made_told_and_deleted() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let call = async |method: Method, path: &str, at: &str, body: Option<Value>, want: u16| {
        let reply = cloud.compute(method, path, &admin, at, body.clone()).await;
        assert_eq!(reply.status, want, "{path} at {at} {body:?}: {}", reply.body);
        reply.body
    };
    let old = json!({"name": "same", "policies": ["affinity"]});
    let old = call(Method::POST, "/os-server-groups", "2.1", group(old), 200).await["server_group"].clone();
    let id = old["id"].as_str().unwrap();
    let want = json!({"id": id, "name": "same", "policies": ["affinity"], "members": [], "metadata": {}});
    assert_eq!(old, want);
    let new = json!({"name": "same", "policy": "anti-affinity", "rules": {"max_server_per_host": "3"}});
    let new = call(Method::POST, "/os-server-groups", "2.64", group(new), 200).await["server_group"].clone();
    assert_eq!((&new["policy"], &new["rules"]), (&json!("anti-affinity"), &json!({"max_server_per_host": 3})));
    assert!(new["project_id"].is_string() && new["user_id"].is_string() && new.get("policies").is_none(), "{new}");
    let path = format!("/os-server-groups/{}", new["id"].as_str().unwrap());
    assert_eq!(call(Method::GET, &path, "2.64", None, 200).await["server_group"], new);
    assert_eq!(call(Method::GET, &path, "2.63", None, 200).await["server_group"]["policies"], json!(["anti-affinity"]));
    let ids = async |query: &str| {
        let listed = call(Method::GET, &format!("/os-server-groups{query}"), "2.1", None, 200).await;
        let groups = listed["server_groups"].as_array().unwrap().clone();
        groups.iter().map(|group| group["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [old["id"].clone(), new["id"].clone()]);
    assert_eq!(ids("?limit=1&offset=1").await, [new["id"].clone()]);
    assert_eq!(ids("?limit=1").await, [old["id"].clone()]);
    call(Method::GET, "/os-server-groups?limit=x", "2.1", None, 400).await;
    call(Method::GET, "/os-server-groups?colour=red", "2.75", None, 400).await;

    for bad in [
        json!({"name": "g"}),
        json!({"name": "", "policy": "affinity"}),
        json!({"name": "g".repeat(256), "policy": "affinity"}),
        json!({"name": "g", "policy": "love"}),
        json!({"name": "g", "policies": ["affinity"]}),
        json!({"name": "g", "policy": "affinity", "colour": "red"}),
        json!({"name": "g", "policy": "affinity", "rules": {"max_server_per_host": 2}}),
        json!([]),
    ] {
        call(Method::POST, "/os-server-groups", "2.64", group(bad), 400).await;
    }
    call(Method::DELETE, &path, "2.1", None, 204).await;
    let gone = call(Method::DELETE, &path, "2.1", None, 404).await;
    let told = format!("Instance group {} could not be found.", new["id"].as_str().unwrap());
    assert_eq!(gone["itemNotFound"]["message"], told);
    call(Method::GET, "/os-server-groups/same", "2.1", None, 404).await;
    assert_eq!(ids("").await, [old["id"].clone()]);
}

#[tokio::test]
async fn a_group_is_its_projects() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, _, _) = cloud.user_on(&admin, "one", "alice", "member").await;
    let (bob, _, _) = cloud.user_on(&admin, "two", "bob", "member").await;
    let (carol, _, _) = cloud.user_on(&admin, "three", "carol", "reader").await;
    let affinity = || group(json!({"name": "g", "policies": ["affinity"]}));
    let create = async |token: &str| cloud.compute(Method::POST, "/os-server-groups", token, "2.13", affinity()).await;
    let made = create(&alice).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(create(&carol).await.status, 403, "a reader made one");
    let path = format!("/os-server-groups/{}", made.body["server_group"]["id"].as_str().unwrap());
    let check = async |method: Method, token: &str, want: u16| {
        let reply = cloud.compute(method.clone(), &path, token, "2.13", None).await;
        assert_eq!(reply.status, want, "{method}: {}", reply.body);
    };
    for other in [&bob, &carol] {
        check(Method::GET, other, 403).await;
        check(Method::DELETE, other, 403).await;
    }
    check(Method::GET, &alice, 200).await;
    check(Method::GET, &admin, 200).await;
    check(Method::GET, "0000", 401).await;
    let count = async |token: &str, query: &str| {
        let reply = cloud.compute(Method::GET, &format!("/os-server-groups{query}"), token, "2.13", None).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body["server_groups"].as_array().unwrap().len()
    };
    assert_eq!((count(&alice, "").await, count(&bob, "").await, count(&carol, "").await), (1, 0, 0));
    assert_eq!((count(&admin, "").await, count(&admin, "?all_projects=True").await), (0, 1));
    assert_eq!(count(&bob, "?all_projects=True").await, 0, "another project's group was told");
    let on_system = cloud.log_in("admin", crate::cloud::PASSWORD, json!({"system": {"all": true}})).await;
    let system = on_system.token.unwrap();
    assert_eq!(create(&system).await.status, 403, "a group without a project");
    assert_eq!((count(&system, "").await, count(&system, "?all_projects=1").await), (0, 1));
    check(Method::DELETE, &admin, 204).await;
    check(Method::GET, &alice, 404).await;
}

#[tokio::test]
async fn there_are_as_many_as_the_project_may_have() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, project, alice_id) = cloud.user_on(&admin, "one", "alice", "member").await;
    let create = async || {
        let body = group(json!({"name": "g", "policies": ["affinity"]}));
        cloud.compute(Method::POST, "/os-server-groups", &alice, "2.1", body).await
    };
    let limit = async |query: &str, most: i64, want: u16| {
        let body = json!({"quota_set": {"server_groups": most}});
        let path = format!("/os-quota-sets/{project}{query}");
        let reply = cloud.compute(Method::PUT, &path, &admin, "2.57", Some(body)).await;
        assert_eq!(reply.status, want, "{}", reply.body);
    };
    limit("", 1, 200).await;
    assert_eq!(create().await.status, 200);
    let refused = create().await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.body["forbidden"]["message"], "Quota exceeded, too many server groups.");
    let limits = cloud.compute(Method::GET, "/limits", &alice, "2.57", None).await.body;
    assert_eq!(limits["limits"]["absolute"]["totalServerGroupsUsed"], 1);
    limit("", 0, 400).await;
    limit("", 2, 200).await;
    limit(&format!("?user_id={alice_id}"), 1, 200).await;
    assert_eq!(create().await.status, 403, "the user has a limit of her own");
    limit(&format!("?user_id={alice_id}"), 2, 200).await;
    assert_eq!(create().await.status, 200);
}
