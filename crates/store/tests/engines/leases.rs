//! Who does what, where several controllers share a database, and what those who were overtaken may not write any more.

use whimbrel_core::{
    id::Epoch,
    instance::PowerState,
    lease::{Fence, Holder, LEASE_US, LeaseStep, Work, steps},
    migration::coordinator::{Outcome, Phase},
};
use whimbrel_store::{
    InstanceNews, MigrationFilter, MigrationNews, NewMigration, PageAsk, Pulse, Reported, Store, StoreError, TaskState,
};

use crate::{
    books::assert_conflict,
    fixture::{Database, NOW_US, create_idle, facts, host, instance, migration},
};

fn holder(name: &str, run: &str) -> Holder {
    Holder { name: name.to_owned(), run: run.to_owned() }
}

/// One look, as a controller does it; what it holds afterwards.
async fn look(store: &Store, me: &Holder) -> Vec<(Work, Fence)> {
    let look = store.renew_leases(me).await.unwrap();
    let mut wanted = Vec::new();
    for step in steps(look.now_us, me, look.alive, &look.leases) {
        match step {
            LeaseStep::Take { work, seen } => wanted.push((work, seen)),
            LeaseStep::GiveBack { work, fence } => store.give_back_lease(me, work, fence).await.unwrap(),
        }
    }
    store.take_leases(me, &wanted).await.unwrap();
    let leases = store.renew_leases(me).await.unwrap().leases;
    leases.iter().filter(|lease| lease.holder.as_ref() == Some(me)).map(|lease| (lease.work, lease.fence)).collect()
}

pub async fn are_shared_given_back_and_taken_over(database: Database) {
    let store = database.store().await;
    let (one, other) = (holder("c1", "a"), holder("c2", "a"));
    store.enlist(&one, "https://192.0.2.1").await.unwrap();
    let all = look(&store, &one).await;
    assert_eq!(all.len(), Work::all().count());
    assert!(all.iter().all(|(_, fence)| *fence == Fence(1)));
    store.enlist(&other, "https://192.0.2.2").await.unwrap();
    assert_eq!(look(&store, &other).await, [], "all is held");
    let kept = look(&store, &one).await;
    let theirs = look(&store, &other).await;
    assert_eq!((kept.len(), theirs.len()), (9, 8));
    assert!(theirs.iter().all(|(_, fence)| *fence == Fence(2)), "a fence was given twice");
    let names: Vec<String> = store.controllers().await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["c1", "c2"]);

    // Seen by two, taken by one.
    let (work, fence) = kept[0];
    store.give_back_lease(&one, work, fence).await.unwrap();
    assert_eq!(store.take_leases(&one, &[(work, fence)]).await.unwrap(), [(work, Fence(2))]);
    assert_eq!(store.take_leases(&other, &[(work, fence)]).await.unwrap(), []);
    assert_eq!(store.take_leases(&other, &[(work, Fence(2))]).await.unwrap(), [], "it is held");
    store.give_back_lease(&one, work, fence).await.unwrap();
    assert_eq!(look(&store, &one).await.len(), 9, "what was held before was given back");

    // A new start of one takes all of the old one's at once, and the old one learns of it.
    let again = holder("c1", "b");
    store.enlist(&again, "https://192.0.2.1").await.unwrap();
    assert_eq!(look(&store, &again).await.len(), 9);
    assert_conflict(store.renew_leases(&one).await, "was started a second time");
    store.leave(&again).await.unwrap();
    assert_eq!(look(&store, &other).await.len(), Work::all().count());
    assert!(store.now_us().await.unwrap() > NOW_US / 2 && LEASE_US > 0);
}

