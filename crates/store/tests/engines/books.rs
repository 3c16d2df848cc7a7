//! Flavors, images, hosts, tokens, instances and the room that they take.

use std::{collections::BTreeMap, time::Duration};

use sqlx::AnyPool;
use whimbrel_core::{
    disk::DiskFormat,
    failure::{Failure, FailureCode},
    id::{Epoch, FlavorId, ImageDigest, ImageId},
    identity::ProjectId,
    instance::PowerState,
};
use whimbrel_store::{
    ApiToken, Desired, Engine, FlavorRow, Heard, HostLoad, HostState, ImageDisk, ImageRow, InstanceNews, NewJoinToken,
    PageAsk, Pulse, Store, StoreError, TaskState, TokenRole,
};

use crate::fixture::{Database, NOW_US, ROOM, create_idle, facts, host, instance, uuid};

pub fn assert_not_found<T: std::fmt::Debug>(result: Result<T, StoreError>, object: &str, id: &str) {
    match result {
        Err(StoreError::NotFound { object: what, id: which }) => assert_eq!((what, which.as_str()), (object, id)),
        other => panic!("no {object} '{id}' expected, not {other:?}"),
    }
}

pub fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>, reason: &str) {
    match result {
        Err(error @ StoreError::Conflict { .. }) => assert!(error.to_string().contains(reason), "{error}"),
        other => panic!("a conflict that says '{reason}' expected, not {other:?}"),
    }
}

fn flavor(number: u128, name: &str) -> FlavorRow {
    FlavorRow {
        id: FlavorId(uuid(number)),
        name: name.to_owned(),
        vcpus: 2,
        ram_mb: 4096,
        disk_gb: 10,
        ephemeral_gb: 30,
        swap_mb: 512,
        flavorid: number.to_string(),
        rxtx_factor: 1.5,
        public: true,
        description: Some("a size".to_owned()),
        created_us: NOW_US,
    }
}

pub async fn flavors(database: Database) {
    let store = database.store().await;
    let medium = flavor(1, "m1.medium");
    store.create_flavor(&medium).await.unwrap();
    assert_conflict(store.create_flavor(&flavor(2, "m1.medium")).await, "flavor 'm1.medium' exists already");
    assert_eq!(store.flavor("m1.medium").await.unwrap(), medium);
    assert_eq!(store.flavor(&medium.id.to_string()).await.unwrap(), medium);
    assert_not_found(store.flavor("m1.large").await, "flavor", "m1.large");
    assert_eq!(store.flavor_by_flavorid("1").await.unwrap(), medium);
    assert_not_found(store.flavor_by_flavorid("m1.medium").await, "flavor", "m1.medium");
    let same_flavorid = FlavorRow { name: "other".to_owned(), flavorid: "1".to_owned(), ..flavor(3, "other") };
    assert_conflict(store.create_flavor(&same_flavorid).await, "exists already");
    store.describe_flavor(medium.id, None).await.unwrap();
    assert_eq!(store.flavor("m1.medium").await.unwrap().description, None);
    store.delete_flavor(medium.id).await.unwrap();
    assert_not_found(store.delete_flavor(medium.id).await, "flavor", &medium.id.to_string());
    assert!(store.list_flavors(&PageAsk::default()).await.unwrap().items.is_empty());
}

pub async fn flavors_have_extra_specs_and_access(database: Database) {
    let store = database.store().await;
    let (one, other) = (flavor(1, "one"), flavor(2, "other"));
    for each in [&one, &other] {
        store.create_flavor(each).await.unwrap();
    }
    let specs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    store.set_extra_specs(one.id, &specs(&[("a", "1"), ("b", "2")])).await.unwrap();
    store.set_extra_specs(one.id, &specs(&[("b", "3"), ("c", "4")])).await.unwrap();
    assert_eq!(store.extra_specs(Some(one.id)).await.unwrap()[&one.id], specs(&[("a", "1"), ("b", "3"), ("c", "4")]));
    assert!(!store.extra_specs(None).await.unwrap().contains_key(&other.id));
    store.remove_extra_spec(one.id, "a").await.unwrap();
    assert_not_found(store.remove_extra_spec(one.id, "a").await, "extra spec", "a");

    let (p1, p2): (ProjectId, ProjectId) = ("p1".parse().unwrap(), "p2".parse().unwrap());
    store.allow_flavor(one.id, &p2).await.unwrap();
    store.allow_flavor(one.id, &p1).await.unwrap();
    assert_conflict(store.allow_flavor(one.id, &p1).await, "has access already");
    assert_eq!(store.flavor_access(None).await.unwrap()[&one.id], [p1.clone(), p2.clone()]);
    store.forbid_flavor(one.id, &p2).await.unwrap();
    assert_not_found(store.forbid_flavor(one.id, &p2).await, "access of project", "p2");
    assert_eq!(store.flavor_access(Some(one.id)).await.unwrap()[&one.id], [p1]);
    store.delete_flavor(one.id).await.unwrap();
    assert!(store.flavor_access(None).await.unwrap().is_empty());
    assert!(store.extra_specs(None).await.unwrap().is_empty());
}

