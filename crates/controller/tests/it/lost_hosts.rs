//! Servers of a lost host on another one, and that host when it is back.

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_api::native::{HostState, NewMigration};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::Epoch,
    instance::PowerState,
};

use crate::{
    compute_servers::Ground,
    fake_agent::FakeAgent,
    place::{name, until},
    sleeping::event,
};

async fn force_down(ground: &Ground, host: &str, down: bool) {
    let list = ground.call(Method::GET, &format!("/os-services?host={host}"), "2.53", None, 200).await;
    let path = format!("/os-services/{}", list["services"][0]["id"].as_str().unwrap());
    ground.call(Method::PUT, &path, "2.53", Some(json!({"forced_down": down})), 200).await;
}

async fn lost(ground: &Ground, agent: &FakeAgent) {
    agent.stop();
    ground.cloud.place.host_is(agent.name.as_str(), HostState::Down).await;
}

async fn status_of_move(ground: &Ground, status: &str) -> Value {
    until(&format!("the evacuation to be {status}"), async || {
        let all = ground.call(Method::GET, "/os-migrations?migration_type=evacuation", "2.59", None, 200).await;
        all["migrations"].get(0).filter(|one| one["status"] == status).cloned()
    })
    .await
}

#[tokio::test]
async fn a_server_of_a_lost_host_is_made_anew_and_the_host_is_told_before_it_works_again() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    let evacuate = json!({"evacuate": {}});
    let told = ground.act(&id, "2.14", evacuate.clone(), 400).await;
    assert_eq!(told["badRequest"]["message"], "Compute service of h1 is still in use.");
    lost(&ground, &ground.h1).await;
    let check = async |at: &str, body: Value, want: u16, words: &str| {
        let told = ground.act(&id, at, json!({ "evacuate": body }), want).await;
        assert!(told.to_string().contains(words), "{told}");
    };
    check("2.14", json!({"host": "h1"}), 400, "can't be the same").await;
    check("2.14", json!({"host": "h9"}), 404, "h9 could not be found").await;
    check("2.13", json!({"onSharedStorage": true}), 400, "are not shared").await;

    let told = ground.act(&id, "2.13", json!({"evacuate": {"onSharedStorage": false, "adminPass": "p"}}), 200).await;
    assert_eq!(told, json!({"adminPass": "p"}));
    let shown = ground.is(&id, "ACTIVE").await;
    assert_eq!(shown["OS-EXT-SRV-ATTR:host"], "h2");
    let instance = id.parse().unwrap();
    {
        let told = ground.h2.told();
        assert_eq!((told.guests[&instance].epoch, told.guests[&instance].power), (Epoch(2), PowerState::Running));
        assert!(told.anew.contains(&instance));
    }
    let told = event(&ground, &id, "evacuate").await;
    assert_eq!((&told["event"], &told["result"]), (&json!("compute_rebuild_instance"), &json!("Success")));
    let row = status_of_move(&ground, "done").await;
    assert_eq!((&row["source_compute"], &row["dest_compute"]), (&json!("h1"), &json!("h2")));

    // It is heard again, still with the guest of before, and does not let go at first.
    let refuse = Failure::new(FailureCode::Conflict, "not now");
    let h1 = ground.cloud.place.host_that("h1", |told| told.refuse_disown = Some(refuse)).await;
    let new = NewMigration { host: Some("h1".to_owned()), ..NewMigration::default() };
    let plan = ground.cloud.place.client.plan(&id, &new).await.unwrap();
    assert!(plan.reasons.iter().any(|reason| reason.detail.contains("has yet to let go of 1 servers")), "{plan:?}");
    let mut server = ground.new_server("s2");
    server["availability_zone"] = json!("nova:h1");
    let refused = ground.cloud.compute(Method::POST, "/servers", &ground.admin, "2.1", Some(json!({"server": server})));
    assert!(refused.await.body.to_string().contains("has yet to let go"));
    assert!(h1.told().disowned.is_empty());
    h1.told().refuse_disown = None;
    let (server_told, ask) = until("the lost host to be told", async || h1.told().disowned.first().cloned()).await;
    assert_eq!((server_told, &ask.to, ask.epoch), (instance, &name("h2"), Epoch(2)));
    status_of_move(&ground, "completed").await;
    until("the host to be usable", async || {
        let plan = ground.cloud.place.client.plan(&id, &new).await.unwrap();
        plan.reasons.is_empty().then_some(())
    })
    .await;
    assert_eq!(ground.is(&id, "ACTIVE").await["OS-EXT-SRV-ATTR:host"], "h2");
}

#[tokio::test]
async fn a_host_that_is_only_said_to_be_down_lets_go_before_anything_starts_elsewhere() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    ground.h1.told().refuse_disown = Some(Failure::new(FailureCode::Conflict, "not now"));
    force_down(&ground, "h1", true).await;
    ground.act(&id, "2.95", json!({"evacuate": {"host": "h2"}}), 200).await;
    let shown = ground.is_busy(&id, "rebuilding").await;
    assert_eq!(shown["status"], "REBUILD");
    status_of_move(&ground, "accepted").await;
    assert!(ground.h2.told().guests.is_empty(), "it runs twice");
    ground.h1.told().refuse_disown = None;
    // From 2.95 on it is left off.
    let shown = ground.is(&id, "SHUTOFF").await;
    assert_eq!(shown["OS-EXT-SRV-ATTR:host"], "h2");
    assert_eq!(ground.h1.told().disowned.len(), 1);
    status_of_move(&ground, "completed").await;
}

#[tokio::test]
async fn no_room_changes_nothing_and_a_server_deleted_meanwhile_is_deleted_on_the_lost_host_too() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    ground.h2.told().facts.as_mut().unwrap().memory_mb = 600;
    lost(&ground, &ground.h1).await;
    until("the host to be full", async || {
        let reply = ground
            .cloud
            .compute(
                Method::POST,
                &format!("/servers/{id}/action"),
                &ground.admin,
                "2.14",
                Some(json!({"evacuate": {}})),
            )
            .await;
        (reply.status == 400 && reply.body.to_string().contains("no host for server")).then_some(())
    })
    .await;
    let told = event(&ground, &id, "evacuate").await;
    assert_eq!(told["result"], "Error");
    let shown = ground.call(Method::GET, &format!("/servers/{id}"), "2.96", None, 200).await["server"].take();
    assert_eq!((&shown["status"], &shown["OS-EXT-SRV-ATTR:host"]), (&json!("ACTIVE"), &json!("h1")));

    ground.h2.told().facts.as_mut().unwrap().memory_mb = 4096;
    until("room", async || {
        let path = format!("/servers/{id}/action");
        let reply =
            ground.cloud.compute(Method::POST, &path, &ground.admin, "2.95", Some(json!({"evacuate": {}}))).await;
        (reply.status == 200).then_some(())
    })
    .await;
    ground.is(&id, "SHUTOFF").await;
    // Though that host is down, the server goes.
    ground.call(Method::DELETE, &format!("/servers/{id}"), "2.1", None, 204).await;
    until("the server to be gone", async || {
        let reply = ground.cloud.compute(Method::GET, &format!("/servers/{id}"), &ground.admin, "2.1", None).await;
        (reply.status == 404).then_some(())
    })
    .await;
    let h1 = ground.cloud.place.host("h1").await;
    until("the lost host to be told", async || (h1.told().disowned.len() == 1).then_some(())).await;
    status_of_move(&ground, "completed").await;
}
