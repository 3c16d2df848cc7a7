//! Servers as the Compute API sees them, and what was done to them.

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::Epoch,
    identity::{ProjectId, UserId},
    instance::PowerState,
    migration::coordinator::{Outcome, Phase, Side},
    server::{Ownership, ServerDetails, ServerKey},
};
use whimbrel_store::{
    ActionRow, Desired, EventResult, InstanceNews, MOVE_EVENT, NewInstance, NewMigration, ServerFilter, StoreError,
    TaskState,
};

use crate::fixture::{Database, NOW_US, create_idle, host, instance, migration};

fn owner(project: &str) -> Ownership {
    Ownership { project: Some(project.parse::<ProjectId>().unwrap()), user: Some("u1".parse::<UserId>().unwrap()) }
}

fn of(number: u128, name: &str, at: &str, project: &str) -> NewInstance {
    NewInstance { owner: owner(project), ..instance(number, name, at) }
}

pub async fn are_listed_newest_first(database: Database) {
    let store = database.with_hosts().await;
    for (number, name, at, project) in [(1, "a", "h1", "p1"), (2, "b", "h2", "p1"), (3, "a", "h1", "p2")] {
        create_idle(&store, &of(number, name, at, project)).await;
    }
    let names = async |filter: ServerFilter<'_>, before, limit| {
        let rows = store.list_servers(&filter, before, limit).await.unwrap();
        rows.iter().map(|row| format!("{}{}", row.name, row.number)).collect::<Vec<_>>()
    };
    let (p1, h1) = ("p1".parse::<ProjectId>().unwrap(), host("h1"));
    let all = ServerFilter::default();
    assert_eq!(names(all, None, 10).await, ["a3", "b2", "a1"]);
    assert_eq!(names(all, None, 2).await, ["a3", "b2"]);
    let second = instance(2, "b", "h2").spec.id;
    assert_eq!(names(all, Some(second), 2).await, ["a1"]);
    assert_eq!(names(ServerFilter { project: Some(&p1), ..all }, None, 10).await, ["b2", "a1"]);
    assert_eq!(names(ServerFilter { host: Some(&h1), ..all }, None, 10).await, ["a3", "a1"]);
    assert_eq!(names(ServerFilter { name: Some("b"), project: Some(&p1), ..all }, None, 10).await, ["b2"]);
    let row = store.server(second).await.unwrap();
    assert_eq!((row.owner, row.generation, row.launched_us), (owner("p1"), 0, None));
    let missing = store.server(instance(9, "x", "h1").spec.id).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { object: "server", .. }));
}

pub async fn a_description_names_what_was_read(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    create_idle(&store, &new).await;
    let id = new.spec.id;
    let key = ServerKey { name: "k".to_owned(), kind: "ssh".to_owned(), public_key: "ssh-ed25519 A".to_owned() };
    let details = ServerDetails { description: Some("d".to_owned()), key: Some(key), ..ServerDetails::default() };
    store.describe_server(id, 0, "b", &details, NOW_US + 1).await.unwrap();
    let row = store.server(id).await.unwrap();
    assert_eq!((row.name.as_str(), &row.details, row.generation, row.updated_us), ("b", &details, 1, NOW_US + 1));
    assert_eq!(row.spec.name, "a", "the hardware was renamed");
    let late = store.describe_server(id, 0, "c", &details, NOW_US).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict { .. }), "{late}");
    let nobody = instance(2, "x", "h1").spec.id;
    let missing = store.describe_server(nobody, 0, "c", &details, NOW_US).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
}

pub async fn a_task_begins_once_and_restarts_are_counted(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "a", "h1");
    store.create_instance(&new, |_| Ok(())).await.unwrap();
    let id = new.spec.id;
    let news =
        |power| InstanceNews { id, host: host("h1"), owned_epoch: Epoch::FIRST, power, failure: None, write_bps: 0 };
    assert!(store.record_instance_news(&news(PowerState::Running), NOW_US).await.unwrap());
    store.change_task(id, Some(TaskState::Building), None, NOW_US).await.unwrap();
    assert!(store.record_instance_news(&news(PowerState::Running), NOW_US + 9).await.unwrap());
    assert_eq!(store.server(id).await.unwrap().updated_us, NOW_US, "a report that told nothing new was a change");
    store.begin_task(id, TaskState::Pausing, Desired::Paused, NOW_US + 1).await.unwrap();
    let row = store.server(id).await.unwrap();
    assert_eq!((row.task, row.desired, row.reboots), (Some(TaskState::Pausing), Desired::Paused, 0));
    let busy = store.begin_task(id, TaskState::Stopping, Desired::Stopped, NOW_US).await.unwrap_err();
    assert!(busy.to_string().contains("is pausing"), "{busy}");
    let busy = store.begin_reboot(id, None, TaskState::Rebooting, NOW_US).await.unwrap_err();
    assert!(matches!(busy, StoreError::Conflict { .. }), "{busy}");
    store.change_task(id, Some(TaskState::Pausing), None, NOW_US).await.unwrap();
    store.begin_reboot(id, None, TaskState::RebootingHard, NOW_US + 2).await.unwrap();
    let row = store.server(id).await.unwrap();
    assert_eq!((row.task, row.desired, row.reboots), (Some(TaskState::RebootingHard), Desired::Running, 1));
    assert_eq!(row.launched_us, Some(NOW_US), "the end of a later task moved the launch");
}

