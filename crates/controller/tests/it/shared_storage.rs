//! Moves between hosts that see the same storage: what `block_migration` means of them, and what the agents are asked.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use whimbrel_api::{
    agent::Verification,
    native::{MigrationStatus, NewMigration},
};
use whimbrel_core::{
    disk::{CopyMode, Storage},
    id::{Epoch, HostName, StorageId},
};

use crate::{
    cloud::Cloud,
    fake_agent::FakeAgent,
    moves::receipt,
    place::{name, until},
};

/// h1 and h2 see one storage, h3 another; `s1` runs on h1.
struct Ground {
    cloud: Cloud,
    admin: String,
    server: String,
    h1: Arc<FakeAgent>,
    h2: Arc<FakeAgent>,
}

impl Ground {
    async fn new() -> Self {
        let cloud = Cloud::new().await;
        let on = |host, storage: u128| {
            cloud.place.host_that(host, move |told| {
                told.facts.as_mut().unwrap().storage = Some(StorageId(Uuid::from_u128(storage)));
            })
        };
        let (h1, h2, _) = tokio::join!(on("h1", 1), on("h2", 1), on("h3", 3));
        cloud.place.image("debian", &[0; 4096]).await.unwrap();
        cloud.place.flavor("small", 512, 1).await;
        cloud.place.server("s1", "small", Some("h1")).await.unwrap();
        let server = cloud.place.server_is("s1", whimbrel_api::native::ServerStatus::Active).await.id.to_string();
        let admin = cloud.admin().await;
        let ground = Ground { cloud, admin, server, h1, h2 };
        for (host, mode) in [("h2", CopyMode::Shared), ("h3", CopyMode::Full)] {
            let known = async || (ground.plan(Some(host)).await.mode == mode).then_some(());
            until(&format!("the storage of {host} to be known"), known).await;
        }
        ground
    }

    async fn plan(&self, host: Option<&str>) -> whimbrel_api::native::Plan {
        let new = NewMigration { host: host.map(str::to_owned), ..NewMigration::default() };
        self.cloud.place.client.plan("s1", &new).await.unwrap()
    }

    async fn live(&self, at: &str, host: Option<&str>, block_migration: Value, want: u16) -> Value {
        let mut wish = json!({"host": host, "block_migration": block_migration});
        if at == "2.1" {
            wish["disk_over_commit"] = json!(false);
        }
        let path = format!("/servers/{}/action", self.server);
        let body = Some(json!({ "os-migrateLive": wish }));
        let reply = self.cloud.compute(Method::POST, &path, &self.admin, at, body).await;
        assert_eq!(reply.status, want, "{wish} at {at}: {}", reply.body);
        reply.body
    }

    async fn refused(&self, at: &str, host: Option<&str>, block_migration: Value, why: &str) {
        let told = self.live(at, host, block_migration, 400).await;
        assert_eq!(told["badRequest"]["message"], why, "{host:?} at {at}");
    }
}

const NOT_LOCAL: &str = "h1 is not on local storage: Block migration can not be used with shared storage.";
const NOT_SHARED: &str = "h1 is not on shared storage: Shared storage live-migration requires either shared storage or \
                          boot-from-volume with no local disks.";

#[tokio::test]
async fn what_block_migration_asks_for_must_be_so() {
    let ground = Ground::new().await;
    for (at, no, yes) in [("2.1", json!("False"), json!("True")), ("2.25", json!(false), json!(true))] {
        ground.refused(at, Some("h2"), yes, NOT_LOCAL).await;
        ground.refused(at, Some("h3"), no, NOT_SHARED).await;
    }
    let path = format!("/servers/{}/os-instance-actions", ground.server);
    // From 2.34 the server's actions tell it.
    ground.live("2.34", Some("h2"), json!(true), 202).await;
    let actions = ground.cloud.compute(Method::GET, &path, &ground.admin, "2.96", None).await.body;
    let request = actions["instanceActions"][0]["request_id"].as_str().unwrap().to_owned();
    let shown = ground.cloud.compute(Method::GET, &format!("{path}/{request}"), &ground.admin, "2.84", None).await.body;
    assert_eq!(shown["instanceAction"]["events"][0]["details"], NOT_LOCAL, "{shown}");
    assert!(ground.h1.told().sends.is_empty() && ground.h2.told().receives.is_empty(), "a refusal touched a host");

    // With none named, the one that fits is chosen.
    ground.live("2.30", None, json!(false), 202).await;
    let send = until("the source to be asked", async || ground.h1.told().sends.first().cloned()).await;
    assert_eq!((send.target, send.storage), (name("h2"), Storage::Shared));
}

#[tokio::test]
async fn a_copy_goes_where_the_disks_are_not_seen() {
    let ground = Ground::new().await;
    ground.live("2.30", None, json!(true), 202).await;
    let send = until("the source to be asked", async || ground.h1.told().sends.first().cloned()).await;
    assert_eq!((send.target, send.storage, send.options.verify), (name("h3"), Storage::Local, true));
}

#[tokio::test]
async fn auto_leaves_the_disks_where_both_hosts_see_them() {
    let ground = Ground::new().await;
    // Nothing but RAM is counted: h2 has no byte of disk left.
    ground.h2.told().facts.as_mut().unwrap().disk_free_bytes = 0;
    let full = async || {
        let host = ground.cloud.place.client.host("h2").await.ok()?;
        (host.facts.disk_free_bytes == 0).then_some(())
    };
    until("h2 to be full", full).await;
    let plan = ground.plan(None).await;
    assert_eq!(
        (plan.target, plan.mode, plan.disk_bytes),
        (Some(name("h2")), CopyMode::Shared, 0),
        "{:?}",
        plan.reasons
    );
    assert!(plan.steps.iter().any(|step| step.contains("h1 and h2 see the same storage")), "{:?}", plan.steps);
    assert!(!plan.steps.iter().any(|step| step.contains("compare") || step.contains("a cheap way back")));

    ground.live("2.25", Some("h2"), json!("auto"), 202).await;
    let send = until("the source to be asked", async || ground.h1.told().sends.first().cloned()).await;
    let receive = ground.h2.told().receives[0].clone();
    assert_eq!((send.storage, receive.storage), (Storage::Shared, Storage::Shared));
    assert!(!send.options.verify, "there is nothing to compare");
    ended_at(&ground, "h2").await;
}

/// The move completes without a comparison, and the disks count on the new host.
async fn ended_at(ground: &Ground, host: &str) {
    let client = &ground.cloud.place.client;
    let migration = client.migrations().await.unwrap().remove(0);
    ground.h2.owns(migration.id);
    let mut told = receipt(&migration, false);
    told.mode = CopyMode::Shared;
    ground.h1.handed_over(migration.id, told, Verification::None);
    ground.h1.told().retained.clear();
    let ended = until("the move to be completed", async || {
        client.migration(migration.id).await.ok().filter(|migration| migration.status == MigrationStatus::Completed)
    });
    assert_eq!(ended.await.receipt.unwrap().mode, CopyMode::Shared);
    let shown: HostName = client.server("s1").await.unwrap().host.unwrap();
    assert_eq!((shown, ground.h1.told().sends[0].epoch), (name(host), Epoch(2)));
    let uses = ground.cloud.compute(Method::GET, "/os-hypervisors/detail", &ground.admin, "2.1", None).await.body;
    let of = |host: &str| {
        let all = uses["hypervisors"].as_array().unwrap();
        all.iter().find(|one| one["hypervisor_hostname"] == host).unwrap()["local_gb_used"].as_u64().unwrap()
    };
    assert!(of("h2") >= 2 && of("h1") == 0, "{uses}");
}
