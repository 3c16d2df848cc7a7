//! Migrations: one at a time, each step once, and an end that settles everything.

use std::collections::BTreeMap;

use whimbrel_core::{
    disk::{CopyMode, Storage},
    failure::{Failure, FailureCode},
    id::{Epoch, HostName},
    migration::coordinator::{Outcome, Phase, Side},
    progress::Progress,
    receipt::{CpuSeconds, RamReceipt, Receipt},
};
use whimbrel_store::{HostLoad, MigrationNews, NewMigration, PageAsk, Room, Store, StoreError, TaskState};

use crate::{
    books::assert_conflict,
    fixture::{Database, NOW_US, ROOM, create_idle, host, instance, migration},
};

async fn load(store: &Store, at: &str) -> HostLoad {
    store.host_load(&host(at)).await.unwrap()
}

fn holds(instances: u32, arriving: u32) -> HostLoad {
    let (all, some) = (u64::from(instances + arriving), u64::from(arriving));
    HostLoad {
        instances,
        ram_mb: all * ROOM.ram_mb,
        disk_bytes: all * ROOM.disk_bytes,
        arriving,
        arriving_ram_mb: some * ROOM.ram_mb,
        arriving_disk_bytes: some * ROOM.disk_bytes,
    }
}

pub async fn one_migration_of_an_instance_at_a_time(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    store.create_instance(&vm, |_| Ok(())).await.unwrap();
    let to_h2 = migration(1, &vm, "h2");
    let create = async |new: &NewMigration| store.create_migration(new, |_| Ok(())).await;
    assert_conflict(create(&to_h2).await, "is building already");
    store.change_task(vm.spec.id, Some(TaskState::Building), None, NOW_US).await.unwrap();
    assert_conflict(create(&NewMigration { epoch: Epoch(3), ..to_h2.clone() }).await, "on host 'h1' at epoch 1");
    assert_conflict(create(&NewMigration { source: host("h3"), ..to_h2.clone() }).await, "not on 'h3'");
    assert!(matches!(create(&migration(1, &vm, "h9")).await, Err(StoreError::NotFound { object: "host", .. })));
    let ghost = instance(7, "ghost", "h1");
    assert!(matches!(create(&migration(1, &ghost, "h2")).await, Err(StoreError::NotFound { object: "server", .. })));
    assert_eq!(load(&store, "h2").await, holds(0, 0), "a refused migration left a claim");

    let to_h3 = NewMigration { storage: Storage::Shared, ..migration(2, &vm, "h3") };
    let both = tokio::join!(create(&to_h2), create(&to_h3));
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|&&done| done).count(), 1, "{both:?}");
    let (made, loser) = if both.0.is_ok() { (to_h2, both.1) } else { (to_h3, both.0) };
    assert_conflict(loser, "is migrating already");
    let unfinished = store.unfinished_migration_of(vm.spec.id).await.unwrap().expect("made");
    assert_eq!(unfinished, store.migration(made.id).await.unwrap());
    assert_eq!((unfinished.phase, unfinished.generation, unfinished.epoch), (Phase::Queued, 0, Epoch(2)));
    assert_eq!((unfinished.instance_name.as_str(), unfinished.credential.as_str()), ("vm", "secret"));
    assert_eq!((unfinished.options, unfinished.storage), (made.options, made.storage));
    assert_eq!(load(&store, made.target.as_str()).await, holds(0, 1));
    assert_conflict(store.delete_instance(vm.spec.id).await, "is migrating: cancel that first");

    // The index holds even where the task was lost.
    store.change_task(vm.spec.id, Some(TaskState::Migrating), None, NOW_US).await.unwrap();
    let other = if made.target == host("h2") { "h3" } else { "h2" };
    assert_conflict(create(&migration(3, &vm, other)).await, "is migrating already");
    assert_eq!(load(&store, other).await, holds(0, 0), "a refused migration left a claim");
    assert!(matches!(store.migration(migration(9, &vm, "h2").id).await, Err(StoreError::NotFound { .. })));
}

pub async fn a_refusal_writes_nothing(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    create_idle(&store, &vm).await;
    store.create_instance(&instance(2, "other", "h2"), |_| Ok(())).await.unwrap();
    let reasons = vec![Failure::new(FailureCode::NoRam, "0 MB"), Failure::new(FailureCode::NoDisk, "0 bytes")];
    let refuse = |seen: &HostLoad| {
        assert_eq!(*seen, holds(1, 0));
        Err(reasons.clone())
    };
    let error = store.create_migration(&migration(1, &vm, "h2"), refuse).await.expect_err("refused");
    assert!(matches!(&error, StoreError::Refused { reasons: said } if *said == reasons), "{error}");
    assert_eq!(error.to_string(), "0 MB; 0 bytes");
    assert_eq!(load(&store, "h2").await, holds(1, 0));
    assert_eq!(store.instance("vm").await.unwrap().task, None);
    assert!(store.list_migrations(None, &PageAsk::default()).await.unwrap().items.is_empty());
}

