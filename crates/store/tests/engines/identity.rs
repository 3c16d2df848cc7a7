//! Domains, projects, users, roles, grants and tokens.

use std::collections::BTreeMap;

use whimbrel_core::identity::DomainId;
use whimbrel_store::{
    DomainRow, GrantFilter, GrantScope, Grantee, IdentityToken, PageAsk, ProjectRow, RoleRow, Store, StoreError,
    UserRow,
};

use crate::{
    books::{assert_conflict, assert_not_found},
    fixture::{Database, NOW_US},
};

fn domain(name: &str) -> DomainRow {
    DomainRow {
        id: name.parse().unwrap(),
        name: name.to_owned(),
        description: "d".to_owned(),
        enabled: true,
        generation: 1,
        created_us: NOW_US,
    }
}

fn project(id: &str, of: &str, name: &str) -> ProjectRow {
    ProjectRow {
        id: id.parse().unwrap(),
        domain: of.parse().unwrap(),
        name: name.to_owned(),
        description: String::new(),
        enabled: true,
        generation: 1,
        created_us: NOW_US,
    }
}

fn user(id: &str, of: &str, name: &str) -> UserRow {
    UserRow {
        id: id.parse().unwrap(),
        domain: of.parse().unwrap(),
        name: name.to_owned(),
        password_hash: Some("$argon2id$".to_owned()),
        enabled: true,
        default_project: None,
        extra: BTreeMap::from([("email".to_owned(), "a@b".to_owned())]),
        generation: 1,
        created_us: NOW_US,
    }
}

fn role(name: &str) -> RoleRow {
    RoleRow { id: name.parse().unwrap(), name: name.to_owned(), description: String::new(), created_us: NOW_US }
}

fn token(hash: &str, user: &str, scope: Option<GrantScope>) -> IdentityToken {
    IdentityToken {
        hash: hash.to_owned(),
        user: user.parse().unwrap(),
        scope,
        methods: vec!["password".to_owned()],
        audit_ids: vec!["a".to_owned()],
        issued_us: NOW_US,
        expires_us: NOW_US + 10,
    }
}

/// Domains d1 and d2; in each a project and a user; the user of d1 is a member of its project and an admin of the system.
async fn peopled(store: &Store) -> (Grantee, Grantee) {
    for name in ["d1", "d2"] {
        store.create_domain(&domain(name)).await.unwrap();
        store.create_project(&project(&format!("p-{name}"), name, "p")).await.unwrap();
        store.create_user(&user(&format!("u-{name}"), name, "u")).await.unwrap();
    }
    for name in ["member", "admin"] {
        store.create_role(&role(name)).await.unwrap();
    }
    let grant = |role: &str, scope| Grantee { user: "u-d1".parse().unwrap(), role: role.parse().unwrap(), scope };
    let of_project = grant("member", GrantScope::Project("p-d1".parse().unwrap()));
    let of_system = grant("admin", GrantScope::System);
    for granted in [&of_project, &of_system, &of_project] {
        store.grant(granted, NOW_US).await.unwrap();
    }
    (of_project, of_system)
}

