//! What users have besides servers, and what counts against their quotas.

use sqlx::AnyPool;
use whimbrel_core::{
    id::InstanceId,
    identity::{ProjectId, UserId},
    quota::{ProjectUse, Quota, Said, UNLIMITED},
};
use whimbrel_store::{
    GroupLimits, GroupPolicy, GroupRules, HostLoad, KeyKind, NewKeyPair, PageAsk, ProjectRow, ServerGroupRow, Store,
    StoreError,
};

use crate::{
    books::{assert_conflict, assert_not_found},
    fixture::{Database, NOW_US, ROOM, instance, uuid},
};

fn user(id: &str) -> UserId {
    id.parse().unwrap()
}

fn project(id: &str) -> ProjectId {
    id.parse().unwrap()
}

fn key(owner: &str, name: &str) -> NewKeyPair {
    NewKeyPair {
        user: user(owner),
        name: name.to_owned(),
        kind: KeyKind::Ssh,
        public_key: format!("ssh-ed25519 {name}"),
        fingerprint: "aa:bb".to_owned(),
        created_us: NOW_US,
    }
}

async fn names(store: &Store, owner: &str) -> Vec<String> {
    let page = store.list_key_pairs(&user(owner), &PageAsk::default()).await.unwrap();
    page.items.into_iter().map(|pair| pair.name).collect()
}

pub async fn a_key_pair_is_its_users(database: Database) {
    let store = database.store().await;
    for (owner, name) in [("u1", "b"), ("u1", "a"), ("u2", "a")] {
        assert!(store.create_key_pair(&key(owner, name), UNLIMITED).await.unwrap());
    }
    assert_conflict(store.create_key_pair(&key("u1", "a"), UNLIMITED).await, "exists already");
    assert!(!store.create_key_pair(&key("u1", "c"), 2).await.unwrap());
    assert_eq!(
        (names(&store, "u1").await, names(&store, "u2").await),
        (vec!["a".into(), "b".into()], vec!["a".into()])
    );
    let pair = store.key_pair(&user("u2"), "a").await.unwrap();
    assert_eq!((&pair.public_key, pair.kind, pair.created_us), (&key("u2", "a").public_key, KeyKind::Ssh, NOW_US));
    let other = store.key_pair(&user("u1"), "a").await.unwrap();
    assert_ne!(other.number, pair.number);
    let page = store.list_key_pairs(&user("u1"), &PageAsk { limit: Some(1), marker: None }).await.unwrap();
    assert_eq!(page.next.as_deref(), Some("a"));
    let rest = store.list_key_pairs(&user("u1"), &PageAsk { limit: Some(1), marker: page.next }).await.unwrap();
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("b", None));

    store.delete_key_pair(&user("u1"), "a").await.unwrap();
    assert_not_found(store.delete_key_pair(&user("u1"), "a").await, "key pair", "a");
    assert_not_found(store.key_pair(&user("u1"), "a").await, "key pair", "a");
    assert_eq!(names(&store, "u2").await, ["a"]);
    let before = pair.number;
    assert!(store.create_key_pair(&key("u1", "c"), 2).await.unwrap());
    assert!(store.key_pair(&user("u1"), "c").await.unwrap().number > before, "a number was given twice");
}

pub async fn the_last_key_pair_is_made_once(database: Database) {
    let store = database.store().await;
    let keys: Vec<NewKeyPair> = (0..5).map(|number| key("u1", &format!("k{number}"))).collect();
    let one = |number: usize| store.create_key_pair(&keys[number], 2);
    let made = tokio::join!(one(0), one(1), one(2), one(3), one(4));
    let made = [made.0, made.1, made.2, made.3, made.4].map(Result::unwrap);
    assert_eq!(made.iter().filter(|made| **made).count(), 2, "{made:?}");
    assert_eq!(names(&store, "u1").await.len(), 2);
}

