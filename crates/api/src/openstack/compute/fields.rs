//! Requests as tables: which keys an object may have, from and until which version.
//!
//! ```text
//!  body ─▶ wrapped("flavor", KEYS) ─▶ Object ─▶ get("ram") ─▶ Input ─▶ typed value (`values`)
//!                 │ a key that no row allows at this version
//!                 ▼
//!               Fault 400
//! ```
//!
//! Ground rules: an object is opened with the table of its keys, and a key that the table does not have is refused before any
//! value is looked at, so that nothing is ever ignored in silence.
//! Source: nova, api/validation/validators.py.

use serde_json::{Map, Value};

use super::{
    super::{fault::Fault, microversion::Microversion},
    literal,
};

/// A row of a table: a key of a request. The same key may stand in several rows.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    name: &'static str,
    since: Microversion,
    until: Option<Microversion>,
    needed: bool,
}

impl Key {
    pub const fn new(name: &'static str) -> Key {
        Key { name, since: Microversion::FIRST, until: None, needed: false }
    }

    pub const fn since(mut self, minor: u16) -> Key {
        self.since = Microversion::v2(minor);
        self
    }

    /// The last version that has it.
    pub const fn until(mut self, minor: u16) -> Key {
        self.until = Some(Microversion::v2(minor));
        self
    }

    pub const fn needed(mut self) -> Key {
        self.needed = true;
        self
    }

    fn applies(&self, at: Microversion) -> bool {
        self.since <= at && self.until.is_none_or(|until| at <= until)
    }
}

/// Where a value stood, as a refusal names it: the last step of the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Body,
    Key(&'a str),
    Index(usize),
}

/// A value of a request, not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    place: Place<'a>,
    pub(super) value: &'a Value,
    pub(super) at: Microversion,
    /// `null` would have been taken too, which a refusal says.
    nullable: bool,
}

impl<'a> Input<'a> {
    pub fn body(value: &'a Value, at: Microversion) -> Input<'a> {
        Input { place: Place::Body, value, at, nullable: false }
    }

    pub fn is_null(self) -> bool {
        self.value.is_null()
    }

    pub fn value(self) -> &'a Value {
        self.value
    }

    /// The text, where it is one.
    pub fn word(self) -> Option<&'a str> {
        self.value.as_str()
    }

    pub fn since(self, minor: u16) -> bool {
        self.at >= Microversion::v2(minor)
    }

    /// A refusal of this value, with jsonschema's words for why.
    pub fn refuse(self, why: impl std::fmt::Display) -> Fault {
        let told = |place: &dyn std::fmt::Display| {
            let value = literal::plain(self.value);
            Fault::new(400, format!("Invalid input for field/attribute {place}. Value: {value}. {why}"))
        };
        match self.place {
            Place::Body => Fault::new(400, why.to_string()),
            Place::Key(name) => told(&name),
            Place::Index(index) => told(&index),
        }
    }

    pub(super) fn wrong_type(self, types: &str) -> Fault {
        let or_null = if self.nullable { ", 'null'" } else { "" };
        self.refuse(format_args!("{} is not of type {types}{or_null}", literal::quoted(self.value)))
    }

    /// Opens an object whose keys are those of the table.
    pub fn object(self, keys: &[Key]) -> Result<Object<'a>, Fault> {
        let object = self.any_object()?;
        let known = |name: &str| keys.iter().any(|key| key.name == name && key.applies(self.at));
        let unknown: Vec<&str> = object.map.keys().map(String::as_str).filter(|name| !known(name)).collect();
        if !unknown.is_empty() {
            return Err(self.unexpected(&unknown));
        }
        let needed = keys.iter().filter(|key| key.needed && key.applies(self.at));
        for key in needed {
            object.need(key.name)?;
        }
        Ok(object)
    }

    /// Opens an object whose keys the caller judges one by one.
    pub fn any_object(self) -> Result<Object<'a>, Fault> {
        let map = self.value.as_object().ok_or_else(|| self.wrong_type("'object'"))?;
        Ok(Object { whole: self, map })
    }

    pub(super) fn unexpected(self, names: &[&str]) -> Fault {
        let were = if names.len() == 1 { "was" } else { "were" };
        let quoted: Vec<String> = names.iter().map(|name| literal::quoted_text(name)).collect();
        self.refuse(format_args!("Additional properties are not allowed ({} {were} unexpected)", quoted.join(", ")))
    }

    pub(super) fn or_null_too(self) -> Input<'a> {
        Input { nullable: true, ..self }
    }

    /// A refusal of a list with too little in it.
    pub(super) fn empty_list(self) -> Fault {
        self.refuse(format_args!("{} should be non-empty", literal::quoted(self.value)))
    }

    pub(super) fn item(self, index: usize, value: &'a Value) -> Input<'a> {
        Input { place: Place::Index(index), value, at: self.at, nullable: false }
    }
}