pub async fn names_are_unique_in_a_domain(database: Database) {
    let store = database.store().await;
    peopled(&store).await;
    assert_conflict(
        store.create_domain(&DomainRow { id: "d3".parse().unwrap(), ..domain("d1") }).await,
        "exists already",
    );
    assert_conflict(store.create_project(&project("p3", "d1", "p")).await, "exists already");
    assert_conflict(store.create_user(&user("u3", "d1", "u")).await, "exists already");
    assert_conflict(store.create_role(&RoleRow { id: "x".parse().unwrap(), ..role("admin") }).await, "exists already");
    let (d1, d2): (DomainId, DomainId) = ("d1".parse().unwrap(), "d2".parse().unwrap());
    assert_eq!(store.project_named(&d2, "p").await.unwrap(), project("p-d2", "d2", "p"));
    assert_eq!(store.user_named(&d1, "u").await.unwrap(), user("u-d1", "d1", "u"));
    assert_eq!(store.user(&"u-d2".parse().unwrap()).await.unwrap().domain, d2);
    assert_eq!(store.domain_named("d1").await.unwrap(), store.domain(&d1).await.unwrap());
    assert_not_found(store.user_named(&d1, "v").await, "user", "v");
    assert_not_found(store.project_named(&d1, "q").await, "project", "q");
    let all = PageAsk::default();
    assert_eq!(store.list_users(None, None, &all).await.unwrap().items.len(), 2);
    assert_eq!(store.list_users(Some(&d1), Some("u"), &all).await.unwrap().items.len(), 1);
    assert_eq!(store.list_projects(Some(&d1), None, &all).await.unwrap().items.len(), 1);
    assert_eq!(store.list_projects(None, Some("q"), &all).await.unwrap().items.len(), 0);
    assert_eq!(store.list_domains(Some("d2"), &all).await.unwrap().items, [domain("d2")]);
    assert_eq!(store.list_roles(None, &all).await.unwrap().items.len(), 2);
    let page = store.list_users(None, None, &PageAsk { limit: Some(1), marker: None }).await.unwrap();
    assert_eq!(page.next.as_deref(), Some("u-d1"));
}

pub async fn a_change_names_what_was_read(database: Database) {
    let store = database.store().await;
    peopled(&store).await;
    let read = store.user(&"u-d1".parse().unwrap()).await.unwrap();
    let renamed = UserRow { name: "v".to_owned(), ..read.clone() };
    store.change_user(&renamed, false).await.unwrap();
    assert_conflict(store.change_user(&read, false).await, "was changed by another");
    assert_eq!(store.user(&read.id).await.unwrap(), UserRow { generation: 2, ..renamed });
    assert_not_found(store.change_user(&UserRow { id: "x".parse().unwrap(), ..read }, false).await, "user", "x");

    let read = store.project(&"p-d1".parse().unwrap()).await.unwrap();
    store.change_project(&ProjectRow { enabled: false, ..read.clone() }).await.unwrap();
    assert_conflict(store.change_project(&read).await, "was changed by another");
    let read = store.domain(&"d1".parse().unwrap()).await.unwrap();
    store.change_domain(&DomainRow { description: "new".to_owned(), ..read.clone() }).await.unwrap();
    assert_conflict(store.change_domain(&read).await, "was changed by another");
    assert_conflict(
        store.change_domain(&DomainRow { name: "d2".to_owned(), generation: 2, ..read }).await,
        "exists already",
    );
    store.change_role(&RoleRow { description: "new".to_owned(), ..role("member") }).await.unwrap();
    assert_eq!(store.role(&"member".parse().unwrap()).await.unwrap().description, "new");
    assert_conflict(store.change_role(&RoleRow { name: "admin".to_owned(), ..role("member") }).await, "exists already");
}

pub async fn grants_are_found_by_what_they_are(database: Database) {
    let store = database.store().await;
    let (of_project, of_system) = peopled(&store).await;
    let list = async |filter: GrantFilter| {
        let rows = store.list_grants(&filter).await.unwrap();
        rows.into_iter().map(|row| (row.role_name, row.grant)).collect::<Vec<_>>()
    };
    let (project, system) = (("member".to_owned(), of_project.clone()), ("admin".to_owned(), of_system.clone()));
    assert_eq!(list(GrantFilter::default()).await, [project.clone(), system.clone()]);
    let of_user = |user: &str| GrantFilter { user: Some(user.parse().unwrap()), ..GrantFilter::default() };
    assert_eq!(list(of_user("u-d1")).await, [project.clone(), system.clone()]);
    assert_eq!(list(of_user("u-d2")).await, []);
    let on = |scope: &GrantScope| GrantFilter { scope: Some(scope.clone()), ..GrantFilter::default() };
    assert_eq!(list(on(&of_project.scope)).await, [project]);
    assert_eq!(list(GrantFilter { role: Some(of_system.role.clone()), ..on(&of_system.scope) }).await, [system]);
    // Same id, other kind.
    assert_eq!(list(on(&GrantScope::Domain("p-d1".parse().unwrap()))).await, []);
    store.revoke_grant(&of_system).await.unwrap();
    assert_not_found(store.revoke_grant(&of_system).await, "grant", "admin");
    let nobody = Grantee { user: "nobody".parse().unwrap(), ..of_system };
    assert!(matches!(store.grant(&nobody, NOW_US).await, Err(StoreError::Db { .. })));
}

