//! Resizes and cold migrations, with agents whose guests are only told of: confirmed, reverted, refused.

use reqwest::Method;
use serde_json::{Value, json};
use whimbrel_api::agent::Verification;
use whimbrel_core::{
    id::{InstanceId, MigrationId},
    instance::PowerState,
    migration::source,
};

use crate::{compute_servers::Ground, fake_agent::FakeAgent, moves::receipt, place::until};

const GIB: u64 = 1 << 30;

async fn flavor(ground: &Ground, id: &str, ram: u64, disk: u64, swap: u64) {
    let flavor = json!({"name": id, "id": id, "ram": ram, "vcpus": 2, "disk": disk, "swap": swap});
    ground.call(Method::POST, "/flavors", "2.1", Some(json!({ "flavor": flavor })), 200).await;
}

fn resize(flavor: &str) -> Value {
    json!({"resize": {"flavorRef": flavor}})
}

/// RAM and disks of the guest as its agent was told last.
fn hardware(agent: &FakeAgent, id: &str) -> (u64, Vec<(String, u64)>) {
    let told = agent.told();
    let spec = &told.guests[&id.parse::<InstanceId>().unwrap()].spec;
    (spec.ram_mb, spec.disks.iter().map(|disk| (disk.name.to_string(), disk.virtual_bytes / (1 << 20))).collect())
}

async fn memory(ground: &Ground, mb: u64) {
    ground.h1.told().facts.as_mut().unwrap().memory_mb = mb;
    until("h1 to tell its memory", async || {
        let host = ground.cloud.place.client.host("h1").await.ok()?;
        (host.facts.memory_mb == mb).then_some(())
    })
    .await;
}

/// What is spoken for at a host.
async fn used_mb(ground: &Ground, host: &str) -> u64 {
    let list = ground.call(Method::GET, "/os-hypervisors/detail", "2.1", None, 200).await;
    let all = list["hypervisors"].as_array().unwrap();
    let one = all.iter().find(|one| one["hypervisor_hostname"] == host).unwrap();
    one["memory_mb_used"].as_u64().unwrap()
}

async fn statuses(ground: &Ground, kind: &str) -> Vec<String> {
    let list = ground.call(Method::GET, &format!("/os-migrations?migration_type={kind}"), "2.59", None, 200).await;
    let each = list["migrations"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap().to_owned());
    each.collect()
}

/// Carries the move that was begun last from one agent to the other.
async fn carried(ground: &Ground, from: &FakeAgent, to: &FakeAgent, power: PowerState) -> MigrationId {
    let ask = until("the source to be asked", async || {
        let sends = from.told().sends.clone();
        sends.into_iter().find(|ask| !to.told().guests.contains_key(&ask.instance))
    })
    .await;
    from.source_is(ask.migration, source::Phase::Committed);
    to.owns_as(ask.migration, power);
    let migration = ground.cloud.place.client.migration(ask.migration).await.unwrap();
    from.handed_over(ask.migration, receipt(&migration, true), Verification::Equal);
    from.told().sends.clear();
    ask.migration
}

#[tokio::test]
async fn a_resize_stays_on_a_host_that_has_room_and_is_confirmed_or_reverted() {
    let ground = Ground::new().await;
    flavor(&ground, "large", 1024, 2, 64).await;
    let empty_mb = used_mb(&ground, "h1").await;
    let id = ground.server("s1").await;
    ground.act(&id, "2.96", resize("large"), 202).await;
    let shown = ground.is(&id, "VERIFY_RESIZE").await;
    assert_eq!((&shown["flavor"]["original_name"], &shown["flavor"]["ram"]), (&json!("large"), &json!(1024)));
    assert_eq!(shown["OS-EXT-SRV-ATTR:host"], "h1");
    assert_eq!(hardware(&ground.h1, &id), (1024, vec![("root".to_owned(), 2048), ("swap".to_owned(), 64)]));
    assert_eq!(ground.h1.told().guests.values().next().unwrap().power, PowerState::Running);
    assert_eq!(statuses(&ground, "resize").await, ["finished"]);
    ground.act(&id, "2.1", json!({"os-stop": null}), 409).await;
    assert!(ground.h1.told().sends.is_empty(), "it was moved");

    ground.act(&id, "2.1", json!({"revertResize": null}), 202).await;
    let shown = ground.is(&id, "ACTIVE").await;
    assert_eq!(shown["flavor"]["original_name"], "small");
    // What the guest may have written behind the old end of its disk is not cut off.
    assert_eq!(hardware(&ground.h1, &id), (512, vec![("root".to_owned(), 2048)]));
    assert_eq!(statuses(&ground, "resize").await, ["reverted"]);

    ground.act(&id, "2.1", resize("large"), 202).await;
    ground.is(&id, "VERIFY_RESIZE").await;
    ground.act(&id, "2.1", json!({"confirmResize": null}), 204).await;
    ground.is(&id, "ACTIVE").await;
    assert_eq!(statuses(&ground, "resize").await, ["confirmed", "reverted"]);
    ground.act(&id, "2.1", json!({"confirmResize": null}), 409).await;
    assert_eq!(used_mb(&ground, "h1").await - empty_mb, 1024);
    let actions = ground.call(Method::GET, &format!("/servers/{id}/os-instance-actions"), "2.96", None, 200).await;
    let names: Vec<_> =
        actions["instanceActions"].as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["confirmResize", "resize", "revertResize", "resize", "create"]);
    let request = actions["instanceActions"][1]["request_id"].as_str().unwrap();
    let action =
        ground.call(Method::GET, &format!("/servers/{id}/os-instance-actions/{request}"), "2.84", None, 200).await;
    let event = &action["instanceAction"]["events"][0];
    assert_eq!((&event["event"], &event["result"]), (&json!("compute_resize_instance"), &json!("Success")));
}

