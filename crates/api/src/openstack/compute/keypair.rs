//! Key pairs: the public halves that guests are given at their first start.
//!
//! Ground rules: the private half is told once, in the answer to the request that had it made, and from 2.92 none is made any more.
//! Source: nova, api/openstack/compute/keypairs.py, views/keypairs.py and schemas/keypairs.py.

use serde_json::{Value, json};

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    shape::{self, Field, View},
    times::{self, Micros},
    values::{Form, SHORT, only_of},
};

const PAGED_SINCE: u16 = 35;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keypair {
    pub id: u64,
    pub name: String,
    pub kind: KeyKind,
    pub public_key: String,
    pub fingerprint: String,
    pub user_id: String,
    pub created: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Ssh,
    X509,
}

type Row = Field<Keypair>;

const LISTED: &[Row] = &[
    Row::new("name", |keypair, _| json!(keypair.name)),
    Row::new("public_key", |keypair, _| json!(keypair.public_key)),
    Row::new("fingerprint", |keypair, _| json!(keypair.fingerprint)),
    Row::new("type", |keypair, _| json!(keypair.kind.name())).since(2),
];

const CREATED: &[Row] = &[Row::new("user_id", |keypair, _| json!(keypair.user_id))];

const SHOWN: &[Row] = &[
    Row::new("id", |keypair, _| json!(keypair.id)),
    Row::new("created_at", |keypair, _| times::fraction(keypair.created)),
    Row::new("updated_at", |_, _| Value::Null),
    Row::new("deleted", |_, _| json!(false)),
    Row::new("deleted_at", |_, _| Value::Null),
];

/// `GET /os-keypairs`. `next` is the query of the following page, which exists from 2.35.
pub fn list(keypairs: &[Keypair], next: Option<&str>, view: &View) -> Value {
    let items = keypairs.iter().map(|keypair| json!({ "keypair": shape::object(&[LISTED], keypair, view) })).collect();
    view.page("keypairs", "os-keypairs", items, next.filter(|_| view.since(PAGED_SINCE)))
}

/// `GET /os-keypairs/{name}`.
pub fn show(keypair: &Keypair, view: &View) -> Value {
    json!({ "keypair": shape::object(&[LISTED, CREATED, SHOWN], keypair, view) })
}

/// The answer to `POST /os-keypairs`, with the private half where it was made.
pub fn created(keypair: &Keypair, private_key: Option<&str>, view: &View) -> Value {
    let mut body = shape::object(&[LISTED, CREATED], keypair, view);
    if let Some(private_key) = private_key {
        body["private_key"] = json!(private_key);
    }
    json!({ "keypair": body })
}

/// Statuses of a create and of a delete, which were wrong at first.
pub fn statuses(at: Microversion) -> (u16, u16) {
    if at >= Microversion::v2(2) { (201, 204) } else { (200, 202) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeypair {
    pub name: String,
    pub kind: KeyKind,
    /// `None` has a pair made, until 2.91.
    pub public_key: Option<String>,
    /// Of an administrator who makes it for somebody.
    pub user_id: Option<String>,
}

const CREATE: &[Key] = &[
    Key::new("name").needed(),
    Key::new("type").since(2),
    Key::new("public_key").until(91),
    Key::new("public_key").since(92).needed(),
    Key::new("user_id").since(10),
];
const KINDS: &[(&str, KeyKind)] = &[("ssh", KeyKind::Ssh), ("x509", KeyKind::X509)];

const NAME: Form = Form { pattern: r"^[_\- a-zA-Z0-9]+$", fits: |text| only_of(text, "_- ") };
const NAME_WITH_MORE: Form = Form { pattern: r"^[_\-\@\. a-zA-Z0-9]+$", fits: |text| only_of(text, "_-@. ") };
const MORE_SINCE: u16 = 92;

pub fn parse_create(body: &Value, at: Microversion) -> Result<NewKeypair, Fault> {
    let keypair = fields::wrapped(body, "keypair", CREATE, at)?;
    let text = |input: Input| input.text(0..=usize::MAX).map(str::to_owned);
    Ok(NewKeypair {
        name: name(keypair.need("name")?)?,
        kind: keypair.read("type", |input| input.choice(KINDS))?.unwrap_or(KeyKind::Ssh),
        public_key: keypair.read("public_key", text)?,
        user_id: keypair.read("user_id", text)?,
    })
}

fn name(input: Input) -> Result<String, Fault> {
    input.name()?;
    input.text_of(SHORT, if input.since(MORE_SINCE) { &NAME_WITH_MORE } else { &NAME })
}

impl KeyKind {
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::Ssh => "ssh",
            KeyKind::X509 => "x509",
        }
    }
}

#[cfg(test)]
mod tests {
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
}