pub async fn a_token_lives_until_it_expires_or_is_taken_back(database: Database) {
    let store = database.store().await;
    let (of_project, _) = peopled(&store).await;
    let scoped = token("h1", "u-d1", Some(of_project.scope.clone()));
    let unscoped = token("h2", "u-d1", None);
    for token in [&scoped, &unscoped, &token("h3", "u-d2", Some(GrantScope::System))] {
        store.create_identity_token(token).await.unwrap();
    }
    let read = async |hash: &str, now_us: i64| store.identity_token(hash, now_us).await.unwrap();
    assert_eq!(read("h1", NOW_US).await, Some(scoped.clone()));
    assert_eq!(read("h2", NOW_US + 9).await, Some(unscoped));
    assert_eq!(read("h1", NOW_US + 10).await, None, "it is good until its end and not at it");
    assert_eq!(read("h9", NOW_US).await, None);
    store.revoke_identity_token("h2").await.unwrap();
    assert_eq!(read("h2", NOW_US).await, None);
    // A new password: whoever had a token logs in again.
    let user = store.user(&"u-d1".parse().unwrap()).await.unwrap();
    store.change_user(&user, true).await.unwrap();
    assert_eq!(read("h1", NOW_US).await, None);
    assert!(read("h3", NOW_US).await.is_some(), "another's token went with it");
    assert_eq!(store.forget_expired_tokens(NOW_US + 9).await.unwrap(), 0);
    assert_eq!(store.forget_expired_tokens(NOW_US + 10).await.unwrap(), 1);
}

pub async fn what_goes_takes_its_grants_and_tokens_along(database: Database) {
    let store = database.store().await;
    let (of_project, of_system) = peopled(&store).await;
    let count = async || store.list_grants(&GrantFilter::default()).await.unwrap().len();
    store.create_identity_token(&token("h1", "u-d1", Some(of_project.scope.clone()))).await.unwrap();
    store.delete_project(&"p-d1".parse().unwrap()).await.unwrap();
    assert_eq!(count().await, 1);
    assert_eq!(store.identity_token("h1", NOW_US).await.unwrap(), None);
    assert_not_found(store.delete_project(&"p-d1".parse().unwrap()).await, "project", "p-d1");
    store.delete_role(&of_system.role).await.unwrap();
    assert_eq!(count().await, 0);
    assert_not_found(store.delete_role(&of_system.role).await, "role", "admin");

    let on_domain = GrantScope::Domain("d2".parse().unwrap());
    let of_domain = Grantee { user: "u-d1".parse().unwrap(), role: of_project.role.clone(), scope: on_domain };
    store.grant(&of_domain, NOW_US).await.unwrap();
    store.grant(&Grantee { user: "u-d2".parse().unwrap(), ..of_domain.clone() }, NOW_US).await.unwrap();
    let d2 = of_domain.scope;
    assert_conflict(store.delete_domain(&"d2".parse().unwrap()).await, "is enabled");
    assert_eq!(count().await, 2, "a refused deletion took something: {d2:?}");
    store.change_domain(&DomainRow { enabled: false, ..domain("d2") }).await.unwrap();
    store.delete_domain(&"d2".parse().unwrap()).await.unwrap();
    assert_eq!(count().await, 0);
    assert_not_found(store.user(&"u-d2".parse().unwrap()).await, "user", "u-d2");
    assert_not_found(store.project(&"p-d2".parse().unwrap()).await, "project", "p-d2");
    assert_not_found(store.delete_domain(&"d2".parse().unwrap()).await, "domain", "d2");
    store.delete_user(&"u-d1".parse().unwrap()).await.unwrap();
    assert_not_found(store.delete_user(&"u-d1".parse().unwrap()).await, "user", "u-d1");
}