pub async fn a_step_is_taken_once(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    create_idle(&store, &vm).await;
    let new = migration(1, &vm, "h2");
    store.create_migration(&new, |_| Ok(())).await.unwrap();
    assert_eq!(store.advance_migration(new.id, 0, &Phase::Preparing, NOW_US + 1).await.unwrap(), 1);
    let late = store.advance_migration(new.id, 0, &Phase::Running, NOW_US + 2).await;
    assert_conflict(late, "was at step 0, and is Preparing at step 1 now");
    let running = Phase::Running;
    let both = tokio::join!(
        store.advance_migration(new.id, 1, &running, NOW_US + 3),
        store.advance_migration(new.id, 1, &running, NOW_US + 3)
    );
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|&&done| done).count(), 1, "{both:?}");
    let failure = Failure::new(FailureCode::PeerLost, "h2 is gone");
    let cancelling = Phase::Cancelling { failure: failure.clone() };
    store.advance_migration(new.id, 2, &cancelling, NOW_US + 4).await.unwrap();
    let row = store.migration(new.id).await.unwrap();
    assert_eq!((row.phase, row.failure, row.generation, row.finished_us), (cancelling, Some(failure), 3, None));

    let news = MigrationNews {
        step: Some("round 2".to_owned()),
        progress: Some(Progress { permille: 500, ..Progress::default() }),
        ..MigrationNews::default()
    };
    store.record_migration_news(new.id, &news, NOW_US + 5).await.unwrap();
    store.record_migration_news(new.id, &MigrationNews::default(), NOW_US + 6).await.unwrap();
    let row = store.migration(new.id).await.unwrap();
    assert_eq!((row.step.as_str(), row.progress, row.generation), ("round 2", news.progress.clone(), 3));
    let ghost = migration(9, &vm, "h2").id;
    let missing = store.record_migration_news(ghost, &news, NOW_US).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    let missing = store.advance_migration(ghost, 0, &Phase::Running, NOW_US).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

pub async fn the_end_settles_claims_and_host(database: Database) {
    let store = database.with_hosts().await;
    let failure = Failure::new(FailureCode::QemuFailed, "exit 1");
    let failed = |guest_at| Phase::Done(Outcome::Failed { failure: failure.clone(), guest_at });
    check_end(&store, 1, Phase::Done(Outcome::Completed), Side::Target).await;
    check_end(&store, 2, Phase::Done(Outcome::Cancelled), Side::Source).await;
    check_end(&store, 3, failed(Side::Source), Side::Source).await;
    check_end(&store, 4, failed(Side::Target), Side::Target).await;
    let all = store.list_migrations(None, &PageAsk::default()).await.unwrap().items;
    assert_eq!(all.len(), 4);
    assert!(store.list_unfinished_migrations(&PageAsk::default()).await.unwrap().items.is_empty());
    // A record outlives its instance.
    assert_eq!(all[0].instance_name, "vm1");
}

pub async fn a_debt_outlives_the_migration_and_keeps_only_its_claim(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    create_idle(&store, &vm).await;
    let create = async |new: &NewMigration| store.create_migration(new, |_| Ok(())).await;
    let to_h2 = migration(1, &vm, "h2");
    create(&to_h2).await.unwrap();
    let failure = Failure::new(FailureCode::PeerLost, "h2 is gone");
    let early = store.settle_owing_migration(to_h2.id, 0, &Phase::Done(Outcome::Cancelled), NOW_US).await;
    assert_conflict(early, "is Queued at step 0 now");
    let owing = Phase::Owing { failure: failure.clone() };
    store.advance_migration(to_h2.id, 0, &owing, NOW_US + 1).await.unwrap();
    let row = store.migration(to_h2.id).await.unwrap();
    assert_eq!((row.finished_us, row.failure), (Some(NOW_US + 1), Some(failure.clone())));
    let server = store.instance("vm").await.unwrap();
    assert_eq!((server.host, server.epoch, server.task), (host("h1"), Epoch(1), None));
    assert_eq!(load(&store, "h2").await, holds(0, 1), "room was given away that may still be taken");

    // The same host must be clean first; any other takes the server.
    assert_conflict(create(&migration(2, &vm, "h2")).await, "holds room on that host already");
    let to_h3 = migration(3, &vm, "h3");
    create(&to_h3).await.unwrap();
    let open = store.list_unfinished_migrations(&PageAsk::default()).await.unwrap().items;
    assert_eq!(open.iter().map(|row| row.id).collect::<Vec<_>>(), [to_h2.id, to_h3.id]);
    assert_eq!(store.unfinished_migration_of(vm.spec.id).await.unwrap().map(|row| row.id), Some(to_h3.id));

    let end = Phase::Done(Outcome::Failed { failure, guest_at: Side::Source });
    assert_eq!(store.settle_owing_migration(to_h2.id, 1, &end, NOW_US + 2).await.unwrap(), 2);
    assert_conflict(store.settle_owing_migration(to_h2.id, 2, &end, NOW_US + 2).await, "at step 2 now");
    let row = store.migration(to_h2.id).await.unwrap();
    assert_eq!((row.phase, row.finished_us), (end, Some(NOW_US + 1)));
    assert_eq!(load(&store, "h2").await, holds(0, 0));
    assert_eq!(load(&store, "h3").await, holds(0, 1), "another migration lost its claim");
    let server = store.instance("vm").await.unwrap();
    assert_eq!(server.task, Some(TaskState::Migrating), "another migration's task was ended");
    let open = store.list_unfinished_migrations(&PageAsk::default()).await.unwrap().items;
    assert_eq!(open.iter().map(|row| row.id).collect::<Vec<_>>(), [to_h3.id]);
}

