//! Quota sets, quota classes, limits and usage of the Compute API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cloud::Cloud;

async fn set(cloud: &Cloud, token: &str, path: &str, fields: Value) -> (u16, Value) {
    let reply = cloud.compute(Method::PUT, path, token, "2.57", Some(json!({ "quota_set": fields }))).await;
    (reply.status.as_u16(), reply.body)
}

async fn get(cloud: &Cloud, token: &str, path: &str, at: &str) -> Value {
    let reply = cloud.compute(Method::GET, path, token, at, None).await;
    assert_eq!(reply.status, 200, "{path} at {at}: {}", reply.body);
    reply.body
}

#[tokio::test]
async fn what_is_said_counts_until_it_is_taken_back() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, project, alice_id) = cloud.user_on(&admin, "one", "alice", "member").await;
    let path = format!("/os-quota-sets/{project}");
    let of = async |query: &str, name: &str| {
        get(&cloud, &alice, &format!("{path}{query}"), "2.1").await["quota_set"][name].clone()
    };
    let usual = get(&cloud, &alice, &path, "2.57").await;
    let want = json!({
        "id": project, "cores": 20, "instances": 10, "ram": 51_200, "key_pairs": 100, "metadata_items": 128,
        "server_groups": 10, "server_group_members": 10,
    });
    assert_eq!(usual["quota_set"], want);
    assert_eq!((of("", "injected_files").await, of("", "fixed_ips").await), (json!(5), json!(-1)));

    let user = format!("?user_id={alice_id}");
    let (status, told) = set(&cloud, &admin, &path, json!({"ram": "5120", "cores": -1})).await;
    assert_eq!((status, &told["quota_set"]["ram"], told["quota_set"].get("id")), (200, &json!(5120), None));
    assert_eq!(set(&cloud, &admin, &format!("{path}{user}"), json!({"ram": 2048})).await.0, 200);
    assert_eq!(
        (of("", "ram").await, of(&user, "ram").await, of(&user, "cores").await),
        (json!(5120), json!(2048), json!(-1))
    );
    let (status, told) = set(&cloud, &admin, &format!("{path}{user}"), json!({"ram": 6000})).await;
    let above = "Quota limit 6000 for ram must be less than or equal to 5120.";
    assert_eq!((status, &told["badRequest"]["message"]), (400, &json!(above)));
    let (status, told) = set(&cloud, &admin, &path, json!({"cores": 1, "ram": 1024})).await;
    let below = "Quota limit 1024 for ram must be greater than or equal to already used and reserved 2048.";
    assert_eq!((status, &told["badRequest"]["message"]), (400, &json!(below)));
    assert_eq!(of("", "cores").await, -1, "half of a refused change was kept");
    assert_eq!(set(&cloud, &admin, &path, json!({"ram": 1024, "force": true})).await.0, 200);
    let detail = get(&cloud, &alice, &format!("{path}/detail"), "2.57").await;
    assert_eq!(detail["quota_set"]["ram"], json!({"limit": 1024, "in_use": 0, "reserved": 0}));
    let defaults = get(&cloud, &alice, &format!("{path}/defaults"), "2.57").await;
    assert_eq!((&defaults["quota_set"]["ram"], &defaults["quota_set"]["id"]), (&json!(51_200), &json!(project)));

    let delete =
        async |query: &str| cloud.compute(Method::DELETE, &format!("{path}{query}"), &admin, "2.1", None).await;
    assert_eq!(delete(&user).await.status, 202);
    assert_eq!((of("", "ram").await, of(&user, "ram").await), (json!(1024), json!(1024)));
    assert_eq!(delete("").await.status, 202);
    assert_eq!(of("", "ram").await, 51_200);
}

#[tokio::test]
async fn a_class_sets_the_defaults() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, project, _) = cloud.user_on(&admin, "one", "alice", "manager").await;
    let class = "/os-quota-class-sets/default";
    let before = get(&cloud, &admin, class, "2.1").await["quota_class_set"].clone();
    assert_eq!((&before["id"], &before["cores"], before.get("server_groups")), (&json!("default"), &json!(20), None));
    let mut more = before.as_object().unwrap().clone();
    more.remove("id");
    for limit in more.values_mut() {
        *limit = json!(limit.as_i64().unwrap() + 100);
    }
    let body = json!({ "quota_class_set": more });
    let told = cloud.compute(Method::PUT, class, &admin, "2.1", Some(body)).await;
    assert_eq!((told.status.as_u16(), &told.body["quota_class_set"]), (200, &Value::Object(more)), "networks' too");
    let own = get(&cloud, &alice, &format!("/os-quota-sets/{project}"), "2.1").await;
    assert_eq!((&own["quota_set"]["cores"], &own["quota_set"]["fixed_ips"]), (&json!(120), &json!(99)));
    let other = get(&cloud, &admin, "/os-quota-class-sets/other", "2.57").await;
    assert_eq!(
        (&other["quota_class_set"]["cores"], &other["quota_class_set"]["server_groups"]),
        (&json!(20), &json!(10))
    );
    let status = async |method: Method, path: &str, token: &str, body: Value| {
        cloud.compute(method, path, token, "2.50", Some(body)).await.status.as_u16()
    };
    let cores = json!({"quota_class_set": {"cores": 1}});
    assert_eq!(status(Method::GET, class, &alice, Value::Null).await, 403);
    assert_eq!(status(Method::PUT, class, &alice, cores.clone()).await, 403);
    assert_eq!(status(Method::PUT, class, &admin, json!({"quota_class_set": {"fixed_ips": 1}})).await, 400);
    assert_eq!(status(Method::PUT, &format!("/os-quota-class-sets/{}", "c".repeat(256)), &admin, cores).await, 400);
}

