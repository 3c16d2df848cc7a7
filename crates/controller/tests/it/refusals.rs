//! Bad input: each refusal names its object and numbers, has a code, and says what to do.

use std::sync::Arc;

use whimbrel_api::{
    agent::MoveOptions,
    native::{HostState, NewFlavor, NewMigration, NewServer, ServerStatus},
};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{fake_agent::FakeAgent, place::Place};

fn to(host: &str) -> NewMigration {
    NewMigration { host: Some(host.to_owned()), options: MoveOptions::default() }
}

#[track_caller]
fn check<T: std::fmt::Debug>(answer: Result<T, Failure>, code: FailureCode, parts: &[&str]) {
    let failure = answer.expect_err("it was taken");
    assert_eq!(failure.code, code, "{failure}");
    for part in parts {
        assert!(failure.detail.contains(part), "'{}' lacks '{part}'", failure.detail);
    }
    assert!(failure.hint.is_some(), "{failure} has no hint");
}

#[tokio::test]
async fn unknown_names_are_told_with_the_known() {
    let (place, _h1, _h2, _) = Place::with_server().await;
    let client = &place.client;
    let no = FailureCode::NotFound;
    check(client.host("h9").await, no, &["no host 'h9'", "hosts are h1, h2"]);
    check(client.host("H 9").await, no, &["no host 'H 9'"]);
    check(client.server("s9").await, no, &["no server 's9'", "servers are s1"]);
    check(client.flavor("huge").await, no, &["no flavor 'huge'", "flavors are small"]);
    check(client.image("bsd").await, no, &["no image 'bsd'", "images are debian"]);
    check(client.migrate("s9", &to("h2")).await, no, &["no server 's9'"]);
    check(client.migrate("s1", &to("h9")).await, no, &["no host 'h9'", "hosts are h1, h2"]);
    check(client.plan("s1", &to("h9")).await, no, &["no host 'h9'"]);
    check(place.server("s2", "huge", None).await, no, &["no flavor 'huge'"]);
    check(place.server("s2", "small", Some("h9")).await, no, &["no host 'h9'"]);
    let new = NewServer { image: "bsd".to_owned(), ..ask("small") };
    check(client.create_server(&new).await, no, &["no image 'bsd'"]);
    let id = whimbrel_core::id::MigrationId(uuid::Uuid::now_v7());
    check(client.migration(id).await, no, &["no migration"]);
    check(client.cancel_migration(id).await, no, &["no migration"]);
    assert!(client.migrations().await.unwrap().is_empty());
}

fn ask(flavor: &str) -> NewServer {
    NewServer {
        name: "s2".to_owned(),
        flavor: flavor.to_owned(),
        image: "debian".to_owned(),
        host: None,
        networks: Vec::new(),
        os_command_line: None,
        iothreads: false,
        machine: None,
        config_drive: false,
        user_data: None,
    }
}

#[tokio::test]
async fn what_a_host_cannot_hold_is_refused_with_numbers() {
    let (place, h1, h2, _) = Place::with_server().await;
    place.flavor("big", 8192, 1).await;
    place.flavor("wide", 64, 1000).await;
    check(place.server("s2", "big", None).await, FailureCode::NoRam, &["needs 8192 MiB", "'h1'", "'h2'"]);
    check(place.server("s2", "wide", Some("h2")).await, FailureCode::NoDisk, &["'h2'", "needs 1025089 MiB"]);
    let all = place.client.servers().await.unwrap();
    assert_eq!(all.len(), 1, "a refused server was made: {all:?}");

    let shrink = |agent: &Arc<FakeAgent>, memory_mb: u64, disk_free_bytes: u64| {
        let mut told = agent.told();
        let facts = told.facts.as_mut().unwrap();
        (facts.memory_mb, facts.disk_free_bytes) = (memory_mb, disk_free_bytes);
    };
    shrink(&h2, 700, 1 << 30);
    seen(&place, "h2", |facts| facts.memory_mb == 700).await;
    let refused = place.client.migrate("s1", &to("h2")).await;
    check(refused, FailureCode::NoRam, &["188 MiB of RAM free", "needs 512 MiB", "1024 MiB of disk", "needs 2113 MiB"]);
    let plan = place.client.plan("s1", &to("h2")).await.unwrap();
    let codes: Vec<_> = plan.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [FailureCode::NoRam, FailureCode::NoDisk]);
    check(place.client.migrate("s1", &NewMigration::default()).await, FailureCode::NoHost, &["188 MiB of RAM free"]);
    assert!(h1.told().sends.is_empty() && h2.told().receives.is_empty(), "an agent was asked although it was refused");
    let h2_after = place.client.host("h2").await.unwrap();
    assert_eq!(h2_after.servers, 0);
}

