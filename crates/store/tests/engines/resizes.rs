//! Resizes: the claim that changes in place, the steps after a move, and the owner's verdict.

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{FlavorId, MigrationId},
    instance::InstanceSpec,
    migration::coordinator::{Outcome, Phase},
    server::ServerDetails,
};
use whimbrel_store::{
    Desired, MigrationKind, NewInstance, NewMigration, ResizeStep, Room, StoreError, TaskState, Verdict,
};

use crate::fixture::{Database, NOW_US, create_idle, host, instance, migration, uuid};

fn described(words: &str) -> ServerDetails {
    ServerDetails { description: Some(words.to_owned()), ..ServerDetails::default() }
}

fn in_place(of: &NewInstance, generation: u64, room: Room) -> NewMigration {
    NewMigration {
        epoch: whimbrel_core::id::Epoch::FIRST,
        kind: MigrationKind::Resize,
        room,
        details: Some((generation, described("larger"))),
        ..migration(10, of, "h1")
    }
}

pub async fn a_claim_grows_where_it_is(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    let room = Room { ram_mb: new.room.ram_mb * 2, disk_bytes: new.room.disk_bytes };

    let reason = Failure::new(FailureCode::NoRam, "full");
    let refused = store.resize_in_place(&in_place(&new, 0, room), |_| Err(vec![reason])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    let raced = store.resize_in_place(&in_place(&new, 7, room), |_| Ok(())).await.unwrap_err();
    assert!(raced.to_string().contains("changed by somebody else"), "{raced}");
    let row = store.server(new.spec.id).await.unwrap();
    assert_eq!((row.task, row.generation, row.details), (None, 0, ServerDetails::default()));
    assert_eq!(store.host_load(&host("h1")).await.unwrap().ram_mb, new.room.ram_mb);

    let alone = |load: &whimbrel_store::HostLoad| {
        assert_eq!((load.instances, load.ram_mb), (0, 0), "its own claim is in its way");
        Ok(())
    };
    store.resize_in_place(&in_place(&new, 0, room), alone).await.unwrap();
    let load = store.host_load(&host("h1")).await.unwrap();
    assert_eq!((load.instances, load.arriving, load.ram_mb), (1, 0, room.ram_mb));
    let row = store.server(new.spec.id).await.unwrap();
    assert_eq!((row.task, row.generation, row.details), (Some(TaskState::Resizing), 1, described("larger")));
    let noted = store.migration(MigrationId(uuid(10))).await.unwrap();
    assert_eq!((noted.phase, noted.finished_us), (Phase::Done(Outcome::Completed), Some(NOW_US)));
    assert_eq!(store.unfinished_migration_of(new.spec.id).await.unwrap(), None);
    let again = store.resize_in_place(&in_place(&new, 1, room), |_| Ok(())).await.unwrap_err();
    assert!(again.to_string().contains("resizing"), "{again}");
}

pub async fn a_step_is_taken_once(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    store.resize_in_place(&in_place(&new, 0, new.room), |_| Ok(())).await.unwrap();
    let row = store.server(new.spec.id).await.unwrap();
    let spec = InstanceSpec { vcpus: 7, ..row.spec.clone() };
    let room = Room { ram_mb: 3, disk_bytes: 4 };
    let (flavor, details) = (FlavorId(uuid(9)), described("done"));
    let step =
        ResizeStep { spec: &spec, flavor, details: &details, task: None, desired: Desired::Stopped, room: Some(room) };
    store.step_resize(&row, &step, NOW_US + 5).await.unwrap();
    let twice = store.step_resize(&row, &step, NOW_US + 6).await.unwrap_err();
    assert!(matches!(twice, StoreError::Conflict { .. }), "{twice}");
    let row = store.server(new.spec.id).await.unwrap();
    assert_eq!((row.spec.vcpus, row.flavor, row.details, row.task), (7, flavor, described("done"), None));
    assert_eq!((row.desired, row.updated_us), (Desired::Stopped, NOW_US + 5));
    let load = store.host_load(&host("h1")).await.unwrap();
    assert_eq!((load.ram_mb, load.disk_bytes), (3, 4));
}

pub async fn a_cold_move_leaves_the_rest_to_do(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    let cold = NewMigration {
        kind: MigrationKind::Cold,
        details: Some((0, described("moving"))),
        ..migration(10, &new, "h2")
    };
    store.create_migration(&cold, |_| Ok(())).await.unwrap();
    let row = store.server(new.spec.id).await.unwrap();
    assert_eq!((row.task, row.details), (Some(TaskState::Migrating), described("moving")));
    store.advance_migration(cold.id, 0, &Phase::Done(Outcome::Completed), NOW_US + 1).await.unwrap();
    let row = store.server(new.spec.id).await.unwrap();
    assert_eq!((row.task, row.host), (Some(TaskState::Resizing), host("h2")));
    assert_eq!(store.migration(cold.id).await.unwrap().verdict, None);
    store.set_verdict(cold.id, Verdict::Confirmed, NOW_US + 2).await.unwrap();
    let row = store.migration(cold.id).await.unwrap();
    assert_eq!((row.verdict, row.updated_us), (Some(Verdict::Confirmed), NOW_US + 2));
}
