//! Key pairs of the Compute API: made, imported, told, refused, and whose they are.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cloud::{Cloud, on_project};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGE/h4ykxtsMByP5CkJ8gtsg51o/Xho4k4k57a0ex97f c@h";
const FINGERPRINT: &str = "ba:3a:6f:37:26:09:ee:5c:fc:fb:14:6b:28:ed:c8:be";

fn import(name: &str) -> Value {
    json!({"keypair": {"name": name, "public_key": KEY}})
}

#[tokio::test]
async fn a_key_pair_is_imported_told_and_deleted() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let call = async |method: Method, path: &str, at: &str, body: Option<Value>, want: u16| {
        let reply = cloud.compute(method, path, &admin, at, body.clone()).await;
        assert_eq!(reply.status, want, "{path} at {at} {body:?}: {}", reply.body);
        reply.body
    };
    let made = call(Method::POST, "/os-keypairs", "2.1", Some(import("old")), 200).await;
    assert_eq!(made["keypair"]["fingerprint"], FINGERPRINT);
    assert!(made["keypair"].get("type").is_none() && made["keypair"].get("private_key").is_none(), "{made}");
    let made = call(Method::POST, "/os-keypairs", "2.2", Some(import("new")), 201).await;
    assert_eq!(made["keypair"]["type"], "ssh");
    let refused = call(Method::POST, "/os-keypairs", "2.92", Some(import("new")), 409).await;
    assert_eq!(refused["conflictingRequest"]["message"], "Key pair 'new' already exists.");

    let shown = call(Method::GET, "/os-keypairs/new", "2.1", None, 200).await;
    let fields = &shown["keypair"];
    assert_eq!(
        (&fields["name"], &fields["public_key"], &fields["deleted"]),
        (&json!("new"), &json!(KEY), &json!(false))
    );
    assert!(fields["id"].is_u64() && fields["user_id"].is_string(), "{shown}");
    let listed = call(Method::GET, "/os-keypairs", "2.1", None, 200).await;
    let names = |body: &Value| {
        let pairs = body["keypairs"].as_array().unwrap().clone();
        pairs.iter().map(|pair| pair["keypair"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&listed), ["new", "old"]);
    assert_eq!(names(&call(Method::GET, "/os-keypairs?limit=1", "2.34", None, 200).await), ["new", "old"]);
    let page = call(Method::GET, "/os-keypairs?limit=1", "2.35", None, 200).await;
    let next = page["keypairs_links"][0]["href"].as_str().unwrap();
    assert!(names(&page) == ["new"] && next.ends_with("os-keypairs?limit=1&marker=new"), "{page}");
    let rest = call(Method::GET, "/os-keypairs?limit=1&marker=new", "2.35", None, 200).await;
    assert!(names(&rest) == ["old"] && rest.get("keypairs_links").is_none(), "{rest}");
    call(Method::GET, "/os-keypairs?marker=none", "2.35", None, 400).await;
    call(Method::GET, "/os-keypairs?colour=red", "2.75", None, 400).await;

    call(Method::DELETE, "/os-keypairs/old", "2.1", None, 202).await;
    call(Method::DELETE, "/os-keypairs/new", "2.2", None, 204).await;
    let gone = call(Method::DELETE, "/os-keypairs/new", "2.2", None, 404).await;
    assert!(gone["itemNotFound"]["message"].as_str().unwrap().starts_with("Keypair new not found for user "), "{gone}");
    call(Method::GET, "/os-keypairs/new", "2.1", None, 404).await;
    assert!(names(&call(Method::GET, "/os-keypairs", "2.96", None, 200).await).is_empty());
}

#[tokio::test]
async fn a_pair_is_made_until_2_91_and_told_once() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let create = async |name: &str, at: &str| {
        let body = json!({"keypair": {"name": name}});
        cloud.compute(Method::POST, "/os-keypairs", &admin, at, Some(body)).await
    };
    let made = create("k", "2.91").await;
    assert_eq!(made.status, 201, "{}", made.body);
    let private = made.body["keypair"]["private_key"].as_str().unwrap();
    assert!(private.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "no private key");
    assert!(made.body["keypair"]["public_key"].as_str().unwrap().starts_with("ssh-rsa "));
    let shown = cloud.compute(Method::GET, "/os-keypairs/k", &admin, "2.91", None).await.body;
    assert_eq!(shown["keypair"]["fingerprint"], made.body["keypair"]["fingerprint"]);
    assert!(!shown.to_string().contains("PRIVATE"));
    assert_eq!(create("l", "2.92").await.status, 400);
    let x509 = json!({"keypair": {"name": "l", "type": "x509"}});
    assert_eq!(cloud.compute(Method::POST, "/os-keypairs", &admin, "2.91", Some(x509)).await.status, 400);
}