pub async fn of_the_overtaken_write_nothing(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    let id = vm.spec.id;
    store.create_instance(&vm, |_| Ok(())).await.unwrap();
    let (old, new) = (store.fenced(Fence(4)), store.fenced(Fence(5)));
    let busy = old.list_busy_instances(&PageAsk::default()).await.unwrap().items;
    assert_eq!(busy.iter().map(|(row, fence)| (row.id, *fence)).collect::<Vec<_>>(), [(id, Fence(0))]);
    assert_eq!(old.seal_instance(id).await.unwrap().task, Some(TaskState::Building));
    assert_eq!(new.seal_instance(id).await.unwrap().task, Some(TaskState::Building));
    let building = Some(TaskState::Building);
    assert_conflict(old.change_task(id, building, None, NOW_US).await, "by another controller");
    assert_conflict(old.seal_instance(id).await, "by another controller");
    assert_conflict(old.set_instance_failure(id, None, NOW_US).await, "by another controller");
    assert_conflict(old.delete_instance(id).await, "by another controller");
    new.change_task(id, building, None, NOW_US).await.unwrap();
    assert!(store.list_busy_instances(&PageAsk::default()).await.unwrap().items.is_empty());

    let to_h2 = migration(1, &vm, "h2");
    store.create_migration(&to_h2, |_| Ok(())).await.unwrap();
    assert!(store.list_busy_instances(&PageAsk::default()).await.unwrap().items.is_empty(), "a move is no task");
    old.seal_migration(to_h2.id).await.unwrap();
    assert_eq!(old.advance_migration(to_h2.id, 0, &Phase::Preparing, NOW_US).await.unwrap(), 1);
    assert_eq!(new.seal_migration(to_h2.id).await.unwrap().phase, Phase::Preparing);
    assert_conflict(old.advance_migration(to_h2.id, 1, &Phase::Running, NOW_US).await, "by another controller");
    let news = MigrationNews { step: Some("old".to_owned()), ..MigrationNews::default() };
    assert_conflict(old.record_migration_news(to_h2.id, &news, NOW_US).await, "by another controller");
    assert_conflict(old.seal_migration(to_h2.id).await, "by another controller");
    // Who drives nothing, as an operator who cancels, names no fence.
    assert_eq!(store.advance_migration(to_h2.id, 1, &Phase::Running, NOW_US).await.unwrap(), 2);
    let end = Phase::Done(Outcome::Cancelled);
    assert_eq!(new.advance_migration(to_h2.id, 2, &end, NOW_US).await.unwrap(), 3);
    assert!(store.migration(to_h2.id).await.unwrap().step.is_empty());
    new.delete_instance(id).await.unwrap();
}

pub async fn what_is_shared_is_set_up_once(database: Database) {
    let store = database.store().await;
    let set = async |store: &Store, value: &str| {
        let decide = |known: Option<String>| Ok::<_, String>(known.unwrap_or_else(|| value.to_owned()));
        store.set_up("cloud", decide).await.unwrap().unwrap()
    };
    let refused = store.set_up("cloud", |_| Err::<String, _>("no")).await.unwrap();
    assert_eq!(refused, Err("no"));
    let (one, other) = (database.store().await, database.store().await);
    let (first, second) = tokio::join!(set(&one, "a"), set(&other, "b"));
    assert_eq!(first, second);
    assert_eq!(set(&store, "c").await, first);
}

pub async fn a_server_that_moves_goes_after_its_move(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    create_idle(&store, &vm).await;
    assert!(!store.doom_server(vm.spec.id, NOW_US).await.unwrap(), "it does not move");
    let new: NewMigration = migration(1, &vm, "h2");
    store.create_migration(&new, |_| Ok(())).await.unwrap();
    assert_eq!(store.unfinished_migrations().await.unwrap().keys().copied().collect::<Vec<_>>(), [vm.spec.id]);
    assert!(store.doom_server(vm.spec.id, NOW_US).await.unwrap());
    assert_eq!(store.server(vm.spec.id).await.unwrap().task, Some(TaskState::Migrating));
    store.advance_migration(new.id, 0, &Phase::Done(Outcome::Completed), NOW_US).await.unwrap();
    let row = store.server(vm.spec.id).await.unwrap();
    assert_eq!((row.task, row.host), (Some(TaskState::Deleting), host("h2")));
    assert!(store.unfinished_migrations().await.unwrap().is_empty());
}