#[tokio::test]
async fn what_is_off_stays_off_and_what_cannot_be_is_refused() {
    let ground = Ground::new().await;
    for (id, ram, disk, swap) in
        [("large", 1024, 2, 0), ("giant", 512, 2000, 0), ("flat", 512, 0, 0), ("thin", 256, 1, 0)]
    {
        flavor(&ground, id, ram, disk, swap).await;
    }
    let id = ground.server("s1").await;
    let check = async |flavor: &str, words: &str| {
        let told = ground.act(&id, "2.1", resize(flavor), 400).await;
        assert!(told["badRequest"]["message"].as_str().unwrap().contains(words), "{told}");
        ground.is(&id, "ACTIVE").await;
    };
    check("13", "must change flavor").await;
    check("none", "Flavor none could not be found").await;
    check("giant", "No valid host was found").await;
    check("flat", "zero disk flavor").await;
    ground.act(&id, "2.1", json!({"confirmResize": null}), 409).await;
    let none: Vec<String> = Vec::new();
    assert_eq!(statuses(&ground, "resize").await, none);

    ground.act(&id, "2.1", json!({"os-stop": null}), 202).await;
    ground.is(&id, "SHUTOFF").await;
    ground.act(&id, "2.1", resize("large"), 202).await;
    ground.is(&id, "VERIFY_RESIZE").await;
    ground.act(&id, "2.1", json!({"confirmResize": null}), 204).await;
    ground.is(&id, "SHUTOFF").await;
    let told = ground.act(&id, "2.1", resize("thin"), 400).await;
    assert!(told["badRequest"]["message"].as_str().unwrap().contains("Unable to resize disk down"), "{told}");
    assert_eq!(hardware(&ground.h1, &id).0, 1024);
}

#[tokio::test]
async fn a_resize_for_which_its_host_has_no_room_moves() {
    let ground = Ground::new().await;
    flavor(&ground, "large", 2048, 1, 0).await;
    let empty_mb = used_mb(&ground, "h2").await;
    let id = ground.server("s1").await;
    memory(&ground, 2048).await;
    ground.act(&id, "2.1", resize("large"), 202).await;
    let shown = ground.is(&id, "RESIZE").await;
    assert_eq!(shown["OS-EXT-STS:task_state"], "resize_migrating");
    carried(&ground, &ground.h1, &ground.h2, PowerState::Running).await;
    let shown = ground.is(&id, "VERIFY_RESIZE").await;
    assert_eq!((&shown["OS-EXT-SRV-ATTR:host"], &shown["flavor"]["ram"]), (&json!("h2"), &json!(2048)));
    assert_eq!(hardware(&ground.h2, &id).0, 2048);
    assert_eq!(used_mb(&ground, "h2").await - empty_mb, 2048);

    // It runs with its larger RAM until it is there.
    let told = ground.act(&id, "2.1", json!({"revertResize": null}), 400).await;
    assert!(told["badRequest"]["message"].as_str().unwrap().contains("1536 MiB of RAM free"), "{told}");
    ground.is(&id, "VERIFY_RESIZE").await;
    memory(&ground, 4096).await;
    ground.act(&id, "2.1", json!({"revertResize": null}), 202).await;
    ground.is(&id, "REVERT_RESIZE").await;
    carried(&ground, &ground.h2, &ground.h1, PowerState::Running).await;
    let shown = ground.is(&id, "ACTIVE").await;
    assert_eq!((&shown["OS-EXT-SRV-ATTR:host"], &shown["flavor"]["ram"]), (&json!("h1"), &json!(512)));
    assert_eq!(hardware(&ground.h1, &id), (512, vec![("root".to_owned(), GIB >> 20)]));
    assert_eq!(statuses(&ground, "resize").await, ["reverted", "reverted"]);
}

#[tokio::test]
async fn a_server_that_is_off_is_migrated_cold() {
    let ground = Ground::new().await;
    let id = ground.server("s1").await;
    ground.act(&id, "2.1", json!({"os-stop": null}), 202).await;
    ground.is(&id, "SHUTOFF").await;
    ground.act(&id, "2.56", json!({"migrate": {"host": "h9"}}), 400).await;
    ground.act(&id, "2.56", json!({"migrate": {"host": "h1"}}), 400).await;
    ground.act(&id, "2.56", json!({"migrate": {"host": "h2"}}), 202).await;
    ground.is(&id, "RESIZE").await;
    assert_eq!(statuses(&ground, "migration").await.len(), 1);
    carried(&ground, &ground.h1, &ground.h2, PowerState::Stopped).await;
    let shown = ground.is(&id, "VERIFY_RESIZE").await;
    assert_eq!(shown["OS-EXT-SRV-ATTR:host"], "h2");
    assert_eq!(statuses(&ground, "migration").await, ["finished"]);
    ground.act(&id, "2.1", json!({"confirmResize": null}), 204).await;
    ground.is(&id, "SHUTOFF").await;
    assert_eq!(ground.h2.told().guests.values().next().unwrap().power, PowerState::Stopped);

    // A move that is refused on its way leaves the server as it was.
    ground.act(&id, "2.1", json!({"migrate": null}), 202).await;
    let ask = until("the source to be asked", async || ground.h2.told().sends.first().cloned()).await;
    ground.cloud.place.client.cancel_migration(ask.migration).await.unwrap();
    let shown = ground.is(&id, "SHUTOFF").await;
    assert_eq!(shown["OS-EXT-SRV-ATTR:host"], "h2");
    assert_eq!(statuses(&ground, "migration").await, ["error", "confirmed"]);
}
