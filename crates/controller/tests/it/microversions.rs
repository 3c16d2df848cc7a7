//! The cap of the Compute API's versions, as an operator sets it and clients see it.

use reqwest::Method;
use serde_json::json;

use crate::{cloud::Cloud, place::Place};

#[tokio::test]
async fn nothing_above_the_cap_is_offered() {
    let cloud = Cloud::at(Place::configured("[compute]\nmicroversion_max = '2.87'").await).await;
    let admin = cloud.admin().await;
    let told = cloud.request(Method::GET, "/compute/v2.1", &admin).send().await.unwrap();
    let told: serde_json::Value = told.json().await.unwrap();
    assert_eq!((&told["version"]["version"], &told["version"]["min_version"]), (&json!("2.87"), &json!("2.1")));
    let told: serde_json::Value =
        cloud.request(Method::GET, "/compute", &admin).send().await.unwrap().json().await.unwrap();
    assert!(told["versions"].as_array().unwrap().iter().any(|version| version["version"] == "2.87"), "{told}");
    let check = async |at: &str, status: u16, echoed: &str| {
        let reply = cloud.compute(Method::GET, "/flavors", &admin, at, None).await;
        assert_eq!(reply.status, status, "{at}: {}", reply.body);
        assert_eq!(reply.headers["openstack-api-version"], format!("compute {echoed}"), "{at}");
        reply.body
    };
    check("2.87", 200, "2.87").await;
    check("latest", 200, "2.87").await;
    let refused = check("2.88", 406, "2.1").await;
    let why = "Version 2.88 is not supported by the API. Minimum is 2.1 and maximum is 2.87.";
    assert_eq!(refused["computeFault"], json!({"code": 406, "message": why}));
    check("2.x", 400, "2.1").await;
}