/// Moves instance `number` from h1 to h2 up to `end`; nobody else lives there.
async fn check_end(store: &Store, number: u128, end: Phase, guest_at: Side) {
    let name = format!("vm{number}");
    let vm = instance(number, &name, "h1");
    create_idle(store, &vm).await;
    let new = migration(number, &vm, "h2");
    // On the target it may take another room than on the source.
    let room = Room { ram_mb: ROOM.ram_mb, disk_bytes: ROOM.disk_bytes / 2 };
    store.create_migration(&NewMigration { room, ..new.clone() }, |_| Ok(())).await.unwrap();
    let listed = store.list_unfinished_migrations(&PageAsk::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [new.id]);
    store.advance_migration(new.id, 0, &Phase::Running, NOW_US).await.unwrap();
    assert_eq!(load(store, "h2").await.arriving, 1, "{end:?}");
    store.advance_migration(new.id, 1, &end, NOW_US + 7).await.unwrap();
    let (here, there, epoch): (HostName, &str, Epoch) = match guest_at {
        Side::Target => (host("h2"), "h1", Epoch(2)),
        Side::Source => (host("h1"), "h2", Epoch(1)),
    };
    let row = store.instance(&name).await.unwrap();
    assert_eq!((&row.host, row.epoch, row.task), (&here, epoch, None), "{end:?}");
    let kept = load(store, here.as_str()).await;
    assert_eq!((kept.instances, kept.arriving, kept.ram_mb), (1, 0, ROOM.ram_mb), "{end:?}");
    assert_eq!(load(store, there).await, holds(0, 0), "{end:?} left a claim");
    let again = store.advance_migration(new.id, 2, &Phase::Running, NOW_US).await;
    assert_conflict(again, "at step 2 now");

    // Verification goes on after the end.
    let receipt = receipt(&new);
    let news = MigrationNews {
        receipt: Some(receipt.clone()),
        verification: Some("equal".to_owned()),
        cleaned_up: Some("nothing left".to_owned()),
        ..MigrationNews::default()
    };
    store.record_migration_news(new.id, &news, NOW_US + 8).await.unwrap();
    let row = store.migration(new.id).await.unwrap();
    assert_eq!((row.phase, row.finished_us, row.receipt), (end.clone(), Some(NOW_US + 7), Some(receipt)));
    assert_eq!((row.verification.as_deref(), row.cleaned_up.as_deref()), (Some("equal"), Some("nothing left")));
    let of_it = store.list_migrations(Some(vm.spec.id), &PageAsk::default()).await.unwrap().items;
    assert_eq!(of_it.iter().map(|row| row.id).collect::<Vec<_>>(), [new.id]);
    assert_eq!(store.unfinished_migration_of(vm.spec.id).await.unwrap(), None);
    store.delete_instance(vm.spec.id).await.unwrap();
    assert_eq!(load(store, here.as_str()).await, holds(0, 0), "{end:?}: the claim outlived the instance");
}

fn receipt(of: &NewMigration) -> Receipt {
    Receipt {
        migration_id: of.id,
        server: of.instance,
        source: of.source.clone(),
        target: of.target.clone(),
        epoch: of.epoch,
        mode: CopyMode::Full,
        total_ms: 4100,
        downtime_ms: 61.5,
        phases_ms: BTreeMap::from([("copy".to_owned(), 0.1)]),
        disks: vec![],
        ram: RamReceipt::default(),
        wire_bytes: u64::from(u32::MAX) * 4,
        cpu_seconds: CpuSeconds { source: 1.25, target: Some(0.5) },
        guest_write_ratio: None,
    }
}
