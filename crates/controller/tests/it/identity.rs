//! Keystone's API as its clients use it: over HTTPS, with what they send.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use whimbrel_api::native::Bootstrap;

use crate::cloud::{Cloud, PASSWORD, on_project};

#[tokio::test]
async fn a_log_in_gives_a_token_with_roles_and_catalog() {
    let cloud = Cloud::new().await;
    let reply = cloud.log_in("admin", PASSWORD, on_project("admin")).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let token = &reply.body["token"];
    let roles: Vec<&str> =
        token["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(roles, ["admin", "manager", "member", "reader"]);
    let compute = &token["catalog"][0];
    assert_eq!(compute["endpoints"][0]["url"], format!("{}/compute/v2.1", cloud.place.url));
    let shown = cloud.call(Method::GET, "/v3/auth/tokens", reply.token.as_deref(), None).await;
    assert_eq!((shown.status, &shown.body["token"]["audit_ids"]), (StatusCode::OK, &token["audit_ids"]));

    let check = async |user: &str, password: &str, scope: Value, want: u16| {
        let reply = cloud.log_in(user, password, scope.clone()).await;
        assert_eq!(reply.status, want, "{user} {password} {scope}: {}", reply.body);
        assert_eq!(reply.token.is_some(), want == 201);
        reply.body["error"]["message"].clone()
    };
    check("admin", PASSWORD, json!({"system": {"all": true}}), 201).await;
    check("admin", PASSWORD, json!("unscoped"), 201).await;
    let wrong = check("admin", "wrong", on_project("admin"), 401).await;
    assert_eq!(wrong, check("nobody", PASSWORD, on_project("admin"), 401).await, "who guesses learns who there is");
    check("admin", PASSWORD, on_project("other"), 401).await;
    check("admin", PASSWORD, json!({"domain": {"id": "default"}}), 401).await;
    check("admin", PASSWORD, json!({"project": {"name": "admin"}}), 400).await;
}

#[tokio::test]
async fn a_token_dies_with_what_it_stands_for() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let project = cloud.make(&admin, "project", json!({"name": "demo"})).await;
    let alice = cloud.make(&admin, "user", json!({"name": "alice", "password": "secret-a"})).await;
    let member = cloud.role(&admin, "member").await;
    let grant = format!("/v3/projects/{project}/users/{alice}/roles/{member}");
    let token = async || {
        assert_eq!(cloud.status(Method::PUT, &grant, &admin).await, 204);
        let reply = cloud.log_in("alice", "secret-a", on_project("demo")).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.token.unwrap()
    };
    let set = async |path: &str, body: Value| {
        let reply = cloud.call(Method::PATCH, path, Some(&admin), Some(body)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    let works = async |token: &str| cloud.status(Method::GET, "/v3/auth/projects", token).await == 200;

    let shown = token().await;
    assert!(works(&shown).await);
    assert_eq!(cloud.status(Method::DELETE, &grant, &admin).await, 204);
    assert!(!works(&shown).await, "the grant is gone");
    assert_eq!(cloud.status(Method::HEAD, &grant, &admin).await, 404);

    let (of_project, of_user) = (format!("/v3/projects/{project}"), format!("/v3/users/{alice}"));
    let shown = token().await;
    set(&of_project, json!({"project": {"enabled": false}})).await;
    assert!(!works(&shown).await, "the project is disabled");
    set(&of_project, json!({"project": {"enabled": true}})).await;
    assert!(works(&shown).await);
    set(&of_user, json!({"user": {"password": "secret-a"}})).await;
    assert!(!works(&shown).await, "there is a new password");
    let shown = token().await;
    assert_eq!(cloud.status(Method::DELETE, "/v3/auth/tokens", &shown).await, 204);
    assert!(!works(&shown).await, "it was taken back");
    let shown = token().await;
    set(&of_user, json!({"user": {"enabled": false}})).await;
    assert!(!works(&shown).await, "the user is disabled");
    assert_eq!(cloud.log_in("alice", "secret-a", on_project("demo")).await.status, 401);
}

#[tokio::test]
async fn a_token_from_a_token_lives_no_longer() {
    let cloud = Cloud::new().await;
    let first = cloud.log_in("admin", PASSWORD, json!("unscoped")).await;
    let shown = first.token.unwrap();
    let auth =
        json!({"auth": {"identity": {"methods": ["token"], "token": {"id": shown}}, "scope": on_project("admin")}});
    let second = cloud.call(Method::POST, "/v3/auth/tokens", None, Some(auth)).await;
    assert_eq!(second.status, 201, "{}", second.body);
    let (first, second) = (&first.body["token"], &second.body["token"]);
    assert_eq!(second["expires_at"], first["expires_at"]);
    assert_eq!(second["methods"], json!(["password", "token"]));
    assert_eq!(second["audit_ids"][1], first["audit_ids"][0]);
}

/// The pure table is `core`'s; this is whether the handlers ask it, about the right target.
#[tokio::test]
async fn nobody_does_what_his_role_does_not_allow() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let project = cloud.make(&admin, "project", json!({"name": "demo"})).await;
    let alice = cloud.make(&admin, "user", json!({"name": "alice", "password": "secret-a"})).await;
    let (member, manager) = (cloud.role(&admin, "member").await, cloud.role(&admin, "manager").await);
    let administrator = cloud.role(&admin, "admin").await;
    let other = cloud.make(&admin, "domain", json!({"name": "other"})).await;
    let on = |place: &str, id: &str, role: &str| format!("/v3/{place}/{id}/users/{alice}/roles/{role}");
    for grant in [on("projects", &project, &member), on("domains", "default", &manager)] {
        assert_eq!(cloud.status(Method::PUT, &grant, &admin).await, 204);
    }
    let as_member = cloud.log_in("alice", "secret-a", on_project("demo")).await.token.unwrap();
    let as_manager = cloud.log_in("alice", "secret-a", json!({"domain": {"id": "default"}})).await.token.unwrap();
    let make_user = async |token: &str, domain: &str, name: &str| {
        let body = json!({"user": {"name": name, "domain_id": domain}});
        cloud.call(Method::POST, "/v3/users", Some(token), Some(body)).await.status.as_u16()
    };
    let check = async |token: &str, path: &str, want: u16| {
        assert_eq!(cloud.status(Method::GET, path, token).await, want, "{path}");
    };
    check(&as_member, "/v3/users", 403).await;
    check(&as_member, &format!("/v3/users/{alice}"), 200).await;
    check(&as_member, "/v3/users/01234567", 403).await;
    check(&admin, "/v3/users/01234567", 404).await;
    check(&as_member, &format!("/v3/projects/{project}"), 200).await;
    check(&as_member, "/v3/domains", 403).await;
    check(&as_member, "/v3/domains/default", 200).await;
    check(&as_manager, "/v3/users", 200).await;
    check(&as_manager, &format!("/v3/users?domain_id={other}"), 403).await;
    check(&as_manager, "/v3/role_assignments", 200).await;
    check("0000", "/v3/users", 401).await;
    assert_eq!(make_user(&as_member, "default", "m").await, 403);
    assert_eq!(make_user(&as_manager, "default", "m").await, 201);
    assert_eq!(make_user(&as_manager, &other, "m").await, 403);
    assert_eq!(make_user(&admin, "nowhere", "m").await, 404);
    assert_eq!(cloud.status(Method::PUT, &on("projects", &project, &manager), &as_manager).await, 204);
    let to_admin = on("projects", &project, &administrator);
    assert_eq!(cloud.status(Method::PUT, &to_admin, &as_manager).await, 403, "a manager made himself an admin");
    assert_eq!(cloud.status(Method::PUT, &format!("/v3/system/users/{alice}/roles/{member}"), &as_manager).await, 403);
    assert_eq!(cloud.status(Method::PUT, &on("domains", &other, &member), &as_manager).await, 403);
}

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let users = async || cloud.call(Method::GET, "/v3/users", Some(&admin), None).await.body["users"].clone();
    let before = users().await;
    let check = async |method: Method, path: &str, body: Value, want: u16| {
        let reply = cloud.call(method, path, Some(&admin), Some(body.clone())).await;
        assert_eq!(reply.status, want, "{path} {body}: {}", reply.body);
        assert_eq!(reply.body["error"]["code"], want);
    };
    check(Method::POST, "/v3/users", json!({"user": {"name": ""}}), 400).await;
    check(Method::POST, "/v3/users", json!({"user": {"name": "a".repeat(256)}}), 400).await;
    check(Method::POST, "/v3/users", json!({"user": {"name": "b", "groups": ["g"]}}), 400).await;
    check(Method::POST, "/v3/users", json!({"user": {"name": "admin"}}), 409).await;
    check(Method::POST, "/v3/users", json!([]), 400).await;
    check(Method::POST, "/v3/projects", json!({"project": {"name": "p", "domain_id": "../x"}}), 404).await;
    check(Method::PATCH, "/v3/domains/default", json!({"domain": {"enabled": false}}), 403).await;
    check(Method::DELETE, "/v3/domains/default", json!({}), 403).await;
    check(Method::POST, "/v3/auth/tokens", json!({"auth": {"identity": {"methods": ["totp"]}}}), 401).await;
    check(Method::POST, "/v3/credentials", json!({}), 404).await;
    check(Method::PUT, "/v3/users", json!({}), 405).await;
    let role = cloud.role(&admin, "admin").await;
    check(Method::DELETE, &format!("/v3/roles/{role}"), json!({}), 403).await;
    assert_eq!(users().await, before);
    let short = cloud.place.client.bootstrap(&Bootstrap { password: "short".to_owned() }).await.unwrap_err();
    assert!(short.detail.contains("5 characters") && short.hint.is_some(), "{short}");
    assert_eq!(cloud.log_in("admin", PASSWORD, on_project("admin")).await.status, 201);
}

#[tokio::test]
async fn a_second_bootstrap_is_a_way_back_in() {
    let cloud = Cloud::new().await;
    let before = cloud.admin().await;
    let new = "another horse".to_owned();
    let made = cloud.place.client.bootstrap(&Bootstrap { password: new.clone() }).await.unwrap();
    assert_eq!(made.auth_url, format!("{}/identity/v3", cloud.place.url));
    assert_eq!(cloud.log_in("admin", PASSWORD, on_project("admin")).await.status, 401);
    assert_eq!(cloud.status(Method::GET, "/v3/users", &before).await, 401, "a token of the old password still opens");
    let token = cloud.log_in("admin", &new, on_project("admin")).await.token.unwrap();
    let users = cloud.call(Method::GET, "/v3/users", Some(&token), None).await;
    assert_eq!(users.body["users"].as_array().unwrap().len(), 1);
}
