//! What of a key pair is told and taken at which version.

use super::{
    super::shape::seen::{member, names},
    *,
};

fn keypair() -> Keypair {
    Keypair {
        id: 1,
        name: "k".into(),
        kind: KeyKind::Ssh,
        public_key: "ssh-ed25519 A".into(),
        fingerprint: "aa:bb".into(),
        user_id: "u".into(),
        created: 0,
    }
}

#[test]
fn a_type_comes_with_2_2_and_pages_with_2_35() {
    let check = |minor, with_type: bool| {
        let view = member(minor);
        let fields = |more: &[&'static str]| {
            let mut names = [&["fingerprint", "name", "public_key"][..], more].concat();
            names.extend(with_type.then_some("type"));
            names.sort_unstable();
            names
        };
        let body = list(&[keypair()], Some("limit=1&marker=k"), &view);
        assert_eq!(names(&body["keypairs"][0]["keypair"]), fields(&[]), "2.{minor}");
        assert_eq!(body.get("keypairs_links").is_some(), minor >= 35, "2.{minor}");
        assert_eq!(names(&created(&keypair(), None, &view)["keypair"]), fields(&["user_id"]), "2.{minor}");
        let made = created(&keypair(), Some("secret"), &view);
        assert_eq!(names(&made["keypair"]), fields(&["private_key", "user_id"]), "2.{minor}");
        let shown = ["created_at", "deleted", "deleted_at", "id", "updated_at", "user_id"];
        assert_eq!(names(&show(&keypair(), &view)["keypair"]), fields(&shown), "2.{minor}");
    };
    check(1, false);
    check(2, true);
    check(34, true);
    check(35, true);
    assert_eq!((statuses(Microversion::v2(1)), statuses(Microversion::v2(2))), ((200, 202), (201, 204)));
}

#[test]
fn a_request_knows_more_from_version_to_version() {
    let check = |keypair: Value, minor, want: Option<NewKeypair>| {
        let got = parse_create(&json!({ "keypair": keypair }), Microversion::v2(minor));
        assert_eq!(got.as_ref().ok(), want.as_ref(), "{keypair} at 2.{minor}: {got:?}");
    };
    let new = |name: &str| NewKeypair { name: name.into(), kind: KeyKind::Ssh, public_key: None, user_id: None };
    check(json!({"name": "my key_1-a"}), 1, Some(new("my key_1-a")));
    check(json!({"name": "k", "type": "ssh"}), 1, None);
    check(json!({"name": "k", "type": "x509"}), 2, Some(NewKeypair { kind: KeyKind::X509, ..new("k") }));
    check(json!({"name": "k", "type": "pgp"}), 2, None);
    check(json!({"name": "k", "user_id": "u"}), 9, None);
    check(json!({"name": "k", "user_id": "u"}), 10, Some(NewKeypair { user_id: Some("u".into()), ..new("k") }));
    let imported = |name: &str| NewKeypair { public_key: Some("ssh-rsa A".into()), ..new(name) };
    check(json!({"name": "k", "public_key": "ssh-rsa A"}), 1, Some(imported("k")));
    check(json!({"name": "k"}), 91, Some(new("k")));
    check(json!({"name": "k"}), 92, None);
    check(json!({"name": "a@b.c", "public_key": "ssh-rsa A"}), 91, None);
    check(json!({"name": "a@b.c", "public_key": "ssh-rsa A"}), 92, Some(imported("a@b.c")));
    check(json!({"name": "a/b", "public_key": "ssh-rsa A"}), 92, None);
    check(json!({"name": "k "}), 1, None);
    check(json!({"public_key": "ssh-rsa A"}), 1, None);
}

#[test]
fn a_query_means_more_from_version_to_version() {
    let check = |minor, want_owner: Option<&str>, want_page: Result<(usize, Option<&str>), u16>| {
        let at = Microversion::v2(minor);
        let query = Query::parse(Some("user_id=u&limit=1"), LIST_QUERY, at).unwrap();
        assert_eq!(owner(&query, at), want_owner, "2.{minor}");
        let other = Keypair { name: "l".into(), ..keypair() };
        let got = page(vec![keypair(), other], &query, at).map_err(|fault| fault.status);
        let got = got.map(|(page, next)| (page.len(), next));
        assert_eq!(got, want_page.map(|(count, next)| (count, next.map(str::to_owned))), "2.{minor}");
    };
    check(9, None, Ok((2, None)));
    check(10, Some("u"), Ok((2, None)));
    check(34, Some("u"), Ok((2, None)));
    check(35, Some("u"), Ok((1, Some("user_id=u&limit=1&marker=k"))));
    let query = Query::parse(Some("marker=x"), LIST_QUERY, Microversion::LAST).unwrap();
    assert_eq!(page(vec![keypair()], &query, Microversion::LAST).unwrap_err().status, 400);
    assert!(Query::parse(Some("limit=1"), QUERY, Microversion::v2(75)).is_err());
}
