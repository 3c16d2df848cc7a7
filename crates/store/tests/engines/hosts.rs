//! What operators decide about hosts: out of service, dead, away; aggregates and the zones that they give.

use std::collections::BTreeMap;

use whimbrel_core::{
    id::{Epoch, HostName},
    instance::PowerState,
    migration::coordinator::{Outcome, Phase},
};
use whimbrel_store::{
    AggregateRow, HostChange, HostUse, InstanceNews, MigrationNews, NewAggregate, PageAsk, Store, TaskState,
};

use crate::{
    books::{assert_conflict, assert_not_found},
    fixture::{Database, NOW_US, ROOM, create_idle, host, instance, migration, uuid},
};

pub async fn are_numbered_taken_out_and_brought_back(database: Database) {
    let store = database.with_hosts().await;
    store.record_certificate(&host("h2"), "renewed", NOW_US).await.unwrap();
    let numbers = |store: Store| async move {
        let all = store.host_numbers().await.unwrap();
        all.into_iter().map(|(number, host)| format!("{number} {host}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(numbers(store.clone()).await, "1 h1, 2 h2, 3 h3");
    let plain = store.host(&host("h2")).await.unwrap();
    assert_eq!((plain.number, plain.disabled, &plain.disabled_reason, plain.forced_down), (2, false, &None, false));

    let check = async |change: HostChange, want: (bool, Option<&str>, bool)| {
        store.change_host(&host("h2"), &change).await.unwrap();
        let now = store.host(&host("h2")).await.unwrap();
        assert_eq!((now.disabled, now.disabled_reason.as_deref(), now.forced_down), want, "{change:?}");
    };
    let reason = || Some("kernel".to_owned());
    check(HostChange { disabled: Some((true, reason())), forced_down: None }, (true, Some("kernel"), false)).await;
    check(HostChange { disabled: None, forced_down: Some(true) }, (true, Some("kernel"), true)).await;
    check(HostChange { disabled: Some((true, None)), forced_down: Some(false) }, (true, None, false)).await;
    check(HostChange { disabled: Some((true, reason())), forced_down: None }, (true, Some("kernel"), false)).await;
    check(HostChange { disabled: Some((false, reason())), forced_down: None }, (false, None, false)).await;
    assert!(!store.host(&host("h1")).await.unwrap().disabled);
    assert_not_found(store.change_host(&host("h9"), &HostChange::default()).await, "host", "h9");

    store.delete_host(&host("h3")).await.unwrap();
    assert_not_found(store.delete_host(&host("h3")).await, "host", "h3");
    store.record_certificate(&host("h3"), "joined anew", NOW_US).await.unwrap();
    assert_eq!(numbers(store).await, "1 h1, 2 h2, 4 h3");
}

pub async fn are_not_deleted_while_they_are_needed(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "vm", "h1");
    create_idle(&store, &new).await;
    assert_conflict(store.delete_host(&host("h1")).await, "host 'h1' has 1 servers: move or delete them first");
    let moving = migration(10, &new, "h2");
    store.create_migration(&moving, |_| Ok(())).await.unwrap();
    for needed in ["h1", "h2"] {
        assert_conflict(
            store.delete_host(&host(needed)).await,
            "has 1 unfinished migrations: wait for their end first",
        );
    }
    store.delete_host(&host("h3")).await.unwrap();

    let done = Phase::Done(Outcome::Completed);
    store.advance_migration(moving.id, 0, &done, NOW_US).await.unwrap();
    let verifying = MigrationNews { verification: Some("running".to_owned()), ..MigrationNews::default() };
    store.record_migration_news(moving.id, &verifying, NOW_US).await.unwrap();
    assert_conflict(store.delete_host(&host("h1")).await, "has 1 unfinished migrations");
    let verified = MigrationNews { verification: Some("equal".to_owned()), ..MigrationNews::default() };
    store.record_migration_news(moving.id, &verified, NOW_US).await.unwrap();
    store.delete_host(&host("h1")).await.unwrap();
    assert_eq!(store.migration(moving.id).await.unwrap().source, host("h1"), "the record of the move stays");

    // Another host says that it owns the server: what was claimed on the first one is still there.
    store.record_certificate(&host("h1"), "joined anew", NOW_US).await.unwrap();
    let news = InstanceNews {
        id: new.spec.id,
        host: host("h1"),
        owned_epoch: Epoch(9),
        power: PowerState::Running,
        failure: None,
        write_bps: 0,
    };
    assert!(store.record_instance_news(&news, NOW_US).await.unwrap());
    assert_conflict(store.delete_host(&host("h2")).await, "host 'h2' has 1 servers");
    store.delete_instance(new.spec.id).await.unwrap();
    store.delete_host(&host("h2")).await.unwrap();
    store.delete_host(&host("h1")).await.unwrap();
    assert!(store.list_hosts(&PageAsk::default()).await.unwrap().items.is_empty());
}

pub async fn are_used_by_what_lives_there_and_what_comes(database: Database) {
    let store = database.with_hosts().await;
    let (one, two) = (instance(1, "one", "h1"), instance(2, "two", "h1"));
    create_idle(&store, &one).await;
    store.create_instance(&two, |_| Ok(())).await.unwrap();
    let news = InstanceNews {
        id: one.spec.id,
        host: host("h1"),
        owned_epoch: Epoch::FIRST,
        power: PowerState::Paused,
        failure: None,
        write_bps: 0,
    };
    assert!(store.record_instance_news(&news, NOW_US).await.unwrap());
    let used = |running, with_task, claimed: &[u128]| HostUse {
        running,
        with_task,
        vcpus: 2 * claimed.len() as u64,
        ram_mb: ROOM.ram_mb * claimed.len() as u64,
        virtual_bytes: ROOM.disk_bytes * claimed.len() as u64,
        disk_claims: claimed.iter().map(|number| (instance(*number, "", "h1").spec.id, ROOM.disk_bytes)).collect(),
    };
    let want = BTreeMap::from([(host("h1"), used(1, 1, &[1, 2]))]);
    assert_eq!(store.host_uses(None).await.unwrap(), want);
    store.create_migration(&migration(10, &one, "h2"), |_| Ok(())).await.unwrap();
    let want = BTreeMap::from([(host("h1"), used(1, 2, &[1, 2])), (host("h2"), used(0, 0, &[1]))]);
    assert_eq!(store.host_uses(None).await.unwrap(), want);
    assert_eq!(store.host_uses(Some(&host("h2"))).await.unwrap(), BTreeMap::from([(host("h2"), used(0, 0, &[1]))]));
    assert!(store.host_uses(Some(&host("h3"))).await.unwrap().is_empty());
    store.change_task(two.spec.id, Some(TaskState::Building), None, NOW_US).await.unwrap();
    assert_eq!(store.host_uses(None).await.unwrap()[&host("h1")].with_task, 1);
}

async fn make(store: &Store, number: u128, name: &str, zone: Option<&str>) -> AggregateRow {
    let zone = zone.map(str::to_owned);
    store
        .create_aggregate(&NewAggregate { uuid: uuid(number), name: name.to_owned(), zone, created_us: NOW_US })
        .await
        .unwrap()
}

fn entries(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
}

fn hosts_of(row: &AggregateRow) -> Vec<&str> {
    row.hosts.iter().map(HostName::as_str).collect()
}

pub async fn are_put_together(database: Database) {
    let store = database.with_hosts().await;
    let fast = make(&store, 1, "fast", None).await;
    let near = make(&store, 2, "near", Some("rack-1")).await;
    assert_eq!((fast.id, near.id, near.uuid, near.updated_us), (1, 2, uuid(2), None));
    assert_eq!(near.metadata, BTreeMap::from([("availability_zone".to_owned(), "rack-1".to_owned())]));
    let twice = NewAggregate { uuid: uuid(3), name: "fast".to_owned(), zone: None, created_us: NOW_US };
    assert_conflict(store.create_aggregate(&twice).await, "aggregate 'fast' exists already");
    assert_eq!(make(&store, 4, "third", None).await.id, 3, "one that was not made takes no number");

    for name in ["h2", "h1"] {
        store.add_aggregate_host(fast.id, &host(name), NOW_US + 1).await.unwrap();
    }
    assert_conflict(store.add_aggregate_host(fast.id, &host("h1"), NOW_US).await, "is in the aggregate already");
    assert_not_found(store.add_aggregate_host(fast.id, &host("h9"), NOW_US).await, "host", "h9");
    assert_not_found(store.add_aggregate_host(9, &host("h1"), NOW_US).await, "aggregate", "9");
    store
        .change_aggregate(fast.id, Some("faster"), &entries(&[("ssd", Some("true")), ("a", Some("1"))]), NOW_US + 2)
        .await
        .unwrap();
    store.change_aggregate(fast.id, None, &entries(&[("a", None), ("none", None)]), NOW_US + 3).await.unwrap();
    let now = store.aggregate(fast.id).await.unwrap();
    assert_eq!((now.name.as_str(), hosts_of(&now), now.updated_us), ("faster", vec!["h1", "h2"], Some(NOW_US + 3)));
    assert_eq!(now.metadata, BTreeMap::from([("ssd".to_owned(), "true".to_owned())]));
    assert_conflict(
        store.change_aggregate(fast.id, Some("near"), &entries(&[]), NOW_US).await,
        "'near' exists already",
    );
    assert_eq!(store.list_aggregates().await.unwrap()[0], now);

    assert_conflict(store.delete_aggregate(fast.id).await, "has 2 hosts: remove them first");
    store.remove_aggregate_host(fast.id, &host("h1"), NOW_US).await.unwrap();
    assert_not_found(store.remove_aggregate_host(fast.id, &host("h1"), NOW_US).await, "host", "h1");
    store.delete_host(&host("h2")).await.unwrap();
    assert!(store.aggregate(fast.id).await.unwrap().hosts.is_empty(), "a host that is gone is in no aggregate");
    store.delete_aggregate(fast.id).await.unwrap();
    assert_not_found(store.delete_aggregate(fast.id).await, "aggregate", "1");
    let left: Vec<String> = store.list_aggregates().await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(left, ["near", "third"]);
}

pub async fn have_one_zone_and_keep_it_while_servers_live_there(database: Database) {
    let store = database.with_hosts().await;
    let (one, two) = (make(&store, 1, "one", Some("z1")).await, make(&store, 2, "two", Some("z2")).await);
    let same = make(&store, 3, "same", Some("z1")).await;
    let plain = make(&store, 4, "plain", None).await;
    let zone = |zone: Option<&str>| entries(&[("availability_zone", zone)]);
    let add = async |row: &AggregateRow, name: &str| store.add_aggregate_host(row.id, &host(name), NOW_US).await;
    add(&one, "h1").await.unwrap();
    add(&same, "h1").await.unwrap();
    add(&plain, "h1").await.unwrap();
    let two_zones = "host 'h1' would be in 2 availability zones at once (z1, z2)";
    assert_conflict(add(&two, "h1").await, two_zones);
    assert!(store.aggregate(two.id).await.unwrap().hosts.is_empty(), "what is refused is not written");
    assert_conflict(store.change_aggregate(plain.id, None, &zone(Some("z2")), NOW_US).await, two_zones);
    store.change_aggregate(plain.id, None, &zone(Some("z1")), NOW_US).await.unwrap();
    store.change_aggregate(plain.id, None, &zone(None), NOW_US).await.unwrap();

    store.create_instance(&instance(1, "vm", "h2"), |_| Ok(())).await.unwrap();
    let busy = "host 'h2' has 1 servers and would change its availability zone from 'nova' to 'z2'";
    assert_conflict(add(&two, "h2").await, busy);
    add(&plain, "h2").await.unwrap();
    assert_conflict(store.change_aggregate(plain.id, None, &zone(Some("z1")), NOW_US).await, "from 'nova' to 'z1'");
    let usual = make(&store, 5, "usual", Some("nova")).await;
    add(&usual, "h2").await.unwrap();
    store.change_aggregate(usual.id, Some("as before"), &zone(Some("nova")), NOW_US).await.unwrap();
    store.remove_aggregate_host(usual.id, &host("h2"), NOW_US).await.unwrap();
    store.create_instance(&instance(2, "vm", "h1"), |_| Ok(())).await.unwrap();
    store.remove_aggregate_host(same.id, &host("h1"), NOW_US).await.unwrap();
    let removed = store.remove_aggregate_host(one.id, &host("h1"), NOW_US).await;
    assert_conflict(removed, "from 'z1' to 'nova': move them first");
}