#[tokio::test]
async fn quotas_are_read_in_the_project_and_written_by_administrators() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, own, _) = cloud.user_on(&admin, "one", "alice", "reader").await;
    let (bob, other, _) = cloud.user_on(&admin, "two", "bob", "manager").await;
    let check = async |method: Method, path: &str, token: &str, body: Option<Value>, want: u16| {
        let reply = cloud.compute(method.clone(), path, token, "2.75", body.clone()).await;
        assert_eq!(reply.status, want, "{method} {path} {body:?}: {}", reply.body);
    };
    let of = |project: &str| format!("/os-quota-sets/{project}");
    let cores = Some(json!({"quota_set": {"cores": 1}}));
    for path in [of(&own), format!("{}/detail", of(&own)), format!("/os-simple-tenant-usage/{own}")] {
        check(Method::GET, &path, &alice, None, 200).await;
        check(Method::GET, &path, &admin, None, 200).await;
        check(Method::GET, &path, &bob, None, 403).await;
        check(Method::GET, &path, "0000", None, 401).await;
    }
    check(Method::GET, &format!("{}/defaults", of(&other)), &alice, None, 200).await;
    for token in [&alice, &bob] {
        check(Method::PUT, &of(&own), token, cores.clone(), 403).await;
        check(Method::DELETE, &of(&own), token, None, 403).await;
    }
    for nowhere in ["nowhere", "no%20where"] {
        for path in ["", "/detail", "/defaults"] {
            check(Method::GET, &format!("{}{path}", of(nowhere)), &admin, None, 400).await;
        }
        check(Method::PUT, &of(nowhere), &admin, cores.clone(), 400).await;
        check(Method::DELETE, &of(nowhere), &admin, None, 202).await;
        check(Method::GET, &of(nowhere), &alice, None, 403).await;
    }
    for bad in [json!({"cores": -2}), json!({"cores": "x"}), json!({"cores": null}), json!({"networks": 1}), json!([])]
    {
        check(Method::PUT, &of(&own), &admin, Some(json!({ "quota_set": bad })), 400).await;
    }
    check(Method::PUT, &of(&own), &admin, Some(json!({"quota_set": {}, "more": 1})), 400).await;
    check(Method::GET, &format!("{}?colour=red", of(&own)), &admin, None, 400).await;
    check(Method::GET, &format!("{}?user_id=a%2Fb", of(&own)), &admin, None, 400).await;
    check(Method::POST, &of(&own), &admin, cores, 405).await;
}

#[tokio::test]
async fn limits_are_those_of_the_project() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, own, _) = cloud.user_on(&admin, "one", "alice", "reader").await;
    assert_eq!(set(&cloud, &admin, &format!("/os-quota-sets/{own}"), json!({"cores": 7})).await.0, 200);
    let limits = get(&cloud, &alice, "/limits", "2.57").await;
    let absolute = &limits["limits"]["absolute"];
    assert_eq!((&absolute["maxTotalCores"], &absolute["totalCoresUsed"]), (&json!(7), &json!(0)));
    assert_eq!((&limits["limits"]["rate"], absolute.get("maxPersonality")), (&json!([]), None));
    assert_eq!(get(&cloud, &alice, "/limits", "2.56").await["limits"]["absolute"]["maxPersonality"], 5);
    let of_own = format!("/limits?tenant_id={own}");
    assert_eq!(get(&cloud, &admin, &of_own, "2.1").await["limits"]["absolute"]["maxTotalCores"], 7);
    assert_eq!(get(&cloud, &admin, "/limits?reserved=1", "2.74").await["limits"]["absolute"]["maxTotalCores"], 20);
    let status = async |path: &str, token: &str| cloud.compute(Method::GET, path, token, "2.75", None).await.status;
    assert_eq!(status(&of_own, &alice).await, 403, "Nova asks for an administrator, whoever's they are");
    assert_eq!(status("/limits?tenant_id=a%2Fb", &admin).await, 400);
    assert_eq!(status("/limits?reserved=1", &admin).await, 400);
    assert_eq!(status("/limits?tenant_id=nowhere", &admin).await, 200);
}

#[tokio::test]
async fn usage_is_asked_for_over_a_time() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (alice, own, _) = cloud.user_on(&admin, "one", "alice", "member").await;
    let usage = "/os-simple-tenant-usage";
    let times = "start=2026-01-01T00:00:00.000000&end=2999-01-01T00:00:00.000000";
    assert_eq!(get(&cloud, &admin, &format!("{usage}?{times}&detailed=1"), "2.40").await, json!({"tenant_usages": []}));
    assert_eq!(get(&cloud, &alice, &format!("{usage}/{own}?{times}"), "2.40").await, json!({"tenant_usage": {}}));
    let status = async |path: &str, token: &str| cloud.compute(Method::GET, path, token, "2.75", None).await.status;
    assert_eq!(status(usage, &alice).await, 403);
    assert_eq!(status(&format!("{usage}/"), &admin).await, 404);
    assert_eq!(status(&format!("{usage}/a%2Fb"), &admin).await, 200);
    for bad in ["start=2999-01-01T00:00:00", "start=yesterday", "limit=x", "marker=none", "colour=red"] {
        assert_eq!(status(&format!("{usage}?{bad}"), &admin).await, 400, "{bad}");
        assert_eq!(status(&format!("{usage}/{own}?{bad}"), &alice).await, 400, "{bad}");
    }
    assert_eq!(status(&format!("{usage}/{own}?detailed=1"), &alice).await, 400, "it always is");
}
