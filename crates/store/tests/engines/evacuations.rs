//! Servers of a lost host on another one, what that host is told when it is back, and what a task is part of.

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, ImageId, MigrationId},
    instance::PowerState,
    migration::coordinator::{Outcome, Phase},
};
use whimbrel_store::{
    Desired, Errand, InstanceNews, MigrationKind, NewEvacuation, NewInstance, PageAsk, StoreError, TaskState,
};

use crate::fixture::{Database, NOW_US, ROOM, create_idle, host, instance, uuid};

fn errand(request_id: &str) -> Errand {
    Errand { request_id: request_id.to_owned(), event: "compute_rebuild_instance".to_owned(), image: None }
}

fn evacuation(number: u128, of: &NewInstance, target: &str) -> NewEvacuation {
    NewEvacuation {
        id: MigrationId(uuid(number)),
        instance: of.spec.id,
        source: of.host.clone(),
        target: host(target),
        epoch: Epoch::FIRST.next(),
        desired: Desired::Stopped,
        errand: errand("req-1"),
        asked_by: Default::default(),
        room: ROOM,
        created_us: NOW_US + 1,
    }
}

pub async fn a_server_changes_host_claim_and_epoch_at_once(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    let id = new.spec.id;
    let full = |_: &_| Err(vec![Failure::new(FailureCode::NoRam, "full")]);
    let refused = store.create_evacuation(&evacuation(7, &new, "h2"), full).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    let row = store.server(id).await.unwrap();
    assert_eq!((row.host, row.epoch, row.task), (host("h1"), Epoch::FIRST, None), "a refusal changed something");
    assert_eq!(store.host_load(&host("h1")).await.unwrap().instances, 1);

    store.create_evacuation(&evacuation(7, &new, "h2"), |_| Ok(())).await.unwrap();
    let row = store.server(id).await.unwrap();
    assert_eq!((row.host, row.epoch, row.power), (host("h2"), Epoch(2), None));
    assert_eq!((row.task, row.desired), (Some(TaskState::Rebuilding), Desired::Stopped));
    assert_eq!(row.errand, Some(errand("req-1")));
    let load = |name: &str| {
        let (store, name) = (store.clone(), host(name));
        async move { store.host_load(&name).await.unwrap().instances }
    };
    assert_eq!((load("h1").await, load("h2").await), (0, 1));
    let again = store.create_evacuation(&evacuation(8, &new, "h3"), |_| Ok(())).await.unwrap_err();
    assert!(matches!(again, StoreError::Conflict { .. }), "{again}");
    assert_eq!(
        store.list_unfinished_migrations(&PageAsk::default()).await.unwrap().items,
        [],
        "a driver would take it"
    );

    // The old owner's word is worth nothing any more.
    let news = |at: &str, epoch| InstanceNews {
        id,
        host: host(at),
        owned_epoch: Epoch(epoch),
        power: PowerState::Running,
        failure: None,
        write_bps: 0,
    };
    assert!(!store.record_instance_news(&news("h1", 1), NOW_US).await.unwrap());
    assert!(store.record_instance_news(&news("h2", 2), NOW_US).await.unwrap());
    store.change_task(id, Some(TaskState::Rebuilding), None, NOW_US).await.unwrap();
    assert_eq!(store.server(id).await.unwrap().errand, None, "it outlived its task");
}

pub async fn a_lost_host_is_told_before_it_counts_again(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    let id = new.spec.id;
    store.create_evacuation(&evacuation(7, &new, "h2"), |_| Ok(())).await.unwrap();
    let counted = |name: &str| {
        let (store, name) = (store.clone(), host(name));
        async move { store.host(&name).await.unwrap().evacuees }
    };
    assert_eq!((counted("h1").await, counted("h2").await), (1, 0));
    store.end_evacuation(id, None, NOW_US + 2).await.unwrap();
    store.end_evacuation(id, None, NOW_US + 9).await.unwrap();
    let migration = store.migration(MigrationId(uuid(7))).await.unwrap();
    assert_eq!((migration.kind, &migration.phase), (MigrationKind::Evacuation, &Phase::Done(Outcome::Completed)));
    assert_eq!((migration.finished_us, migration.cleaned_up), (Some(NOW_US + 2), None));

    store.change_task(id, Some(TaskState::Rebuilding), None, NOW_US).await.unwrap();
    store.delete_instance(id).await.unwrap();
    let [evacuee] = &store.list_evacuees().await.unwrap()[..] else { panic!("it went with its server") };
    assert_eq!((&evacuee.host, evacuee.instance, evacuee.epoch), (&host("h1"), id, Epoch(2)));
    assert_eq!((&evacuee.target, evacuee.migration), (&host("h2"), MigrationId(uuid(7))));
    store.settle_evacuee(evacuee, NOW_US + 3).await.unwrap();
    let twice = store.settle_evacuee(evacuee, NOW_US + 3).await.unwrap_err();
    assert!(matches!(twice, StoreError::NotFound { .. }), "{twice}");
    assert_eq!(counted("h1").await, 0);
    assert!(store.migration(evacuee.migration).await.unwrap().cleaned_up.is_some());
}

pub async fn a_failed_rebuild_is_told(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    store.create_evacuation(&evacuation(7, &new, "h2"), |_| Ok(())).await.unwrap();
    let failure = Failure::new(FailureCode::NotFound, "no image");
    store.end_evacuation(new.spec.id, Some(&failure), NOW_US + 2).await.unwrap();
    let migration = store.migration(MigrationId(uuid(7))).await.unwrap();
    assert_eq!((migration.failure, migration.finished_us), (Some(failure), Some(NOW_US + 2)));
    assert!(matches!(migration.phase, Phase::Done(Outcome::Failed { .. })));
}

pub async fn a_task_knows_what_it_is_part_of(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    let id = new.spec.id;
    let errand = Errand { image: Some(ImageId(uuid(5))), ..errand("req-2") };
    store.begin_errand(id, TaskState::Imaging, None, Some(&errand), NOW_US).await.unwrap();
    let row = store.server(id).await.unwrap();
    assert_eq!((row.desired, row.errand.as_ref()), (Desired::Running, Some(&errand)));
    let busy = store.begin_errand(id, TaskState::Suspending, Some(Desired::Suspended), None, NOW_US).await.unwrap_err();
    assert!(matches!(busy, StoreError::Conflict { .. }), "{busy}");
    store.change_task(id, Some(TaskState::Imaging), Some(TaskState::ImageUploading), NOW_US).await.unwrap();
    assert_eq!(store.server(id).await.unwrap().errand, Some(errand), "it was lost on the way");
    store.change_task(id, Some(TaskState::ImageUploading), None, NOW_US).await.unwrap();
    store.begin_task(id, TaskState::Suspending, Desired::Suspended, NOW_US).await.unwrap();
    let row = store.server(id).await.unwrap();
    assert_eq!((row.desired, row.errand), (Desired::Suspended, None));
}
