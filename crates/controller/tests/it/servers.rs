//! Servers: brought to their host, stopped, started, deleted, and believed where they are.

use whimbrel_api::native::ServerStatus;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::Epoch,
    instance::PowerState,
};

use crate::{
    fake_agent::Guest,
    place::{Place, name, until},
};

#[tokio::test]
async fn a_server_lives_from_create_to_delete() {
    let (place, h1, h2, server) = Place::with_server().await;
    assert_eq!(server.host, Some(name("h1")));
    assert_eq!(server.epoch, Epoch::FIRST);
    assert_eq!(server.spec.machine, "pc-q35-7.2");
    let disks: Vec<_> = server.spec.disks.iter().map(|disk| (disk.name.as_str(), disk.virtual_bytes >> 20)).collect();
    assert_eq!(disks, [("root", 1024), ("ephemeral0", 1024), ("swap", 64)]);
    assert!(server.spec.nics[0].mac.starts_with("52:54:00:"));
    place.client.stop_server("s1").await.unwrap();
    place.server_is("s1", ServerStatus::Stopped).await;
    assert_eq!(h1.told().guests[&server.id].power, PowerState::Stopped);
    place.client.start_server("s1").await.unwrap();
    place.server_is("s1", ServerStatus::Active).await;
    place.client.delete_server("s1").await.unwrap();
    until("the server to be gone", async || place.client.server("s1").await.err()).await;
    assert!(h1.told().guests.is_empty() && h2.told().guests.is_empty());
}

#[tokio::test]
async fn the_scheduler_fills_hosts_and_says_when_they_are_full() {
    let place = Place::new().await;
    let (_h1, _h2) = tokio::join!(place.host("h1"), place.host("h2"));
    place.image("debian", &[0; 4096]).await.unwrap();
    place.flavor("half", 1700, 1).await;
    // Each host has 3584 MiB to give: two fit on each, whatever the agents have reported meanwhile.
    for server in ["a", "b", "c", "d"] {
        place.server(server, "half", None).await.unwrap();
    }
    let refused = place.server("e", "half", None).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::NoRam, "{refused}");
    for host in ["h1", "h2"] {
        assert_eq!(place.client.host(host).await.unwrap().servers, 2);
    }
    for server in ["a", "b", "c", "d"] {
        place.server_is(server, ServerStatus::Active).await;
    }
}

#[tokio::test]
async fn a_host_that_refuses_is_told_by_the_server() {
    let (place, h1, _h2, _) = Place::with_server().await;
    let broken = Failure::new(FailureCode::QemuFailed, "QEMU did not start: no such bridge").hint("make the bridge");
    h1.told().refuse_instances = Some(broken.clone());
    place.server("s2", "small", Some("h1")).await.unwrap();
    let failed = place.server_is("s2", ServerStatus::Error).await;
    assert_eq!(failed.failure, Some(broken));
    h1.told().refuse_instances = None;
    place.client.start_server("s2").await.unwrap();
    let started = place.server_is("s2", ServerStatus::Active).await;
    assert_eq!(started.failure, None);
}

#[tokio::test]
async fn an_owner_at_a_higher_epoch_is_believed_and_a_lower_one_is_not() {
    let (place, h1, h2, server) = Place::with_server().await;
    let at = |epoch| Guest { spec: server.spec.clone(), epoch, power: PowerState::Running };
    h2.told().guests.insert(server.id, at(Epoch(5)));
    until("h2 to be believed", async || {
        place.client.server("s1").await.ok().filter(|server| server.host == Some(name("h2")))
    })
    .await;
    let believed = place.client.server("s1").await.unwrap();
    assert_eq!(believed.epoch, Epoch(5));
    // h1 goes on saying that it owns epoch 1.
    assert_eq!(h1.told().guests[&server.id].epoch, Epoch::FIRST);
    let seen_us = place.client.host("h1").await.unwrap().last_seen_us;
    until("h1 to be heard again", async || {
        place.client.host("h1").await.ok().filter(|host| host.last_seen_us > seen_us)
    })
    .await;
    assert_eq!(place.client.server("s1").await.unwrap(), place.client.server("s1").await.unwrap());
    assert_eq!(place.client.server("s1").await.unwrap().host, Some(name("h2")));
}