pub async fn moves_are_listed_by_what_is_asked(database: Database) {
    let store = database.with_hosts().await;
    for number in 1..=4_u128 {
        let vm = instance(number, &format!("vm{number}"), if number == 4 { "h2" } else { "h1" });
        create_idle(&store, &vm).await;
        let target = if number == 3 {
            "h3"
        } else if number == 4 {
            "h1"
        } else {
            "h2"
        };
        store.create_migration(&migration(number, &vm, target), |_| Ok(())).await.unwrap();
        if number == 1 {
            store
                .advance_migration(migration(1, &vm, "h2").id, 0, &Phase::Done(Outcome::Completed), NOW_US + 9)
                .await
                .unwrap();
        }
    }
    let check = async |filter: MigrationFilter, before: Option<u128>, limit: u32, want: &[u128]| {
        let before = before.map(|number| migration(number, &instance(number, "", "h1"), "h2").id);
        let rows = store.list_moves(&filter, before, limit).await.unwrap();
        let got: Vec<u128> = rows.iter().map(|row| row.id.0.as_u128()).collect();
        assert_eq!(got, want, "{filter:?} {before:?}");
    };
    let any = MigrationFilter::default;
    check(any(), None, 9, &[4, 3, 2, 1]).await;
    check(any(), Some(4), 2, &[3, 2]).await;
    check(any(), Some(1), 9, &[]).await;
    check(MigrationFilter { host: Some("h2".to_owned()), ..any() }, None, 9, &[4, 2, 1]).await;
    check(MigrationFilter { source: Some("h2".to_owned()), ..any() }, None, 9, &[4]).await;
    check(MigrationFilter { server: Some(instance(3, "", "h1").spec.id), ..any() }, None, 9, &[3]).await;
    check(MigrationFilter { kind: Some(whimbrel_store::MigrationKind::Cold), ..any() }, None, 9, &[]).await;
    let of = |statuses: &[whimbrel_core::migration::coordinator::Status]| MigrationFilter {
        statuses: statuses.to_vec(),
        ..any()
    };
    use whimbrel_core::migration::coordinator::Status;
    check(of(&[Status::Completed]), None, 9, &[1]).await;
    check(of(&[Status::Running, Status::Queued]), None, 9, &[4, 3, 2]).await;
    check(MigrationFilter { changed_since_us: Some(NOW_US + 1), ..any() }, None, 9, &[1]).await;
    check(MigrationFilter { changed_before_us: Some(NOW_US), ..any() }, None, 9, &[4, 3, 2]).await;
    check(MigrationFilter { project: Some("p9".parse().unwrap()), ..any() }, None, 9, &[]).await;
    let unverified = store.list_unverified_migrations(NOW_US, &PageAsk::default()).await.unwrap().items;
    assert_eq!(unverified.iter().map(|row| row.id.0.as_u128()).collect::<Vec<_>>(), [1]);
    assert!(store.list_unverified_migrations(NOW_US + 9, &PageAsk::default()).await.unwrap().items.is_empty());
}

pub async fn words_of_many_hosts_are_taken_together(database: Database) {
    let store = database.with_hosts().await;
    let vm = instance(1, "vm", "h1");
    create_idle(&store, &vm).await;
    let news = |at: &str, epoch, power| InstanceNews {
        id: vm.spec.id,
        host: host(at),
        owned_epoch: Epoch(epoch),
        power,
        failure: None,
        write_bps: 7,
    };
    let pulse = |at: &str, instances: Vec<InstanceNews>| Pulse {
        host: host(at),
        control_url: format!("https://{at}"),
        facts: Some(facts(at)),
        reported: Some(vec![Reported { id: vm.spec.id, owned: at == "h1", migrating: false }]),
        instances,
    };
    let told = [
        pulse("h9", vec![news("h9", 9, PowerState::Crashed)]),
        pulse("h2", vec![news("h2", 1, PowerState::Stopped)]),
        pulse("h1", vec![news("h1", 1, PowerState::Running)]),
    ];
    let heard = store.record_pulses(&told, NOW_US).await.unwrap();
    let flags: Vec<_> = heard.iter().map(|heard| (heard.known, heard.came_up, heard.disbelieved.len())).collect();
    assert_eq!(flags, [(false, false, 0), (true, true, 1), (true, true, 0)]);
    let known = store.instances_told_by(&host("h1")).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].0, known[0].1.power, known[0].1.write_bps), (vm.spec.id, Some(PowerState::Running), 7));
    let row = store.host(&host("h1")).await.unwrap();
    assert_eq!((row.facts, row.reported.len(), row.last_seen_us), (Some(facts("h1")), 1, NOW_US));
    // What is not said stays.
    let less = Pulse { facts: None, reported: None, ..pulse("h1", Vec::new()) };
    assert!(!store.record_pulses(&[less], NOW_US + 1).await.unwrap()[0].came_up);
    let row = store.host(&host("h1")).await.unwrap();
    assert_eq!((row.facts.clone(), row.reported.len(), row.last_seen_us), (Some(facts("h1")), 1, NOW_US + 1));
    assert_eq!(store.host_marks(Some(&host("h1"))).await.unwrap(), [row.mark()]);
    assert_eq!(store.host_marks(None).await.unwrap().len(), 3);
    assert!(matches!(store.host(&host("h9")).await, Err(StoreError::NotFound { .. })));
    let loads = store.host_loads().await.unwrap();
    assert_eq!(loads.get(&host("h1")), Some(&store.host_load(&host("h1")).await.unwrap()));
    assert_eq!(loads.len(), 1);
}
