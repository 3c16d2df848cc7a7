//! Good calls gone wrong in every way that a client can think of, as strategies of proptest.
//!
//! Ground rules: what is wrong is chosen without knowing the call, so that a case shrinks and is replayed by its seed alone.

use proptest::{
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Map, Value, json};

use crate::calls::{Payload, Sent};

/// Just above what any name may have, and above what a column or a parser might.
const LONG_CHARS: [usize; 4] = [65, 256, 4_097, 70_000];
const DEEP: [usize; 3] = [20, 120, 200];
const VERSIONS: [&str; 12] =
    ["2.1", "2.12", "2.52", "2.53", "2.74", "latest", "2.97", "2.0", "9.9", "x", "", "99999999999999999999.1"];
const TEXTS: [&str; 26] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "é",
    "\u{202e}x",
    "🦀",
    "'; DROP TABLE instances; --",
    "%",
    "_",
    "../..",
    "null",
    "NaN",
    "-1",
    "1e400",
    "true",
    "0x10",
    "99999999999999999999",
    "a b",
    "*",
    "[",
    "(",
    "\\",
    "2026-13-45T99:99:99Z",
    "====",
];
const PATHS: [&str; 18] = [
    "%00",
    "%ff",
    "%F0%9F%A6%80",
    "...",
    "%2e%2e%2f",
    "-1",
    "0",
    "1",
    "99999999999999999999",
    "null",
    "a%20b",
    "detail",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "%25",
    "h1",
    "%27",
    "default",
];
const PARAMETERS: [&str; 34] = [
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "sort",
    "name",
    "status",
    "all_tenants",
    "changes-since",
    "changes-before",
    "deleted",
    "host",
    "ip",
    "tags",
    "tags-any",
    "not-tags",
    "flavor",
    "image",
    "fields",
    "page_reverse",
    "start",
    "end",
    "detailed",
    "user_id",
    "tenant_id",
    "project_id",
    "is_public",
    "minRam",
    "created_at",
    "size_min",
    "id",
    "enabled",
    "fixed_ips",
    "offset",
];
const PARAMETER_VALUES: [&str; 24] = [
    "",
    "0",
    "1",
    "-1",
    "1000",
    "99999999999999999999",
    "abc",
    "%00",
    "%ff",
    "in:a,b",
    "gt:2026-01-01",
    "lt:x",
    "*",
    "(",
    "[a-",
    "(a|a)*b",
    "True",
    "none",
    "2026-01-01T00:00:00Z",
    "99999-01-01",
    "name:asc",
    "id",
    "%F0%9F%A6%80",
    "00000000-0000-0000-0000-000000000000",
];

/// What is done to a call.
#[derive(Clone, Debug)]
pub struct Spoiling {
    pub call: Index,
    pub who: &'static str,
    pub at: Option<&'static str>,
    path: Option<(Index, String)>,
    query: Vec<(String, String)>,
    body: BodySpoiling,
}

#[derive(Clone, Debug)]
enum BodySpoiling {
    Nodes(Vec<(Index, NodeSpoiling)>),
    Other(Value),
    CutOff(Index),
    Text(String),
    Bytes(Vec<u8>),
    None,
}

#[derive(Clone, Debug)]
enum NodeSpoiling {
    Other(Value),
    Gone,
    More(String, Value),
    Renamed(String),
    Wrapped,
    Doubled,
}

pub fn spoiling() -> impl Strategy<Value = Spoiling> {
    let who = prop_oneof![
        8 => Just("admin"), 4 => Just("member"), 1 => Just("other"), 1 => Just("system-admin"), 1 => Just("nobody")
    ];
    let at = prop_oneof![6 => Just(None), 1 => select(&VERSIONS[..]).prop_map(Some)];
    let segment = prop_oneof![
        5 => select(&PATHS[..]).prop_map(str::to_owned),
        1 => select(&LONG_CHARS[..3]).prop_map(|count| "a".repeat(count)),
        1 => "[a-z0-9~-]{1,40}",
    ];
    let path = prop_oneof![4 => Just(None), 1 => (any::<Index>(), segment).prop_map(Some)];
    let parameter = (
        prop_oneof![9 => select(&PARAMETERS[..]).prop_map(str::to_owned), 1 => "[a-zA-Z%._:-]{0,12}"],
        prop_oneof![9 => select(&PARAMETER_VALUES[..]).prop_map(str::to_owned), 1 => "[a-zA-Z0-9%._:+-]{0,40}"],
    );
    let query = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(parameter, 1..4)];
    (any::<Index>(), who, at, path, query, body()).prop_map(|(call, who, at, path, query, body)| Spoiling {
        call,
        who,
        at,
        path,
        query,
        body,
    })
}

