//! Moves, driven through their ends by agents that say what the test wants.

use std::collections::BTreeMap;

use whimbrel_api::{
    agent::{Relay, Verification},
    native::{HostState, Migration, MigrationStatus, NewMigration, ServerStatus},
};
use whimbrel_core::{
    disk::CopyMode,
    failure::{Failure, FailureCode},
    id::{Epoch, MigrationId},
    migration::{
        message::{Report, ToSource, ToTarget},
        source, target,
    },
    receipt::{CpuSeconds, DiskReceipt, RamReceipt, Receipt},
};

use crate::{
    fake_agent::FakeAgent,
    place::{Place, name, until},
};

fn to(host: &str) -> NewMigration {
    NewMigration { host: Some(host.to_owned()), ..NewMigration::default() }
}

pub fn receipt(migration: &Migration, verified: bool) -> Receipt {
    let disk = DiskReceipt {
        name: "root".parse().unwrap(),
        virtual_bytes: 1 << 30,
        allocated_bytes: 1 << 20,
        sent_bytes: 1 << 20,
        zero_bytes: 0,
        reused_bytes: 0,
        verified,
        digest: String::new(),
    };
    Receipt {
        migration_id: migration.id,
        server: migration.server,
        source: migration.source.clone(),
        target: migration.target.clone(),
        epoch: migration.epoch,
        mode: CopyMode::Full,
        total_ms: 1234,
        downtime_ms: 56.7,
        phases_ms: BTreeMap::new(),
        disks: vec![disk],
        ram: RamReceipt::default(),
        wire_bytes: 1 << 20,
        cpu_seconds: CpuSeconds::default(),
        guest_write_ratio: None,
    }
}

async fn is(place: &Place, id: MigrationId, status: MigrationStatus) -> Migration {
    until(&format!("migration to be {status:?}"), async || {
        let migration = place.client.migration(id).await.ok()?;
        assert!(migration.status == status || !migration.status.is_end(), "it ended otherwise: {migration:?}");
        Some(migration).filter(|migration| migration.status == status)
    })
    .await
}

#[tokio::test]
async fn a_move_completes_is_verified_and_frees_the_source() {
    let (place, h1, h2, server) = Place::with_server().await;
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    assert_eq!((begun.source.clone(), begun.target.clone(), begun.epoch), (name("h1"), name("h2"), Epoch(2)));
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    is(&place, begun.id, MigrationStatus::Running).await;
    {
        let (source, target) = (h1.told(), h2.told());
        let (send, receive) = (&source.sends[0], &target.receives[0]);
        assert_eq!(send.credential, receive.credential);
        assert_eq!(send.credential.len(), 64);
        assert_eq!(send.target_address, target.facts.as_ref().unwrap().migration_address);
        assert_eq!((receive.epoch, receive.spec.clone()), (Epoch(2), server.spec.clone()));
    }
    assert_eq!(place.client.server("s1").await.unwrap().status, ServerStatus::Migrating);
    let twice = place.client.migrate("s1", &to("h2")).await.unwrap_err();
    assert_eq!(twice.code, FailureCode::Conflict, "{twice}");
    let stop = place.client.stop_server("s1").await.unwrap_err();
    assert_eq!(stop.code, FailureCode::Conflict, "{stop}");

    h1.source_is(begun.id, source::Phase::Committed);
    until("COMMIT to be carried to the target", async || {
        h2.told().relays.contains(&Relay::ToTarget(ToTarget::Commit)).then_some(())
    })
    .await;
    h2.owns(begun.id);
    until("RUNNING to be carried to the source", async || {
        h1.told().relays.contains(&Relay::ToSource(ToSource::Running)).then_some(())
    })
    .await;
    h1.handed_over(begun.id, receipt(&begun, false), Verification::Running);
    let verifying = is(&place, begun.id, MigrationStatus::Verifying).await;
    assert_eq!(verifying.receipt.as_ref().map(|receipt| receipt.total_ms), Some(1234));
    assert_eq!(verifying.guest_at, Some(name("h2")));
    let moved = place.server_is("s1", ServerStatus::Active).await;
    assert_eq!((moved.host, moved.epoch), (Some(name("h2")), Epoch(2)));

    h1.told().migrations.get_mut(&begun.id).unwrap().verification = Verification::Equal;
    h1.told().migrations.get_mut(&begun.id).unwrap().receipt = Some(receipt(&begun, true));
    let done = is(&place, begun.id, MigrationStatus::Completed).await;
    assert_eq!(done.verification, Verification::Equal);
    assert!(done.receipt.unwrap().disks[0].verified);
    assert!(done.failure.is_none() && done.finished_us.is_some());
    let (h1_now, h2_now) = (place.client.host("h1").await.unwrap(), place.client.host("h2").await.unwrap());
    assert_eq!((h1_now.servers, h2_now.servers), (0, 1));
    let late = place.client.cancel_migration(begun.id).await.unwrap_err();
    assert_eq!(late.code, FailureCode::Conflict);
}

