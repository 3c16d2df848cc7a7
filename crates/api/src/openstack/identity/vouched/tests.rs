//! Keystone's bodies as version 22 writes them, and what is wrong with others.

use whimbrel_core::identity::Role;

use super::*;

const EXPIRES_US: Micros = 1_767_326_645_000_000;

fn token(fields: Value) -> Value {
    let mut token = json!({
        "methods": ["password"],
        "user": {"domain": {"id": "default", "name": "Default"}, "id": "u1", "name": "a", "password_expires_at": null},
        "audit_ids": ["7NjRnNzdRpmvAHEmhEb7fA"],
        "expires_at": "2026-01-02T04:04:05.000000Z",
        "issued_at": "2026-01-02T03:04:05.000000Z",
    });
    for (key, value) in fields.as_object().unwrap() {
        token[key] = value.clone();
    }
    json!({ "token": token })
}

fn on_project() -> Value {
    json!({"domain": {"id": "d1", "name": "D"}, "id": "p1", "name": "p"})
}

fn roles(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"id": format!("{name}-id"), "name": name})).collect()
}

#[test]
fn a_token_is_somebodys_with_the_strongest_of_his_roles() {
    let check = |fields: Value, scope: Scope, role: Option<Role>| {
        let vouched = parse(&token(fields.clone())).unwrap_or_else(|error| panic!("{fields}: {error}"));
        assert_eq!(vouched.requester, Requester { user: "u1".parse().unwrap(), scope, role }, "{fields}");
        assert_eq!(vouched.expires_us, EXPIRES_US);
    };
    let project = || Scope::Project { id: "p1".parse().unwrap(), domain: "d1".parse().unwrap() };
    check(json!({}), Scope::Unscoped, None);
    let member = json!({"project": on_project(), "is_domain": false, "roles": roles(&["reader", "member"])});
    check(member, project(), Some(Role::Member));
    check(json!({"project": on_project(), "roles": roles(&["reader"])}), project(), Some(Role::Reader));
    check(json!({"project": on_project(), "roles": roles(&["member", "admin"])}), project(), Some(Role::Admin));
    check(json!({"project": on_project(), "roles": roles(&["service", "cook"])}), project(), None);
    check(json!({"project": on_project(), "roles": []}), project(), None);
    let domain = json!({"domain": {"id": "d1", "name": "D"}, "roles": roles(&["manager"])});
    check(domain, Scope::Domain("d1".parse().unwrap()), Some(Role::Manager));
    check(json!({"system": {"all": true}, "roles": roles(&["admin"])}), Scope::System, Some(Role::Admin));
    let unrestricted = json!({"id": "c", "name": "c", "restricted": true});
    check(json!({"project": on_project(), "application_credential": unrestricted}), project(), None);
}

#[test]
fn what_cannot_be_read_vouches_for_nobody() {
    let check = |body: &Value, want: Unreadable| assert_eq!(parse(body), Err(want), "{body}");
    check(&json!({}), Unreadable::Field("token"));
    check(&json!({"token": []}), Unreadable::Field("token"));
    let both = token(json!({"project": on_project(), "system": {"all": true}}));
    check(&both, Unreadable::ManyScopes);
    for (fields, lacks) in [
        (json!({"expires_at": null}), "expires_at"),
        (json!({"expires_at": "soon"}), "expires_at"),
        (json!({"user": {"name": "a"}}), "user.id"),
        (json!({"user": {"id": "a/b"}}), "user.id"),
        (json!({"user": {"id": 7}}), "user.id"),
        (json!({"project": {"id": "p1"}}), "project"),
        (json!({"project": null}), "project"),
        (json!({"domain": {"name": "D"}}), "domain"),
        (json!({"system": {"all": false}}), "system"),
        (json!({"system": {}}), "system"),
        (json!({"roles": {}}), "roles"),
        (json!({"roles": [{"id": "x"}]}), "roles"),
    ] {
        check(&token(fields), Unreadable::Field(lacks));
    }
    let rule = json!({"id": "c", "access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}]});
    check(&token(json!({"project": on_project(), "application_credential": rule})), Unreadable::AccessRules);
    check(&token(json!({"application_credential": {"access_rules": "all"}})), Unreadable::AccessRules);
}

#[test]
fn a_status_says_whose_fault_it_is() {
    for (status, want) in [
        (200, Verdict::Good),
        (404, Verdict::NoToken),
        (401, Verdict::AskerUnknown),
        (403, Verdict::AskerForbidden),
        (204, Verdict::Unavailable),
        (300, Verdict::Unavailable),
        (400, Verdict::Unavailable),
        (429, Verdict::Unavailable),
        (500, Verdict::Unavailable),
        (503, Verdict::Unavailable),
    ] {
        assert_eq!(judge(status), want, "{status}");
    }
}

#[test]
fn the_asker_logs_in_on_its_project() {
    let body = log_in(&Credentials {
        username: "whimbrel".to_owned(),
        password: "secret".to_owned(),
        user_domain_name: "Users".to_owned(),
        project_name: "service".to_owned(),
        project_domain_name: "Default".to_owned(),
    });
    assert_eq!(body.pointer("/auth/identity/password/user/domain/name"), Some(&json!("Users")));
    assert_eq!(body.pointer("/auth/scope/project/domain/name"), Some(&json!("Default")));
    assert_eq!(end_us(&token(json!({}))), Ok(EXPIRES_US));
    assert_eq!(end_us(&json!({"token": {}})), Err(Unreadable::Field("expires_at")));
}