fn body() -> impl Strategy<Value = BodySpoiling> {
    let node = prop_oneof![
        8 => value().prop_map(NodeSpoiling::Other),
        2 => Just(NodeSpoiling::Gone),
        2 => (word(), value()).prop_map(|(key, value)| NodeSpoiling::More(key, value)),
        1 => word().prop_map(NodeSpoiling::Renamed),
        1 => Just(NodeSpoiling::Wrapped),
        1 => Just(NodeSpoiling::Doubled),
    ];
    prop_oneof![
        20 => prop::collection::vec((any::<Index>(), node), 0..4).prop_map(BodySpoiling::Nodes),
        2 => value().prop_map(BodySpoiling::Other),
        1 => any::<Index>().prop_map(BodySpoiling::CutOff),
        1 => ".{0,30}".prop_map(BodySpoiling::Text),
        1 => prop::collection::vec(any::<u8>(), 0..600).prop_map(BodySpoiling::Bytes),
        1 => Just(BodySpoiling::None),
    ]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![select(&TEXTS[..]).prop_map(str::to_owned), "[a-zA-Z:_-]{1,12}"]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(&[0_i64, 1, -1, 2, 4096, 65_536, i64::MAX, i64::MIN, 1 << 31, 1 << 32][..]).prop_map(|n| json!(n)),
        Just(json!(u64::MAX)),
        any::<i64>().prop_map(|n| json!(n)),
        select(&[0.5_f64, -0.0, 1e308, 1e-308, 1e19][..]).prop_map(|n| json!(n)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => number(),
        3 => select(&TEXTS[..]).prop_map(Value::from),
        1 => ".{0,20}".prop_map(Value::from),
        1 => select(&LONG_CHARS[..]).prop_map(|count| Value::from("a".repeat(count))),
        1 => select(&LONG_CHARS[..2]).prop_map(|count| Value::from("é".repeat(count))),
        1 => Just(json!({})),
        1 => Just(json!([])),
    ];
    let nested = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    });
    let deep = select(&DEEP[..]).prop_map(|depth| (0..depth).fold(json!(1), |inner, _| json!([inner])));
    prop_oneof![30 => nested, 1 => deep]
}

impl Spoiling {
    pub fn apply(&self, mut sent: Sent) -> Sent {
        if let Some(at) = self.at {
            sent.at = at.to_owned();
        }
        let (path, query) = sent.path.split_once('?').unwrap_or((&sent.path, ""));
        let mut segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        // The service and its version stay, or nothing is asked at all.
        if let Some((at, segment)) = &self.path
            && segments.len() > 3
            && !segments[3].is_empty()
        {
            let at = 3 + at.index(segments.len() - 3);
            segments[at].clone_from(segment);
        }
        let more = self.query.iter().map(|(name, value)| format!("{name}={value}"));
        let query: Vec<String> =
            Some(query.to_owned()).filter(|query| !query.is_empty()).into_iter().chain(more).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        sent.path = format!("{}{mark}{}", segments.join("/"), query.join("&"));
        sent.payload = self.body.apply(sent.payload);
        sent
    }
}

impl BodySpoiling {
    fn apply(&self, payload: Payload) -> Payload {
        match (self, payload) {
            (BodySpoiling::None, _) => Payload::None,
            (BodySpoiling::Text(text), _) => Payload::Text(text.clone()),
            (BodySpoiling::Bytes(bytes), _) => Payload::Bytes(bytes.clone()),
            (BodySpoiling::Other(value), Payload::Json(_)) => Payload::Json(value.clone()),
            (BodySpoiling::CutOff(at), Payload::Json(body)) => {
                let text = body.to_string();
                let end = (0..=at.index(text.len() + 1)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                Payload::Text(text[..end].to_owned())
            }
            (BodySpoiling::Nodes(nodes), Payload::Json(mut body)) => {
                for (at, spoiling) in nodes {
                    let mut places = Vec::new();
                    places_in(&body, String::new(), &mut places);
                    let place: &String = at.get(&places);
                    spoiling.apply(&mut body, place);
                }
                Payload::Json(body)
            }
            (_, payload) => payload,
        }
    }
}

/// JSON pointers of all its nodes.
fn places_in(value: &Value, here: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places_in(value, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                places_in(value, format!("{here}/{at}"), places);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    places.push(here);
}

impl NodeSpoiling {
    fn apply(&self, body: &mut Value, place: &str) {
        let key = place.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
        let parent = place.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        let Some(node) = body.pointer_mut(place) else { return };
        match self {
            NodeSpoiling::Other(value) => node.clone_from(value),
            NodeSpoiling::More(name, value) => match node {
                Value::Object(fields) => drop(fields.insert(name.clone(), value.clone())),
                Value::Array(items) => items.push(value.clone()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => node.clone_from(value),
            },
            NodeSpoiling::Wrapped => *node = json!([node.take()]),
            NodeSpoiling::Doubled => match node {
                Value::Array(items) => items.extend(items.clone()),
                Value::String(text) => *text = text.repeat(2),
                other => *other = json!([other.clone(), other.clone()]),
            },
            NodeSpoiling::Gone | NodeSpoiling::Renamed(_) => match body.pointer_mut(&parent) {
                Some(Value::Object(fields)) => {
                    let was = fields.remove(&key);
                    if let (NodeSpoiling::Renamed(name), Some(was)) = (self, was) {
                        fields.insert(name.clone(), was);
                    }
                }
                Some(Value::Array(items)) if !items.is_empty() => drop(items.pop()),
                _ => {}
            },
        }
    }
}
