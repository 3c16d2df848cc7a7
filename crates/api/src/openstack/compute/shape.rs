//! Answers as tables: which field an object has, from and until which version, and for whom.
//!
//! ```text
//!  record ─┐
//!  table  ─┼▶ object ─▶ {"field": value, ...}
//!  View   ─┘  (version asked for, who asks, where the API lives)
//! ```
//!
//! Ground rules: a body is exactly what its table says, since strict clients refuse a field too many as well as one too few. The
//! same field may stand in several rows, as long as at most one of them applies to a version and a viewer.
//! Source: nova, api/openstack/compute/views and api/openstack/common.py, `ViewBuilder`.

use serde_json::{Map, Value, json};

use super::super::microversion::Microversion;

/// Who reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    Admin,
    Member,
}

/// What an answer depends on besides its record.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub at: Microversion,
    pub viewer: Viewer,
    /// Where the versioned API lives, without a slash at the end: `https://host:8774/v2.1`.
    pub base: &'a str,
}

impl View<'_> {
    pub fn is_admin(&self) -> bool {
        self.viewer == Viewer::Admin
    }

    pub fn since(&self, minor: u16) -> bool {
        self.at >= Microversion::v2(minor)
    }

    /// Where an object is, with the version and without it.
    pub fn links(&self, collection: &str, id: &str) -> Value {
        json!([self.own_link(collection, id), self.bookmark(collection, id)])
    }

    pub fn own_link(&self, collection: &str, id: &str) -> Value {
        json!({ "rel": "self", "href": format!("{}/{collection}/{id}", self.base) })
    }

    pub fn bookmark(&self, collection: &str, id: &str) -> Value {
        json!({ "rel": "bookmark", "href": format!("{}/{collection}/{id}", self.unversioned()) })
    }

    /// `{"<name>": [...]}`, and `<name>_links` where more follows. `next` is the query that asks for it.
    pub fn page(&self, name: &str, path: &str, items: Vec<Value>, next: Option<&str>) -> Value {
        let mut body = Map::from_iter([(name.to_owned(), Value::Array(items))]);
        if let Some(query) = next {
            body.insert(format!("{name}_links"), json!([self.next_link(path, query)]));
        }
        Value::Object(body)
    }

    pub fn next_link(&self, path: &str, query: &str) -> Value {
        json!({ "rel": "next", "href": format!("{}/{path}?{query}", self.base) })
    }

    fn unversioned(&self) -> &str {
        match self.base.rsplit_once('/') {
            Some((before, version)) if version.starts_with("v2") => before,
            Some(_) | None => self.base,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    All,
    Admin,
    Member,
}

enum Read<R> {
    Always(fn(&R, &View) -> Value),
    Maybe(fn(&R, &View) -> Option<Value>),
}

/// A row of a table: a field of an answer.
pub struct Field<R> {
    name: &'static str,
    since: Microversion,
    until: Option<Microversion>,
    seen: Seen,
    read: Read<R>,
}

impl<R> Field<R> {
    pub const fn new(name: &'static str, read: fn(&R, &View) -> Value) -> Field<R> {
        Field { name, since: Microversion::FIRST, until: None, seen: Seen::All, read: Read::Always(read) }
    }

    /// A field that is left out of the answer where the record has nothing to say.
    pub const fn maybe(name: &'static str, read: fn(&R, &View) -> Option<Value>) -> Field<R> {
        Field { name, since: Microversion::FIRST, until: None, seen: Seen::All, read: Read::Maybe(read) }
    }

    pub const fn since(mut self, minor: u16) -> Field<R> {
        self.since = Microversion::v2(minor);
        self
    }

    /// The last version that has it.
    pub const fn until(mut self, minor: u16) -> Field<R> {
        self.until = Some(Microversion::v2(minor));
        self
    }

    pub const fn admin(mut self) -> Field<R> {
        self.seen = Seen::Admin;
        self
    }

    /// For all but administrators, who get the same field by another row.
    pub const fn member(mut self) -> Field<R> {
        self.seen = Seen::Member;
        self
    }

    fn applies(&self, view: &View) -> bool {
        let seen = match self.seen {
            Seen::All => true,
            Seen::Admin => view.viewer == Viewer::Admin,
            Seen::Member => view.viewer == Viewer::Member,
        };
        seen && self.since <= view.at && self.until.is_none_or(|until| view.at <= until)
    }
}

/// The fields of the tables that apply, in their order.
pub fn object<R>(tables: &[&[Field<R>]], record: &R, view: &View) -> Value {
    let rows = tables.iter().flat_map(|table| table.iter()).filter(|field| field.applies(view));
    let read = |field: &Field<R>| match field.read {
        Read::Always(read) => Some(read(record, view)),
        Read::Maybe(read) => read(record, view),
    };
    Value::Object(rows.filter_map(|field| Some((field.name.to_owned(), read(field)?))).collect())
}

/// As [`object`], but as text at the end of `out`: of a long list, no more than one field is held beside its text.
pub fn write<R>(tables: &[&[Field<R>]], record: &R, view: &View, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut before = b'{';
    for field in tables.iter().flat_map(|table| table.iter()).filter(|field| field.applies(view)) {
        let value = match field.read {
            Read::Always(read) => Some(read(record, view)),
            Read::Maybe(read) => read(record, view),
        };
        let Some(value) = value else { continue };
        out.push(std::mem::replace(&mut before, b','));
        serde_json::to_writer(&mut *out, field.name)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, &value)?;
    }
    if before == b'{' {
        out.push(before);
    }
    out.push(b'}');
    Ok(())
}

/// What the tests of the resources look through.
#[cfg(test)]
pub(super) mod seen {
    use super::*;

    pub fn by(viewer: Viewer, minor: u16) -> View<'static> {
        View { at: Microversion::v2(minor), viewer, base: "https://h:1/compute/v2.1" }
    }

    pub fn admin(minor: u16) -> View<'static> {
        by(Viewer::Admin, minor)
    }

    pub fn member(minor: u16) -> View<'static> {
        by(Viewer::Member, minor)
    }

    /// Names of an object's fields, sorted.
    pub fn names(object: &Value) -> Vec<&str> {
        let mut names: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests;