#[tokio::test]
async fn a_later_move_ends_the_verification_of_the_one_before() {
    let (mut place, h1, h2, _) = Place::with_server().await;
    let there = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    h2.owns(there.id);
    h1.handed_over(there.id, receipt(&there, false), Verification::Running);
    is(&place, there.id, MigrationStatus::Verifying).await;
    let back = place.client.migrate("s1", &to("h1")).await.unwrap();
    let ended = is(&place, there.id, MigrationStatus::Completed).await;
    assert_eq!((ended.verification, ended.failure), (Verification::Superseded, None));
    assert!(ended.step.contains("later move") && ended.receipt.is_some());
    // And not because the source says so: it is not asked again.
    place.stop().await;
    place.start_again().await;
    is(&place, back.id, MigrationStatus::Running).await;
    assert_eq!(is(&place, there.id, MigrationStatus::Completed).await.verification, Verification::Superseded);
}

#[tokio::test]
async fn a_way_back_is_planned_by_what_is_there() {
    let (place, h1, h2, _) = Place::with_server().await;
    let there = place.client.plan("s1", &NewMigration::default()).await.unwrap();
    assert_eq!((there.target, there.mode), (Some(name("h2")), CopyMode::Full));
    assert!(there.reasons.is_empty() && there.time_ms.0 <= there.time_ms.1 && there.steps.len() > 4);
    assert!(h2.told().receives.is_empty(), "a plan touched a host");
    let begun = place.client.migrate("s1", &NewMigration::default()).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    h2.owns(begun.id);
    h1.handed_over(begun.id, receipt(&begun, true), Verification::Equal);
    is(&place, begun.id, MigrationStatus::Completed).await;
    let check = async |changed_since: Option<u64>, mode: CopyMode, disk_bytes: u64| {
        h2.told().changed_since = changed_since.map(Epoch);
        let back = place.client.plan("s1", &to("h1")).await.unwrap();
        assert_eq!((back.mode, back.disk_bytes), (mode, disk_bytes), "{changed_since:?}: {:?}", back.reasons);
    };
    // Three disks: 64 KiB changed on each, or 1 MiB allocated on each and 4 KiB of base image that h1 has not.
    check(Some(2), CopyMode::Delta, 3 << 16).await;
    check(None, CopyMode::Digest, (3 << 20) + 4096).await;
    check(Some(1), CopyMode::Digest, (3 << 20) + 4096).await;
}

