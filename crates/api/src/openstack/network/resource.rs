//! Resources as tables: which attributes one has, and whether a request may name them.

use super::fault::Fault;

/// When a request may name an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is only ever shown.
    Never,
    OnCreate,
    Always,
}

#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub name: &'static str,
    pub taken: Taken,
    /// Shown to administrators only.
    pub admin: bool,
}

impl Attribute {
    pub const fn shown(name: &'static str) -> Attribute {
        Attribute { name, taken: Taken::Never, admin: false }
    }

    pub const fn made(name: &'static str) -> Attribute {
        Attribute { name, taken: Taken::OnCreate, admin: false }
    }

    pub const fn changed(name: &'static str) -> Attribute {
        Attribute { name, taken: Taken::Always, admin: false }
    }

    pub const fn for_admin(mut self) -> Attribute {
        self.admin = true;
        self
    }
}

/// One kind of thing.
#[derive(Debug)]
pub struct Resource {
    /// The only key of a body.
    pub name: &'static str,
    pub collection: &'static str,
    /// Below `/v2.0/`.
    pub path: &'static str,
    pub attributes: &'static [Attribute],
    not_found: (&'static str, &'static str, &'static str),
}

impl Resource {
    pub const fn new(
        names: [&'static str; 3],
        not_found: (&'static str, &'static str, &'static str),
        attributes: &'static [Attribute],
    ) -> Resource {
        let [name, collection, path] = names;
        Resource { name, collection, path, attributes, not_found }
    }

    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub fn no_such(&self, id: &str) -> Fault {
        let (kind, before, after) = self.not_found;
        let id: String = id.chars().filter(|c| !c.is_control()).take(ID_CHARS_MAX).collect();
        Fault::new(404, kind, format!("{before} {id} {after}"))
    }
}

const ID_CHARS_MAX: usize = 255;

/// The object without what only administrators see.
pub fn seen_by(resource: &Resource, body: serde_json::Value, is_admin: bool) -> serde_json::Value {
    let serde_json::Value::Object(mut map) = body else { return body };
    if !is_admin {
        map.retain(|name, _| resource.attribute(name).is_some_and(|attribute| !attribute.admin));
    }
    serde_json::Value::Object(map)
}

#[cfg(test)]
pub(super) mod seen {
    use serde_json::Value;

    use super::*;

    /// The body has what the table says and nothing else.
    pub fn assert_shown(resource: &Resource, body: &Value) {
        let mut shown: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known: Vec<&str> = resource.attributes.iter().map(|attribute| attribute.name).collect();
        shown.sort_unstable();
        known.sort_unstable();
        assert_eq!(shown, known);
    }
}