pub async fn quotas_are_what_was_said(database: Database) {
    let store = database.store().await;
    let said = |pairs: &[(Quota, i64)]| pairs.iter().copied().collect::<Said>();
    let (p1, p2, u1, u2) = (project("p1"), project("p2"), user("u1"), user("u2"));
    assert!(store.class_quotas("default").await.unwrap().is_empty());
    store.set_class_quotas("default", &said(&[(Quota::Cores, 1), (Quota::Ram, 2)])).await.unwrap();
    store.set_class_quotas("default", &said(&[(Quota::Ram, UNLIMITED)])).await.unwrap();
    assert_eq!(store.class_quotas("default").await.unwrap(), said(&[(Quota::Cores, 1), (Quota::Ram, UNLIMITED)]));
    assert!(store.class_quotas("other").await.unwrap().is_empty());

    store.set_quotas(&p1, None, &said(&[(Quota::Cores, 5), (Quota::FixedIps, 7)])).await.unwrap();
    store.set_quotas(&p1, Some(&u1), &said(&[(Quota::Cores, 3)])).await.unwrap();
    store.set_quotas(&p1, Some(&u2), &said(&[(Quota::Cores, 1), (Quota::Ram, UNLIMITED)])).await.unwrap();
    store.set_quotas(&p1, Some(&u1), &said(&[(Quota::Cores, 2)])).await.unwrap();
    store.set_quotas(&p2, None, &said(&[(Quota::Cores, 6)])).await.unwrap();
    let quotas = store.project_quotas(&p1).await.unwrap();
    assert_eq!(quotas.project, said(&[(Quota::Cores, 5), (Quota::FixedIps, 7)]));
    assert_eq!(quotas.users[&u1], said(&[(Quota::Cores, 2)]));
    let given = |quota, but| quotas.given(quota, but);
    assert_eq!((given(Quota::Cores, None), given(Quota::Cores, Some(&u1)), given(Quota::Ram, None)), (3, 1, 0));

    store.forget_quotas(&p1, Some(&u1)).await.unwrap();
    let quotas = store.project_quotas(&p1).await.unwrap();
    assert_eq!((quotas.users.len(), quotas.project.len()), (1, 2));
    store.forget_quotas(&p1, None).await.unwrap();
    assert_eq!(store.project_quotas(&p1).await.unwrap(), Default::default());
    assert_eq!(store.project_quotas(&p2).await.unwrap().project, said(&[(Quota::Cores, 6)]));

    let (domain, gone) = ("default".parse().unwrap(), p2.clone());
    let row = whimbrel_store::DomainRow {
        id: domain,
        name: "Default".to_owned(),
        description: String::new(),
        enabled: true,
        generation: 0,
        created_us: NOW_US,
    };
    store.create_domain(&row).await.unwrap();
    let row = ProjectRow {
        id: gone,
        domain: row.id,
        name: "p2".to_owned(),
        description: String::new(),
        enabled: true,
        generation: 0,
        created_us: NOW_US,
    };
    store.create_project(&row).await.unwrap();
    store.delete_project(&p2).await.unwrap();
    assert_eq!(store.project_quotas(&p2).await.unwrap(), Default::default(), "quotas outlived their project");
}

