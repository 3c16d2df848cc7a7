//! Roles and policy as one table: every operation against every kind of requester.

use whimbrel_core::identity::{
    DomainId, ProjectId, Requester, Role, Scope, UserId, effective,
    policy::{Operation, Target, enough, permits},
};

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

#[test]
fn a_role_is_effective_with_all_that_it_implies() {
    let check = |granted: &[&str], want: &[&str]| {
        assert_eq!(effective(granted.iter().copied()).into_iter().collect::<Vec<_>>(), want, "{granted:?}");
    };
    check(&[], &[]);
    check(&["reader"], &["reader"]);
    check(&["Admin"], &["admin", "manager", "member", "reader"]);
    check(&["member", "auditor"], &["auditor", "member", "reader"]);
    let strongest = |granted: &[&str]| Requester::new(id("u"), Scope::System, granted.iter().copied()).role;
    assert_eq!(strongest(&["reader", "manager"]), Some(Role::Manager));
    assert_eq!(strongest(&["auditor"]), None);
}

#[test]
fn ids_are_plain() {
    let check = |text: &str, good: bool| assert_eq!(text.parse::<ProjectId>().is_ok(), good, "{text:?}");
    check("default", true);
    check("0123456789abcdef0123456789abcdef", true);
    check("", false);
    check("a b", false);
    check("a/b", false);
    check("é", false);
    check(&"a".repeat(65), false);
    assert_eq!(UserId::from(uuid::Uuid::nil()).as_str(), "0".repeat(32));
}

/// `x`: allowed. The target is user u1 and project p1 of domain d1.
#[test]
fn every_operation_by_every_requester() {
    let (user, project, domain): (UserId, ProjectId, DomainId) = (id("u1"), id("p1"), id("d1"));
    let target = Target { user: Some(&user), project: Some(&project), domain: Some(&domain) };
    let scope = |kind: &str| match kind {
        "none" => Scope::Unscoped,
        "p1" => Scope::Project { id: id("p1"), domain: id("d1") },
        "p2" => Scope::Project { id: id("p2"), domain: id("d1") },
        "d1" => Scope::Domain(id("d1")),
        "d2" => Scope::Domain(id("d2")),
        _ => Scope::System,
    };
    let mut table = String::new();
    let scopes = ["none", "p1", "p2", "d1", "d2", "system"];
    for operation in Operation::ALL {
        table.push_str(&format!("{operation:?}\n"));
        for kind in scopes {
            let mut row = format!("  {kind:<7}");
            for who in ["u1", "u2"] {
                for role in [None, Some("auditor"), Some("reader"), Some("member"), Some("manager"), Some("admin")] {
                    let requester = Requester::new(id(who), scope(kind), role);
                    row.push(if permits(*operation, &requester, target) { 'x' } else { '.' });
                }
                row.push(' ');
            }
            table.push_str(row.trim_end());
            table.push('\n');
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn nothing_is_allowed_where_the_target_is_unknown() {
    let oneself = Requester::new(id("u1"), Scope::Domain(id("d1")), ["manager"]);
    for operation in [Operation::ShowUser, Operation::WriteUser, Operation::ListUsers, Operation::ChangeOwnPassword] {
        assert!(!permits(operation, &oneself, Target::default()), "{operation:?}");
    }
}

#[test]
fn a_refusal_says_what_is_enough() {
    assert_eq!(enough(Operation::WriteUser), "the role admin or manager on its domain");
    assert!(Operation::ALL.iter().all(|operation| !enough(*operation).is_empty()));
}
