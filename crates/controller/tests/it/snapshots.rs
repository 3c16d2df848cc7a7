//! Images that are made of servers: what is said of them, and what becomes of them when something goes wrong.

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{compute_servers::Ground, images::qcow2, place::until, sleeping::event};

async fn image(ground: &Ground, id: &str) -> Option<Value> {
    let reply = ground.cloud.request(Method::GET, &format!("/image/v2/images/{id}"), &ground.admin);
    let reply = reply.header("Accept", "application/json").send().await.unwrap();
    match reply.status().as_u16() {
        200 => Some(reply.json().await.unwrap()),
        404 => None,
        other => panic!("{other}"),
    }
}

async fn create(ground: &Ground, server: &str) -> String {
    let body = json!({"createImage": {"name": "shot", "metadata": {"purpose": "test"}}});
    ground.act(server, "2.45", body, 202).await["image_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_image_of_a_server_says_where_it_is_from_and_boots_another() {
    let ground = Ground::new().await;
    let server = ground.server("s1").await;
    let id = create(&ground, &server).await;
    let shown = ground.is_busy(&server, "image_snapshot").await;
    assert_eq!(shown["status"], "ACTIVE");
    let queued = image(&ground, &id).await.unwrap();
    assert_eq!(
        (&queued["status"], &queued["name"], &queued["min_disk"]),
        (&json!("queued"), &json!("shot"), &json!(1))
    );
    ground.act(&server, "2.1", json!({"pause": null}), 409).await;
    ground.h1.told().copy = Some(qcow2(&[]));
    let active =
        until("the image to be active", async || image(&ground, &id).await.filter(|image| image["status"] == "active"))
            .await;
    for (property, want) in [
        ("image_type", "snapshot"),
        ("instance_uuid", &server),
        ("base_image_ref", &ground.image),
        ("purpose", "test"),
        ("disk_format", "qcow2"),
        ("visibility", "private"),
        ("owner", active["owner_id"].as_str().unwrap()),
    ] {
        assert_eq!(active[property], want, "{property}: {active}");
    }
    assert_eq!(active["virtual_size"], 1 << 20);
    ground.is(&server, "ACTIVE").await;
    let told = event(&ground, &server, "createImage").await;
    assert_eq!((&told["event"], &told["result"]), (&json!("compute_snapshot_instance"), &json!("Success")));
    assert_eq!(ground.h1.told().dropped_copies.len(), 1);

    let mut second = ground.new_server("s2");
    second["imageRef"] = json!(id);
    let made = ground.call(Method::POST, "/servers", "2.1", Some(json!({"server": second})), 202).await;
    ground.is(made["server"]["id"].as_str().unwrap(), "ACTIVE").await;

    // Before 2.45 the answer is a header alone, from a stopped server as well.
    ground.act(&server, "2.1", json!({"os-stop": null}), 202).await;
    ground.is(&server, "SHUTOFF").await;
    let path = format!("/servers/{server}/action");
    let body = Some(json!({"createImage": {"name": "off"}}));
    let reply = ground.cloud.compute(Method::POST, &path, &ground.admin, "2.44", body).await;
    let location = reply.headers["location"].to_str().unwrap().to_owned();
    assert!(reply.status == 202 && location.contains("/image/v2/images/"), "{location}");
    let id = location.rsplit('/').next().unwrap().to_owned();
    until("that image", async || image(&ground, &id).await.filter(|image| image["status"] == "active")).await;
    ground.is(&server, "SHUTOFF").await;
}

#[tokio::test]
async fn an_image_that_comes_to_nothing_is_gone_and_the_server_is_as_it_was() {
    let ground = Ground::new().await;
    let server = ground.server("s1").await;
    let fails = async |what: &str| {
        let id = create(&ground, &server).await;
        let told = event(&ground, &server, "createImage").await;
        assert!(told["result"] == "Error" && told["details"].as_str().unwrap().contains(what), "{told}");
        ground.is(&server, "ACTIVE").await;
        assert_eq!(image(&ground, &id).await, None);
    };
    ground.h1.told().copy_failure = Some(Failure::new(FailureCode::NoDisk, "the host is full"));
    fails("the host is full").await;
    ground.h1.told().copy_failure = None;
    ground.h1.told().copy = Some(qcow2(&[]));
    ground.h1.told().lie_about_copy = true;
    fails("came content with digest").await;
    ground.h1.told().lie_about_copy = false;
    ground.h1.told().copy = Some(qcow2(&[(8, 512)]));
    fails("needs a backing file").await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_a_deleted_server_makes_no_image() {
    let ground = Ground::new().await;
    let server = ground.server("s1").await;
    let check = async |image: Value, want: u16| {
        ground.act(&server, "2.96", json!({ "createImage": image }), want).await;
    };
    check(json!({"name": ""}), 400).await;
    check(json!({"name": "x", "metadata": {"visibility": "public"}}), 400).await;
    check(json!({"name": "x", "metadata": {"checksum": "0"}}), 400).await;
    let many: serde_json::Map<String, Value> = (0..129).map(|at| (format!("k{at}"), json!("v"))).collect();
    check(json!({"name": "x", "metadata": many}), 403).await;
    let list = ground.cloud.request(Method::GET, "/image/v2/images", &ground.admin).send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["images"].as_array().unwrap().len(), 1, "a refusal left an image");

    let id = create(&ground, &server).await;
    ground.call(Method::DELETE, &format!("/servers/{server}"), "2.1", None, 204).await;
    until("server and image to be gone", async || {
        let reply = ground.cloud.compute(Method::GET, &format!("/servers/{server}"), &ground.admin, "2.1", None).await;
        (reply.status == 404 && image(&ground, &id).await.is_none()).then_some(())
    })
    .await;
}