/// An object of a request whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    whole: Input<'a>,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub fn get(self, name: &'static str) -> Option<Input<'a>> {
        self.map.get(name).map(|value| self.input(name, value))
    }

    pub fn need(self, name: &'static str) -> Result<Input<'a>, Fault> {
        let missing = || self.whole.refuse(format_args!("{} is a required property", literal::quoted_text(name)));
        self.get(name).ok_or_else(missing)
    }

    /// What is under a key, read; nothing where the key is absent.
    pub fn read<T>(
        self,
        name: &'static str,
        read: impl FnOnce(Input<'a>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.get(name).map(read).transpose()
    }

    pub fn entries(self) -> impl Iterator<Item = (&'a str, Input<'a>)> {
        self.map.iter().map(move |(name, value)| (name.as_str(), self.input(name, value)))
    }

    fn input(self, name: &'a str, value: &'a Value) -> Input<'a> {
        Input { place: Place::Key(name), value, at: self.whole.at, nullable: false }
    }

    pub fn whole(self) -> Input<'a> {
        self.whole
    }
}

/// Opens the one object that a body consists of: `{"flavor": {...}}`.
pub fn wrapped<'a>(body: &'a Value, name: &'static str, keys: &[Key], at: Microversion) -> Result<Object<'a>, Fault> {
    only(body, name, at)?.object(keys)
}

/// The one value that a body consists of.
pub fn only<'a>(body: &'a Value, name: &'static str, at: Microversion) -> Result<Input<'a>, Fault> {
    Input::body(body, at).object(&[Key::new(name)])?.need(name)
}

/// The one action that a body names, and its value.
pub fn action(body: &Value, at: Microversion) -> Result<(&str, Input<'_>), Fault> {
    let malformed = || Fault::new(400, "Malformed request body");
    let mut entries = Input::body(body, at).any_object().map_err(|_| malformed())?.entries();
    match (entries.next(), entries.next()) {
        (Some(only), None) => Ok(only),
        (None, _) | (Some(_), Some(_)) => Err(malformed()),
    }
}

pub fn no_such_action(name: &str) -> Fault {
    Fault::new(400, format!("There is no such action: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEYS: &[Key] = &[
        Key::new("a").needed(),
        Key::new("b").since(5).until(6),
        Key::new("b").since(8),
        Key::new("c").since(7).needed(),
        Key::new("c").until(6),
    ];

    #[test]
    fn a_key_is_known_from_and_until_the_versions_of_its_rows() {
        let check = |body: Value, minor: u16, want: Result<(), &str>| {
            let got = wrapped(&body, "thing", KEYS, Microversion::v2(minor));
            let got = got.map(|_| ()).map_err(|fault| (fault.status, fault.message));
            assert_eq!(got, want.map_err(|message| (400, message.to_owned())), "{body} at 2.{minor}");
        };
        check(json!({"thing": {"a": 1}}), 1, Ok(()));
        check(json!({"thing": {"a": null, "c": 1}}), 1, Ok(()));
        check(json!({"thing": {"a": 1, "b": 1}}), 6, Ok(()));
        check(json!({"thing": {"a": 1, "b": 1, "c": 1}}), 8, Ok(()));
        let b = "Additional properties are not allowed ('b' was unexpected)";
        let told = |value: &str| format!("Invalid input for field/attribute thing. Value: {value}. {b}");
        check(json!({"thing": {"a": 1, "b": 1}}), 4, Err(&told("{'a': 1, 'b': 1}")));
        check(json!({"thing": {"a": 1, "b": 1, "c": 1}}), 7, Err(&told("{'a': 1, 'b': 1, 'c': 1}")));
        let needed = "Invalid input for field/attribute thing. Value: {'a': 1}. 'c' is a required property";
        check(json!({"thing": {"a": 1}}), 7, Err(needed));
        check(json!({}), 1, Err("'thing' is a required property"));
        check(
            json!({"thing": {"a": 1}, "y": 1, "z": 2}),
            1,
            Err("Additional properties are not allowed ('y', 'z' were unexpected)"),
        );
        check(json!([]), 1, Err("[] is not of type 'object'"));
        let null = "Invalid input for field/attribute thing. Value: None. None is not of type 'object'";
        check(json!({"thing": null}), 1, Err(null));
    }
}