/// Servers 1, 2, ... of these projects and users, on host h1.
async fn with_servers(database: &Database, owners: &[(&str, &str)]) -> Store {
    let store = database.with_hosts().await;
    let pool = AnyPool::connect(&database.url).await.unwrap();
    for (number, (project, user)) in (1..).zip(owners) {
        let mut new = instance(number, &format!("vm{number}"), "h1");
        new.created_us = NOW_US + i64::try_from(number).unwrap();
        store.create_instance(&new, |_| Ok(())).await.unwrap();
        sqlx::query("UPDATE instances SET project = $2, user_id = $3 WHERE id = $1")
            .bind(new.spec.id.to_string())
            .bind(*project)
            .bind(*user)
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    store
}

pub async fn use_is_what_servers_take(database: Database) {
    let store = with_servers(&database, &[("p1", "u1"), ("p1", "u2"), ("p2", "u1"), ("", "")]).await;
    let of = |servers: u64| ProjectUse { instances: servers, cores: 2 * servers, ram_mb: servers * ROOM.ram_mb };
    assert_eq!(store.project_use(&project("p1")).await.unwrap(), of(2));
    assert_eq!(store.user_use(&project("p1"), &user("u1")).await.unwrap(), of(1));
    assert_eq!(store.user_use(&project("p2"), &user("u2")).await.unwrap(), of(0));
    assert_eq!(store.project_use(&project("p3")).await.unwrap(), of(0));
    store.delete_instance(InstanceId(uuid(1))).await.unwrap();
    assert_eq!(store.project_use(&project("p1")).await.unwrap(), of(1));
}

fn group(number: u128, of: &str, owner: &str) -> ServerGroupRow {
    ServerGroupRow {
        id: uuid(number),
        project: project(of),
        user: user(owner),
        name: "same".to_owned(),
        policy: GroupPolicy::SoftAntiAffinity,
        rules: GroupRules { max_server_per_host: Some(3) },
        members: Vec::new(),
        created_us: NOW_US,
    }
}

const ANY: GroupLimits = GroupLimits { of_project: UNLIMITED, of_user: UNLIMITED };

pub async fn server_groups_are_limited_by_project_and_user(database: Database) {
    let store = database.store().await;
    let create = async |number, of, owner, limits| store.create_server_group(&group(number, of, owner), limits).await;
    let three = GroupLimits { of_project: 3, of_user: 2 };
    assert!(create(1, "p1", "u1", three).await.unwrap());
    assert!(create(2, "p1", "u1", three).await.unwrap());
    assert!(!create(3, "p1", "u1", three).await.unwrap(), "above the user's limit");
    assert!(create(4, "p1", "u2", three).await.unwrap());
    assert!(!create(5, "p1", "u3", three).await.unwrap(), "above the project's limit");
    assert!(create(6, "p2", "u1", three).await.unwrap());
    assert_conflict(create(6, "p2", "u1", ANY).await, "exists already");
    assert_eq!(store.server_group(uuid(4)).await.unwrap(), group(4, "p1", "u2"));
    assert_not_found(store.server_group(uuid(3)).await, "server group", &uuid(3).to_string());
    let count = async |of, owner: Option<&str>| {
        store.count_server_groups(&project(of), owner.map(user).as_ref()).await.unwrap()
    };
    assert_eq!((count("p1", None).await, count("p1", Some("u1")).await, count("p3", None).await), (3, 2, 0));
    let list = async |of: Option<&str>| {
        let page = store.list_server_groups(of.map(project).as_ref(), &PageAsk::default()).await.unwrap();
        page.items.into_iter().map(|group| group.id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!((list(Some("p1")).await, list(None).await), (vec![1, 2, 4], vec![1, 2, 4, 6]));
    store.delete_server_group(uuid(1)).await.unwrap();
    assert_not_found(store.delete_server_group(uuid(1)).await, "server group", &uuid(1).to_string());
    assert_eq!(list(Some("p1")).await, [2, 4]);
}

pub async fn the_last_server_group_is_made_once(database: Database) {
    let store = database.store().await;
    let groups: Vec<ServerGroupRow> = (1..=4).map(|number| group(number, "p1", "u1")).collect();
    let limits = GroupLimits { of_project: 1, of_user: UNLIMITED };
    let one = |number: usize| store.create_server_group(&groups[number], limits);
    let made = tokio::join!(one(0), one(1), one(2), one(3));
    let made = [made.0, made.1, made.2, made.3].map(Result::unwrap);
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
}

pub async fn members_are_servers_that_are_there(database: Database) {
    let store = with_servers(&database, &[("p1", "u1"), ("p1", "u1"), ("p1", "u2")]).await;
    for number in [1, 2] {
        assert!(store.create_server_group(&group(number, "p1", "u1"), ANY).await.unwrap());
    }
    let server = |number| InstanceId(uuid(number));
    let join = async |number, owner, limit| store.join_server_group(uuid(1), server(number), &user(owner), limit).await;
    assert!(join(2, "u1", 2).await.unwrap());
    assert!(join(1, "u1", 2).await.unwrap());
    assert!(!join(9, "u1", 2).await.unwrap(), "above the user's limit");
    assert!(join(3, "u2", 1).await.unwrap(), "members of another user were counted");
    assert_conflict(join(3, "u2", 9).await, "is in the group already");
    assert!(join(7, "u2", 9).await.unwrap(), "a place is taken before its server is there");
    let nowhere = store.join_server_group(uuid(8), server(1), &user("u1"), 9).await;
    assert_not_found(nowhere, "server group", &uuid(8).to_string());

    let members = async |group: u128| store.server_group(uuid(group)).await.unwrap().members;
    assert_eq!(members(1).await, [server(1), server(2), server(3)]);
    assert!(members(2).await.is_empty());
    store.delete_instance(server(2)).await.unwrap();
    assert_eq!(members(1).await, [server(1), server(3)]);
    let listed = store.list_server_groups(Some(&project("p1")), &PageAsk::default()).await.unwrap().items;
    assert_eq!((listed[0].members.as_slice(), listed[1].members.len()), (&[server(1), server(3)][..], 0));
    assert!(join(2, "u1", 2).await.unwrap(), "its place went with it");
    store.delete_server_group(uuid(1)).await.unwrap();
    assert!(store.create_server_group(&group(1, "p1", "u1"), ANY).await.unwrap());
    assert!(members(1).await.is_empty(), "places outlived their group");
}

pub async fn usage_goes_by_project_and_server(database: Database) {
    let store = with_servers(&database, &[("p2", "u"), ("p1", "u"), ("p2", "u"), ("", ""), ("p1", "u")]).await;
    let list = async |of: Option<&str>, until_us, limit, marker: Option<u128>| {
        let ask = PageAsk { limit: Some(limit), marker: marker.map(|number| uuid(number).to_string()) };
        let page = store.list_usage(of.map(project).as_ref(), until_us, &ask).await?;
        let seen: Vec<u128> = page.items.iter().map(|server| server.id.0.as_u128()).collect();
        Ok::<_, StoreError>((seen, page.next.map(|next| next.parse::<InstanceId>().unwrap().0.as_u128())))
    };
    let later = NOW_US + 100;
    assert_eq!(list(None, later, 9, None).await.unwrap(), (vec![2, 5, 1, 3], None));
    assert_eq!(list(None, later, 3, None).await.unwrap(), (vec![2, 5, 1], Some(1)));
    assert_eq!(list(None, later, 3, Some(1)).await.unwrap(), (vec![3], None));
    assert_eq!(list(Some("p2"), later, 1, None).await.unwrap(), (vec![1], Some(1)));
    assert_eq!(list(Some("p2"), later, 1, Some(1)).await.unwrap(), (vec![3], None));
    assert_eq!(list(None, NOW_US + 3, 9, None).await.unwrap(), (vec![2, 1], None), "not those that came later");
    assert_not_found(list(None, later, 9, Some(77)).await, "server", &uuid(77).to_string());
    let row = store.list_usage(Some(&project("p2")), later, &PageAsk::default()).await.unwrap().items.remove(0);
    assert_eq!((row.name.as_str(), row.project, row.has_failed, row.power), ("vm1", project("p2"), false, None));
    assert_eq!((row.spec.vcpus, row.created_us), (2, NOW_US + 1));
}

pub async fn a_group_is_counted_where_a_place_is_taken(database: Database) {
    let store = database.with_hosts().await;
    assert!(store.create_server_group(&group(1, "p1", "u1"), ANY).await.unwrap());
    let new = |number: u128, at: &str| {
        let mut new = instance(number, &format!("vm{number}"), at);
        new.owner.user = Some(user("u1"));
        new.details.group = Some(uuid(1));
        new.group_members_max = 3;
        new
    };
    let create = async |number, at: &str, want: (u32, u32)| {
        let looked = |load: &HostLoad| {
            assert_eq!((load.group_here, load.group_elsewhere), want, "server {number} at {at}");
            Ok(())
        };
        store.create_instance(&new(number, at), looked).await
    };
    create(1, "h1", (0, 0)).await.unwrap();
    create(2, "h2", (0, 1)).await.unwrap();
    assert_eq!(store.server_group(uuid(1)).await.unwrap().members.len(), 2, "a place comes with the server");
    // One that moves counts at both ends.
    let building = Some(whimbrel_store::TaskState::Building);
    store.change_task(new(2, "h2").spec.id, building, None, NOW_US).await.unwrap();
    let moving = crate::fixture::migration(9, &new(2, "h2"), "h1");
    let looked = |load: &HostLoad| {
        assert_eq!((load.group_here, load.group_elsewhere), (1, 0), "it is no neighbour of itself");
        Ok(())
    };
    store.create_migration(&moving, looked).await.unwrap();
    create(3, "h1", (2, 1)).await.unwrap();
    let full = create(4, "h3", (0, 4)).await.expect_err("a fourth one");
    assert!(matches!(&full, StoreError::Refused { reasons } if reasons[0].detail.contains("Quota")), "{full:?}");
    let gone = store.instance("vm4").await;
    assert_not_found(gone, "server", "vm4");
}