async fn seen(place: &Place, host: &str, look: impl Fn(&whimbrel_core::host::HostFacts) -> bool) {
    crate::place::until("facts to be seen", async || {
        place.client.host(host).await.ok().filter(|host| look(&host.facts))
    })
    .await;
}

#[tokio::test]
async fn a_move_that_makes_no_sense_is_refused() {
    let (place, h1, h2, _) = Place::with_server().await;
    let client = &place.client;
    check(client.migrate("s1", &to("h1")).await, FailureCode::SameHost, &["'s1'", "on host 'h1' already"]);
    let streams =
        |streams: u16| NewMigration { host: None, options: MoveOptions { streams, ..MoveOptions::default() } };
    for wrong in [0, 33] {
        check(client.migrate("s1", &streams(wrong)).await, FailureCode::BadRequest, &["streams"]);
    }
    h2.stop();
    place.host_is("h2", HostState::Down).await;
    check(client.migrate("s1", &to("h2")).await, FailureCode::HostDown, &["host 'h2' is down"]);
    check(client.migrate("s1", &NewMigration::default()).await, FailureCode::NoHost, &["host 'h2' is down"]);
    h1.stop();
    place.host_is("h1", HostState::Down).await;
    place.server_is("s1", ServerStatus::Unknown).await;
    check(client.migrate("s1", &to("h2")).await, FailureCode::HostDown, &["host 'h1' is down"]);
    check(place.server("s2", "small", None).await, FailureCode::NoHost, &["no host is up"]);
}

#[tokio::test]
async fn an_image_file_that_is_no_disk_is_refused() {
    let place = Place::new().await;
    let check_image = async |image: &str, content: &[u8], parts: &[&str]| {
        check(place.image(image, content).await, FailureCode::BadImage, parts);
        assert!(place.client.image(image).await.unwrap().disk.is_none());
    };
    check_image("text", b"<html>not found</html>", &["text", "neither qcow2 nor raw"]).await;
    check_image("vmdk", &[b"KDMV".as_slice(), &[0; 508]].concat(), &["VMDK"]).await;
    check_image("empty", b"", &["empty"]).await;
    check_image("odd", &[0; 1000], &["1000 bytes"]).await;
    check_image("qcow2", &[b"QFI\xfb".as_slice(), &[0; 508]].concat(), &["qcow version 0"]).await;
    place.flavor("small", 512, 1).await;
    let _h1 = place.host("h1").await;
    let new = NewServer { image: "empty".to_owned(), ..ask("small") };
    check(place.client.create_server(&new).await, FailureCode::BadImage, &["no disk content"]);
}

#[tokio::test]
async fn wrong_sizes_and_names_are_refused() {
    let place = Place::new().await;
    let good = NewFlavor {
        name: "f".to_owned(),
        flavorid: None,
        vcpus: 1,
        ram_mb: 64,
        disk_gb: 0,
        ephemeral_gb: 0,
        swap_mb: 0,
    };
    let bad = FailureCode::BadRequest;
    let client = &place.client;
    check(client.create_flavor(&NewFlavor { vcpus: 0, ..good.clone() }).await, bad, &["vcpus of 0"]);
    check(client.create_flavor(&NewFlavor { ram_mb: 1, ..good.clone() }).await, bad, &["ram_mb of 1"]);
    check(client.create_flavor(&NewFlavor { disk_gb: u64::MAX >> 1, ..good.clone() }).await, bad, &["disk_gb"]);
    check(client.create_flavor(&NewFlavor { name: " f".to_owned(), ..good.clone() }).await, bad, &["flavor name"]);
    check(client.create_flavor(&NewFlavor { name: "a\nb".to_owned(), ..good.clone() }).await, bad, &["flavor name"]);
    client.create_flavor(&good).await.unwrap();
    check(client.create_flavor(&good).await, FailureCode::Conflict, &["flavor 'f' exists already"]);
    assert_eq!(client.flavors().await.unwrap().len(), 1);
}
