//! Key pairs: the public halves that guests are given at their first start.
//!
//! Ground rules: the private half is told once, in the answer to the request that had it made, and from 2.92 none is made any more.
//! Source: nova, api/openstack/compute/keypairs.py, views/keypairs.py and schemas/keypairs.py.

use serde_json::{Value, json};

use super::{
    super::{fault::Fault, microversion::Microversion},
    fields::{self, Input, Key},
    query::Query,
    shape::{self, Field, View},
    times::{self, Micros},
    values::{Form, SHORT, only_of},
};

const OF_OTHERS_SINCE: u16 = 10;
const PAGED_SINCE: u16 = 35;

/// What stands behind the question mark of a list, and of a call about one key pair.
pub const LIST_QUERY: &[&str] = &["user_id", "limit", "marker"];
pub const QUERY: &[&str] = &["user_id"];

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

/// Whose key pairs are meant, where the version lets a caller say so.
pub fn owner(query: &Query, at: Microversion) -> Option<&str> {
    query.get("user_id").filter(|_| at >= Microversion::v2(OF_OTHERS_SINCE))
}

/// The page that is asked for, and the query of the following one; all of them before there were pages.
pub fn page(keypairs: Vec<Keypair>, query: &Query, at: Microversion) -> Result<(Vec<Keypair>, Option<String>), Fault> {
    if at < Microversion::v2(PAGED_SINCE) {
        return Ok((keypairs, None));
    }
    query.page(keypairs, |keypair| &keypair.name)
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
mod tests;