#[tokio::test]
async fn a_bad_key_pair_is_refused_and_nothing_is_kept() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let check = async |fields: Value, at: &str| {
        let body = json!({ "keypair": fields });
        let reply = cloud.compute(Method::POST, "/os-keypairs", &admin, at, Some(body)).await;
        assert_eq!(reply.status, 400, "{fields}: {}", reply.body);
        reply.body["badRequest"]["message"].as_str().unwrap().to_owned()
    };
    check(json!({"name": ""}), "2.1").await;
    check(json!({"name": "k".repeat(256), "public_key": KEY}), "2.1").await;
    check(json!({"name": r"key_/.\@:", "public_key": KEY}), "2.1").await;
    check(json!({"name": "k", "colour": "red"}), "2.1").await;
    check(json!({"name": "k", "public_key": KEY, "type": "ssh"}), "2.1").await;
    check(json!({"name": "k", "public_key": KEY, "type": "pgp"}), "2.2").await;
    check(json!({"name": "k", "public_key": KEY, "user_id": "u"}), "2.9").await;
    check(json!({"name": "k", "public_key": KEY, "user_id": "../u"}), "2.10").await;
    check(json!({"name": "k", "public_key": 7}), "2.1").await;
    check(json!({"name": "k", "public_key": KEY, "type": "x509"}), "2.2").await;
    let told = check(json!({"name": "k", "public_key": "ssh-rsa JUNK nova@ubuntu"}), "2.1").await;
    assert!(told.starts_with("Keypair data is invalid: failed to generate fingerprint"), "{told}");
    check(json!({"name": "k", "public_key": " "}), "2.1").await;
    let listed = cloud.compute(Method::GET, "/os-keypairs", &admin, "2.1", None).await.body;
    assert_eq!(listed, json!({"keypairs": []}));
}

#[tokio::test]
async fn a_key_pair_is_its_users_and_an_administrators_business() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, _, alice_id) = cloud.user_on(&admin, "one", "alice", "reader").await;
    let (bob, _, bob_id) = cloud.user_on(&admin, "two", "bob", "member").await;
    let status = async |method: Method, path: &str, token: &str, at: &str, body: Option<Value>| {
        cloud.compute(method, path, token, at, body).await.status.as_u16()
    };
    assert_eq!(status(Method::POST, "/os-keypairs", &alice, "2.10", Some(import("k"))).await, 201);
    assert_eq!(status(Method::POST, "/os-keypairs", &bob, "2.10", Some(import("k"))).await, 201);
    let for_alice = json!({"keypair": {"name": "l", "public_key": KEY, "user_id": alice_id}});
    assert_eq!(status(Method::POST, "/os-keypairs", &bob, "2.10", Some(for_alice.clone())).await, 403);
    assert_eq!(status(Method::POST, "/os-keypairs", &admin, "2.10", Some(for_alice)).await, 201);

    let of_alice = |path: &str| format!("/os-keypairs{path}?user_id={alice_id}");
    assert_eq!(status(Method::GET, "/os-keypairs/l", &bob, "2.10", None).await, 404, "another user's key is not there");
    assert_eq!(status(Method::GET, "/os-keypairs/l", &admin, "2.10", None).await, 404);
    for path in ["", "/k", "/none"] {
        assert_eq!(status(Method::GET, &of_alice(path), &bob, "2.10", None).await, 403, "{path}");
    }
    assert_eq!(status(Method::DELETE, &of_alice("/k"), &bob, "2.10", None).await, 403);
    assert_eq!(status(Method::GET, &of_alice("/l"), &bob, "2.9", None).await, 404, "2.9 knows no other users");
    for path in ["", "/l"] {
        assert_eq!(status(Method::GET, &of_alice(path), &admin, "2.10", None).await, 200, "{path}");
    }
    assert_eq!(status(Method::GET, &of_alice("/l"), &alice, "2.10", None).await, 200, "her own by her name");
    assert_eq!(status(Method::DELETE, &of_alice("/l"), &admin, "2.10", None).await, 204);
    assert_eq!(status(Method::GET, "/os-keypairs/l", &alice, "2.10", None).await, 404);
    let of_bob = cloud.compute(Method::GET, &format!("/os-keypairs?user_id={bob_id}"), &admin, "2.10", None).await.body;
    assert_eq!(of_bob["keypairs"].as_array().unwrap().len(), 1);
    assert_eq!(status(Method::GET, "/os-keypairs", "0000", "2.1", None).await, 401);
    let unscoped = cloud.log_in("alice", "secret-u", json!("unscoped")).await.token.unwrap();
    assert_eq!(status(Method::GET, "/os-keypairs/k", &unscoped, "2.1", None).await, 200);
}

#[tokio::test]
async fn there_are_as_many_as_the_project_lets_its_users_have() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, project, alice_id) = cloud.user_on(&admin, "one", "alice", "member").await;
    let create =
        async |name: &str| cloud.compute(Method::POST, "/os-keypairs", &alice, "2.2", Some(import(name))).await;
    let limit = async |query: &str, most: i64| {
        let body = json!({"quota_set": {"key_pairs": most}});
        let path = format!("/os-quota-sets/{project}{query}");
        let reply = cloud.compute(Method::PUT, &path, &admin, "2.57", Some(body)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    limit("", 2).await;
    assert_eq!((create("a").await.status.as_u16(), create("b").await.status.as_u16()), (201, 201));
    let refused = create("c").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.body["forbidden"]["message"], "Quota exceeded, too many key pairs.");
    limit("", 3).await;
    limit(&format!("?user_id={alice_id}"), 2).await;
    assert_eq!(create("c").await.status, 403, "the user has a limit of her own");
    limit(&format!("?user_id={alice_id}"), 3).await;
    assert_eq!(create("c").await.status, 201);
    let elsewhere = cloud.log_in("alice", "secret-u", on_project("one")).await.token.unwrap();
    assert_eq!(cloud.compute(Method::GET, "/os-keypairs/c", &elsewhere, "2.2", None).await.status, 200);
}