pub async fn images(database: Database) {
    let store = database.store().await;
    let digest: ImageDigest = "ab".repeat(32).parse().unwrap();
    let image = |number| ImageRow {
        id: ImageId(uuid(number)),
        name: "debian".to_owned(),
        os_command_line: Some("console=ttyS0 'quoted'".to_owned()),
        disk: None,
        kernel: None,
        ramdisk: None,
        created_us: NOW_US,
    };
    let disk =
        ImageDisk { digest: digest.clone(), format: DiskFormat::Qcow2, file_bytes: 1 << 30, virtual_bytes: 10 << 30 };
    store.create_image(&image(1)).await.unwrap();
    assert_eq!(store.image("debian").await.unwrap(), image(1));
    let id = image(1).id;
    store.set_image_parts(id, None, Some(&digest), None, NOW_US).await.unwrap();
    store.set_image_parts(id, Some(&disk), None, None, NOW_US).await.unwrap();
    let whole = ImageRow { disk: Some(disk), kernel: Some(digest.clone()), ..image(1) };
    assert_eq!(store.image(&id.to_string()).await.unwrap(), whole);
    assert_not_found(
        store.set_image_parts(image(3).id, None, None, Some(&digest), NOW_US).await,
        "image",
        &image(3).id.to_string(),
    );

    store.create_image(&image(2)).await.unwrap();
    assert_conflict(store.create_image(&image(2)).await, "exists already");
    assert_conflict(store.image("debian").await, "is the name of several: use an id");
    assert_eq!(store.list_images(&PageAsk::default()).await.unwrap().items, [whole, image(2)]);
    store.delete_image(id).await.unwrap();
    assert_not_found(store.delete_image(id).await, "image", &id.to_string());
    assert_eq!(store.image("debian").await.unwrap(), image(2));
}

async fn beat(store: &Store, control_url: &str, now_us: i64) -> Heard {
    let pulse = Pulse {
        host: host("h1"),
        control_url: control_url.to_owned(),
        facts: Some(facts("h1")),
        reported: None,
        instances: Vec::new(),
    };
    store.record_pulses(&[pulse], now_us).await.unwrap().remove(0)
}

pub async fn hosts(database: Database) {
    let store = database.store().await;
    assert!(!beat(&store, "https://192.0.2.1", 1).await.known);
    store.record_certificate(&host("h1"), "aa", NOW_US).await.unwrap();
    let joined = store.host(&host("h1")).await.unwrap();
    assert_eq!((joined.state, joined.facts, joined.last_seen_us), (HostState::Down, None, 0));
    store.record_certificate(&host("h1"), "bb", NOW_US + 9).await.unwrap();

    assert!(beat(&store, "https://192.0.2.1", 100).await.came_up);
    assert!(!beat(&store, "https://192.0.2.2", 200).await.came_up, "it was up");
    let seen = store.host(&host("h1")).await.unwrap();
    assert_eq!((seen.state, seen.last_seen_us, seen.joined_us), (HostState::Up, 200, NOW_US));
    assert_eq!(seen.certificate_serial, "bb");
    assert_eq!((seen.facts, seen.control_url.as_deref()), (Some(facts("h1")), Some("https://192.0.2.2")));

    assert!(store.mark_silent_hosts_down(200).await.unwrap().is_empty(), "seen at 200");
    assert_eq!(store.mark_silent_hosts_down(201).await.unwrap(), [host("h1")]);
    assert!(store.mark_silent_hosts_down(201).await.unwrap().is_empty(), "told once");
    assert_eq!(store.host(&host("h1")).await.unwrap().state, HostState::Down);
    assert!(beat(&store, "https://192.0.2.2", 300).await.came_up, "it came back");
    assert_not_found(store.host(&host("h2")).await, "host", "h2");
    store.create_instance(&instance(1, "vm", "h1"), |_| Ok(())).await.unwrap();
    assert_eq!(store.list_hosts(&PageAsk::default()).await.unwrap().items[0].instances, 1);
    assert_eq!(store.count_hosts().await.unwrap(), 1);
}