#[tokio::test]
async fn a_cancel_leaves_the_guest_where_it_is() {
    let (place, h1, h2, _) = Place::with_server().await;
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    place.client.cancel_migration(begun.id).await.unwrap();
    let done = is(&place, begun.id, MigrationStatus::Cancelled).await;
    assert_eq!(done.guest_at, Some(name("h1")));
    assert!(done.cleaned_up.is_some_and(|text| text.contains("h2")));
    assert!(h2.told().give_ups.iter().all(|give_up| give_up.failure.code == FailureCode::Cancelled));
    let server = place.server_is("s1", ServerStatus::Active).await;
    assert_eq!((server.host, server.epoch), (Some(name("h1")), Epoch(1)));
    // A retry works, and the room that the first one claimed is free again.
    let again = place.client.migrate("s1", &to("h2")).await.unwrap();
    assert_ne!(again.id, begun.id);
    until("the source to be asked again", async || (h1.told().sends.last()?.migration == again.id).then_some(())).await;
}

#[tokio::test]
async fn a_target_that_refuses_ends_the_move_with_its_reason() {
    let (place, h1, h2, _) = Place::with_server().await;
    let full = Failure::new(FailureCode::NoDisk, "host 'h2' has no room after all").hint("free some");
    h2.told().refuse_receive = Some(full.clone());
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    let failed = is(&place, begun.id, MigrationStatus::Failed).await;
    assert_eq!(failed.failure, Some(full));
    assert_eq!(failed.guest_at, Some(name("h1")));
    assert!(h1.told().sends.is_empty(), "the source was asked although the target had refused");
    h2.told().refuse_receive = None;

    // Refused later on, by its own fault: the source gives up too.
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    let died = Failure::new(FailureCode::QemuFailed, "the target's QEMU died");
    h2.target_is(begun.id, target::Phase::Refused { failure: died.clone() });
    let failed = is(&place, begun.id, MigrationStatus::Failed).await;
    assert_eq!(failed.failure, Some(died.clone()));
    assert!(h1.told().relays.contains(&Relay::ToSource(ToSource::Refused { failure: died })));
    place.server_is("s1", ServerStatus::Active).await;
}

#[tokio::test]
async fn a_difference_found_afterwards_is_loud() {
    let (place, h1, h2, _) = Place::with_server().await;
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    h2.owns(begun.id);
    h1.handed_over(begun.id, receipt(&begun, false), Verification::Different);
    let done = is(&place, begun.id, MigrationStatus::Completed).await;
    assert_eq!(done.verification, Verification::Different);
    let failure = done.failure.unwrap();
    assert_eq!(failure.code, FailureCode::Corrupt);
    assert!(failure.detail.contains("root") && failure.detail.contains("h1") && failure.hint.is_some(), "{failure}");
}

#[tokio::test]
async fn a_move_goes_on_after_the_controller_died_in_the_middle() {
    let (mut place, h1, h2, _) = Place::with_server().await;
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    is(&place, begun.id, MigrationStatus::Running).await;
    place.stop().await;
    // The agents go on by themselves.
    h2.owns(begun.id);
    h1.handed_over(begun.id, receipt(&begun, false), Verification::Running);
    place.start_again().await;
    is(&place, begun.id, MigrationStatus::Verifying).await;
    place.stop().await;
    h1.told().migrations.get_mut(&begun.id).unwrap().verification = Verification::Equal;
    place.start_again().await;
    let done = is(&place, begun.id, MigrationStatus::Completed).await;
    assert_eq!((done.verification, done.guest_at), (Verification::Equal, Some(name("h2"))));
    assert_eq!(place.client.server("s1").await.unwrap().host, Some(name("h2")));
}

/// The move of `s1` to h2 is under way when h2 is lost; the source notices by its link and takes its guest on.
async fn lose_the_target(place: &Place, h1: &FakeAgent, h2: &FakeAgent) -> (MigrationId, Failure) {
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    h2.stop();
    let lost = Failure::new(FailureCode::PeerLost, "the link to 'h2' broke").hint("try again");
    h1.source_is(begun.id, source::Phase::Aborted { failure: lost.clone() });
    (begun.id, lost)
}