pub async fn actions_outlive_their_server(database: Database) {
    let store = database.with_hosts().await;
    let new = of(1, "a", "h1", "p1");
    create_idle(&store, &new).await;
    let id = new.spec.id;
    let action = |request: &str, name: &str, started_us| ActionRow {
        request_id: request.to_owned(),
        instance: id,
        action: name.to_owned(),
        asked_by: owner("p1"),
        started_us,
        updated_us: Some(started_us),
        message: None,
    };
    store.begin_action(&action("req-1", "create", NOW_US)).await.unwrap();
    store.begin_action(&action("req-2", "live-migration", NOW_US + 1)).await.unwrap();
    let twice = store.begin_action(&action("req-2", "stop", NOW_US)).await.unwrap_err();
    assert!(matches!(twice, StoreError::Conflict { .. }), "{twice}");
    for _ in 0..2 {
        store.start_event(id, "req-2", "conductor", Some(&host("h1")), NOW_US + 2).await.unwrap();
    }
    assert!(store.end_event(id, "req-2", "conductor", Some("no room"), NOW_US + 3).await.unwrap());
    assert!(!store.end_event(id, "req-2", "conductor", None, NOW_US + 4).await.unwrap(), "it ended twice");
    store.delete_instance(id).await.unwrap();
    let all = store.list_actions(id).await.unwrap();
    assert_eq!(all.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["live-migration", "create"]);
    let (row, events) = store.action(id, "req-2").await.unwrap();
    assert_eq!((row.message.as_deref(), row.asked_by), (Some("Error"), owner("p1")));
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.result, event.details.as_deref()), (Some(EventResult::Error), Some("no room")));
    assert_eq!((event.finished_us, &event.host), (Some(NOW_US + 3), &Some(host("h1"))));
    let missing = store.action(id, "req-3").await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
}

pub async fn a_migration_ends_its_event(database: Database) {
    let store = database.with_hosts().await;
    let lost = Failure::new(FailureCode::PeerLost, "the target was lost");
    let failed = Phase::Done(Outcome::Failed { failure: lost, guest_at: Side::Source });
    for (number, end, result, words) in [
        (1, Phase::Done(Outcome::Cancelled), EventResult::Error, "was cancelled"),
        (2, failed, EventResult::Error, "the target was lost"),
        (3, Phase::Done(Outcome::Completed), EventResult::Success, ""),
    ] {
        let new = of(number, "a", "h1", "p1");
        create_idle(&store, &new).await;
        let id = new.spec.id;
        let action = ActionRow {
            request_id: "req-1".to_owned(),
            instance: id,
            action: "live-migration".to_owned(),
            asked_by: owner("p1"),
            started_us: NOW_US,
            updated_us: None,
            message: None,
        };
        store.begin_action(&action).await.unwrap();
        store.start_event(id, "req-1", MOVE_EVENT, None, NOW_US).await.unwrap();
        let moving = NewMigration { request_id: Some("req-1".to_owned()), ..migration(10 + number, &new, "h2") };
        store.create_migration(&moving, |_| Ok(())).await.unwrap();
        store.advance_migration(moving.id, 0, &Phase::Preparing, NOW_US + 1).await.unwrap();
        let (_, events) = store.action(id, "req-1").await.unwrap();
        assert_eq!(events[0].result, None, "it ended before its migration");
        store.advance_migration(moving.id, 1, &end, NOW_US + 2).await.unwrap();
        let (_, events) = store.action(id, "req-1").await.unwrap();
        assert_eq!((events[0].result, events[0].finished_us), (Some(result), Some(NOW_US + 2)));
        assert!(events[0].details.clone().unwrap_or_default().contains(words), "{events:?}");
    }
}

pub async fn a_migration_has_a_number(database: Database) {
    let store = database.with_hosts().await;
    for number in [1, 2] {
        let new = of(number, "a", "h1", "p1");
        create_idle(&store, &new).await;
        store.create_migration(&migration(10 + number, &new, "h2"), |_| Ok(())).await.unwrap();
    }
    let row = store.migration_by_number(2).await.unwrap();
    assert_eq!((row.number, row.instance, row.epoch), (2, instance(2, "a", "h1").spec.id, Epoch(2)));
    let missing = store.migration_by_number(3).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
}

pub async fn what_a_dead_controller_left_open_is_ended(database: Database) {
    let store = database.with_hosts().await;
    for (number, request, migrates) in [(1, "req-1", true), (2, "req-2", false)] {
        let new = of(number, "a", "h1", "p1");
        create_idle(&store, &new).await;
        let action = ActionRow {
            request_id: request.to_owned(),
            instance: new.spec.id,
            action: "live-migration".to_owned(),
            asked_by: owner("p1"),
            started_us: NOW_US,
            updated_us: None,
            message: None,
        };
        store.begin_action(&action).await.unwrap();
        store.start_event(new.spec.id, request, MOVE_EVENT, None, NOW_US).await.unwrap();
        if migrates {
            let moving = NewMigration { request_id: Some(request.to_owned()), ..migration(10 + number, &new, "h2") };
            store.create_migration(&moving, |_| Ok(())).await.unwrap();
        }
    }
    assert_eq!(store.end_orphaned_events(NOW_US, NOW_US + 1).await.unwrap(), 0, "somebody may still be at it");
    assert_eq!(store.end_orphaned_events(NOW_US + 1, NOW_US + 2).await.unwrap(), 1);
    assert_eq!(store.end_orphaned_events(NOW_US + 1, NOW_US + 2).await.unwrap(), 0);
    let result = async |number, request: &str| {
        let (_, events) = store.action(of(number, "a", "h1", "p1").spec.id, request).await.unwrap();
        (events[0].result, events[0].finished_us)
    };
    assert_eq!(result(1, "req-1").await, (None, None), "its migration goes on");
    assert_eq!(result(2, "req-2").await, (Some(EventResult::Error), Some(NOW_US + 2)));
}