pub async fn a_join_token_is_used_once(database: Database) {
    let store = database.store().await;
    let hash = "0123456789abcdef".repeat(4);
    let token = NewJoinToken { hash: hash.clone(), host: host("h1"), created_us: 10, expires_us: 100 };
    store.create_join_token(&token).await.unwrap();
    assert_conflict(store.create_join_token(&token).await, "exists already");
    assert_conflict(store.use_join_token(&hash, &host("h2"), 50).await, "is for host 'h1', not for 'h2'");
    assert_conflict(store.use_join_token(&hash, &host("h1"), 100).await, "has expired");
    assert_not_found(store.use_join_token("ff", &host("h1"), 50).await, "join token", "ff");
    let (h1, at) = (host("h1"), 99);
    let uses = tokio::join!(store.use_join_token(&hash, &h1, at), store.use_join_token(&hash, &h1, at));
    assert_eq!([uses.0.is_ok(), uses.1.is_ok()].iter().filter(|&&used| used).count(), 1, "{uses:?}");
    let late = store.use_join_token(&hash, &h1, at).await;
    assert!(!format!("{late:?}").contains(&hash), "the whole hash is in an error");
    assert_conflict(late, "was used already");
    assert_eq!(store.forget_join_tokens(100).await.unwrap(), 0);
    assert_eq!(store.forget_join_tokens(101).await.unwrap(), 1);
}

pub async fn api_tokens(database: Database) {
    let store = database.store().await;
    let token = |name: &str, hash: &str, role| ApiToken {
        name: name.to_owned(),
        hash: hash.to_owned(),
        role,
        created_us: NOW_US,
    };
    let admin = token("root", "h0", TokenRole::Admin);
    store.create_api_token(&admin).await.unwrap();
    store.create_api_token(&token("look", "h1", TokenRole::Reader)).await.unwrap();
    assert_conflict(store.create_api_token(&token("root", "h2", TokenRole::Member)).await, "'root' exists already");
    assert_eq!(store.api_token_by_hash("h0").await.unwrap(), Some(admin));
    assert_eq!(store.api_token_by_hash("h2").await.unwrap(), None);
    let names: Vec<String> =
        store.list_api_tokens(&PageAsk::default()).await.unwrap().items.into_iter().map(|token| token.name).collect();
    assert_eq!(names, ["look", "root"]);
    store.delete_api_token("look").await.unwrap();
    assert_not_found(store.delete_api_token("look").await, "API token", "look");
    assert_eq!(store.api_token_by_hash("h1").await.unwrap(), None);
}

pub async fn pages(database: Database) {
    let store = database.store().await;
    for number in (1..=5).rev() {
        store.create_flavor(&flavor(number, &format!("f{number}"))).await.unwrap();
    }
    let mut ask = PageAsk { limit: Some(2), marker: None };
    let mut seen = Vec::new();
    loop {
        let page = store.list_flavors(&ask).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|flavor| flavor.name));
        match page.next {
            Some(next) => ask.marker = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ["f1", "f2", "f3", "f4", "f5"]);
    let whole = store.list_flavors(&PageAsk { limit: Some(5), marker: None }).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (5, None), "a page that is just full has no next");
    let none = store.list_flavors(&PageAsk { limit: Some(0), marker: None }).await.unwrap();
    assert_eq!(none.items.len(), 1, "a page of nothing would never end");
}

pub async fn instances(database: Database) {
    let store = database.with_hosts().await;
    let (one, two) = (instance(1, "vm", "h1"), instance(2, "vm", "h2"));
    let into_empty = |load: &HostLoad| {
        assert_eq!(*load, HostLoad::default());
        Ok(())
    };
    store.create_instance(&one, into_empty).await.unwrap();
    assert_conflict(store.create_instance(&one, |_| Ok(())).await, "exists already");
    store.create_instance(&two, |_| Ok(())).await.unwrap();
    assert_conflict(store.instance("vm").await, "is the name of several");
    let id = one.spec.id;
    let row = store.instance(&id.to_string()).await.unwrap();
    assert_eq!((row.spec, row.host, row.epoch), (one.spec.clone(), host("h1"), Epoch::FIRST));
    assert_eq!((row.desired, row.task, row.power), (Desired::Running, Some(TaskState::Building), None));

    store.set_desired(id, Desired::Stopped, NOW_US + 1).await.unwrap();
    let failure = Failure::new(FailureCode::QemuFailed, "exit 1").hint("look");
    store.set_instance_failure(id, Some(&failure), NOW_US + 2).await.unwrap();
    let row = store.instance(&id.to_string()).await.unwrap();
    assert_eq!((row.desired, row.failure, row.updated_us), (Desired::Stopped, Some(failure), NOW_US + 2));
    store.set_instance_failure(id, None, NOW_US + 3).await.unwrap();
    assert_eq!(store.instance(&id.to_string()).await.unwrap().failure, None);

    let on_h2 = store.list_instances(Some(&host("h2")), &PageAsk::default()).await.unwrap();
    assert_eq!(on_h2.items.iter().map(|row| row.id).collect::<Vec<_>>(), [two.spec.id]);
    assert_eq!(store.list_instances(None, &PageAsk::default()).await.unwrap().items.len(), 2);
    store.delete_instance(id).await.unwrap();
    assert_not_found(store.delete_instance(id).await, "server", &id.to_string());
    assert_not_found(store.set_desired(id, Desired::Running, 0).await, "server", &id.to_string());
    assert_not_found(store.set_instance_failure(id, None, 0).await, "server", &id.to_string());
    assert_eq!(store.host_load(&host("h1")).await.unwrap(), Default::default(), "its claim went with it");
    assert_eq!(store.host_load(&host("h2")).await.unwrap().ram_mb, ROOM.ram_mb);
}