/// What a target that is back says once it has cleaned up.
async fn is_clean(place: &Place, h2: &FakeAgent, id: MigrationId) {
    let clean = until("h2 to have cleaned up", async || {
        place.client.migration(id).await.ok().filter(|migration| migration.left_behind.is_none())
    })
    .await;
    assert_eq!(clean.status, MigrationStatus::Failed);
    assert!(clean.cleaned_up.is_some_and(|text| text.contains("'h2' holds nothing")));
    assert!(
        h2.told().migrations[&id].state == Report::Target(target::Phase::Refused { failure: clean.failure.unwrap() })
    );
}

#[tokio::test]
async fn a_lost_target_does_not_hold_the_server_and_cleans_up_when_it_is_back() {
    let (mut place, h1, h2, _) = Place::with_server().await;
    let h3 = place.host("h3").await;
    let (id, lost) = lose_the_target(&place, &h1, &h2).await;
    let failed = is(&place, id, MigrationStatus::Failed).await;
    assert_eq!((failed.failure, failed.guest_at), (Some(lost), Some(name("h1"))));
    assert!(failed.finished_us.is_some());
    assert!(failed.cleaned_up.is_some_and(|text| text.contains("'h1'") && !text.contains("h2")));
    assert!(failed.left_behind.is_some_and(|text| text.contains("'h2'")));
    let late = place.client.cancel_migration(id).await.unwrap_err();
    assert!(late.detail.contains("it is over"), "{late}");

    // The server is free, and another host takes it.
    place.server_is("s1", ServerStatus::Active).await;
    place.host_is("h2", HostState::Down).await;
    let down = place.client.migrate("s1", &to("h2")).await.unwrap_err();
    assert_eq!(down.code, FailureCode::HostDown, "{down}");
    let again = place.client.migrate("s1", &to("h3")).await.unwrap();
    until("the source to be asked again", async || (h1.told().sends.last()?.migration == again.id).then_some(())).await;

    // The debt is not forgotten, and when it is settled the later move is not touched.
    place.stop().await;
    place.start_again().await;
    let h2 = place.host("h2").await;
    is_clean(&place, &h2, id).await;
    is(&place, again.id, MigrationStatus::Running).await;
    h3.owns(again.id);
    h1.handed_over(again.id, receipt(&again, true), Verification::Equal);
    is(&place, again.id, MigrationStatus::Completed).await;
    assert_eq!(place.server_is("s1", ServerStatus::Active).await.host, Some(name("h3")));
}

#[tokio::test]
async fn a_host_that_is_back_takes_the_server_once_it_is_clean() {
    let (place, h1, h2, _) = Place::with_server().await;
    let (id, _) = lose_the_target(&place, &h1, &h2).await;
    is(&place, id, MigrationStatus::Failed).await;
    let stuck = Failure::new(FailureCode::QemuFailed, "QEMU does not die");
    let h2 = place.host_that("h2", |told| told.refuse_discard = Some(stuck)).await;
    let refused = place.client.migrate("s1", &to("h2")).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Conflict, "{refused}");
    assert!(refused.detail.contains(&id.to_string()) && refused.hint.is_some(), "{refused}");
    h2.told().refuse_discard = None;
    let again = place.client.migrate("s1", &to("h2")).await.unwrap();
    is_clean(&place, &h2, id).await;
    until("the source to be asked again", async || (h1.told().sends.last()?.migration == again.id).then_some(())).await;
}

#[tokio::test]
async fn a_cancel_ends_though_the_target_is_lost() {
    let (place, h1, h2, _) = Place::with_server().await;
    let begun = place.client.migrate("s1", &to("h2")).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    h2.stop();
    place.client.cancel_migration(begun.id).await.unwrap();
    let done = is(&place, begun.id, MigrationStatus::Cancelled).await;
    assert_eq!((done.failure, done.guest_at), (None, Some(name("h1"))));
    assert!(done.left_behind.is_some_and(|text| text.contains("'h2'")));
    place.server_is("s1", ServerStatus::Active).await;
}