pub async fn tasks_exclude_each_other(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "vm", "h1");
    let id = new.spec.id;
    create_idle(&store, &new).await;
    store.change_task(id, None, Some(TaskState::Stopping), 1).await.unwrap();
    assert_conflict(store.change_task(id, None, Some(TaskState::Deleting), 1).await, "is stopping");
    assert_conflict(store.change_task(id, Some(TaskState::Starting), None, 1).await, "is stopping");
    store.change_task(id, Some(TaskState::Stopping), None, 1).await.unwrap();
    assert_conflict(store.change_task(id, Some(TaskState::Stopping), None, 1).await, "is idle");
    let gone = instance(2, "", "h1").spec.id;
    assert_not_found(store.change_task(gone, None, None, 1).await, "server", &gone.to_string());
}

pub async fn the_owner_at_the_higher_epoch_is_believed(database: Database) {
    let store = database.with_hosts().await;
    let new = instance(1, "vm", "h1");
    create_idle(&store, &new).await;
    let check = async |at: &str, epoch, believed: bool, now: &str| {
        let news = InstanceNews {
            id: new.spec.id,
            host: host(at),
            owned_epoch: Epoch(epoch),
            power: PowerState::Running,
            failure: None,
            write_bps: 20_000_000,
        };
        let case = format!("{at} at epoch {epoch}");
        assert_eq!(store.record_instance_news(&news, NOW_US).await.unwrap(), believed, "{case}");
        let row = store.instance("vm").await.unwrap();
        assert_eq!(row.host, host(now), "{case}");
        assert_eq!((row.power, row.write_bps), (Some(PowerState::Running), 20_000_000), "{case}");
    };
    check("h1", 1, true, "h1").await;
    check("h2", 1, false, "h1").await;
    check("h2", 2, true, "h2").await;
    check("h1", 1, false, "h2").await;
    check("h1", 2, false, "h2").await;
    check("h1", 3, true, "h1").await;
}

pub async fn the_last_room_is_given_once(database: Database) {
    let store = database.with_hosts().await;
    let capacity_mb = 3 * ROOM.ram_mb;
    let try_one = async |number: u128| {
        let fits = |load: &HostLoad| {
            let free = capacity_mb.saturating_sub(load.ram_mb);
            if free >= ROOM.ram_mb { Ok(()) } else { Err(vec![Failure::new(FailureCode::NoRam, format!("{free} MB"))]) }
        };
        store.create_instance(&instance(number, &format!("vm{number}"), "h1"), fits).await
    };
    let tries = tokio::join!(try_one(1), try_one(2), try_one(3), try_one(4), try_one(5));
    let tries = [tries.0, tries.1, tries.2, tries.3, tries.4];
    assert_eq!(tries.iter().filter(|tried| tried.is_ok()).count(), 3, "{tries:?}");
    for refused in tries.iter().filter_map(|tried| tried.as_ref().err()) {
        assert!(matches!(refused, StoreError::Refused { .. }) && refused.to_string() == "0 MB", "{refused}");
    }
    let load = store.host_load(&host("h1")).await.unwrap();
    assert_eq!((load.instances, load.ram_mb, load.disk_bytes), (3, capacity_mb, 3 * ROOM.disk_bytes));
    assert_eq!(store.list_instances(None, &PageAsk::default()).await.unwrap().items.len(), 3, "no row without a claim");
}

/// Not left to chance, as two at once may not meet: another controller stands in the middle of its claim.
pub async fn a_claim_waits_for_its_turn(database: Database) {
    let store = database.with_hosts().await;
    let pool = AnyPool::connect(&database.url).await.unwrap();
    let begin = if store.engine() == Engine::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut other = pool.begin_with(begin).await.unwrap();
    sqlx::query("UPDATE hosts SET claim_turn = claim_turn + 1 WHERE name = 'h1'").execute(&mut *other).await.unwrap();
    let vm = instance(1, "vm", "h1");
    let mut create = std::pin::pin!(store.create_instance(&vm, |_| Ok(())));
    let early = tokio::time::timeout(Duration::from_millis(200), create.as_mut()).await;
    assert!(early.is_err(), "it claimed beside another: {early:?}");
    other.commit().await.unwrap();
    create.await.unwrap();
}
