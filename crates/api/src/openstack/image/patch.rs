//! Changes of an image: a list of operations, all of which apply or none.
//!
//! Source: glance, api/v2/images.py, `_do_add`, `_do_replace`, `_do_remove`; RFC 6901 for the paths.

use serde_json::Value;

use super::{
    fault::Fault,
    fields::{Said, check_writable, is_known},
};

/// Operations of one request; each is a few words.
const CHANGES_MAX: usize = 1_000;
const OPERATIONS: &str = "add, remove, replace";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Replace,
    Remove,
}

#[derive(Clone, Debug, PartialEq)]
struct Change {
    operation: Operation,
    name: String,
    /// Of a list: `-` or a number.
    place: Option<String>,
    /// Not of what is removed.
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Patch(Vec<Change>);

pub fn parse(body: &Value) -> Result<Patch, Fault> {
    let refused = |told: &str| Err(Fault::new(400, told));
    let Some(changes) = body.as_array() else {
        return refused("Request body must be a JSON array of operation objects.");
    };
    if changes.len() > CHANGES_MAX {
        return Err(Fault::new(413, format!("More than {CHANGES_MAX} operations were sent in one request.")));
    }
    changes.iter().map(change).collect::<Result<_, _>>().map(Patch)
}

fn change(raw: &Value) -> Result<Change, Fault> {
    let refused = |told: String| Fault::new(400, told);
    let object = raw.as_object().ok_or_else(|| refused("Operations must be JSON objects.".to_owned()))?;
    let operation = match object.get("op").and_then(Value::as_str) {
        Some("add") => Operation::Add,
        Some("replace") => Operation::Replace,
        Some("remove") => Operation::Remove,
        Some(other) => {
            return Err(refused(format!(
                "Invalid operation: `{other}`. It must be one of the following: {OPERATIONS}."
            )));
        }
        None => {
            return Err(refused(format!(
                "Unable to find 'op' in JSON Schema change. It must be one of: {OPERATIONS}."
            )));
        }
    };
    let path = object.get("path").and_then(Value::as_str);
    let path = path.ok_or_else(|| refused("Unable to find 'path' in JSON Schema change".to_owned()))?;
    let (name, place) = pointer(path)?;
    check_writable(&name)?;
    if name == "id" {
        return Err(Fault::new(403, "Attribute 'id' is read-only."));
    }
    let value = match (operation, object.get("value")) {
        (Operation::Remove, _) => Value::Null,
        (Operation::Add | Operation::Replace, Some(value)) => value.clone(),
        (Operation::Add | Operation::Replace, None) => {
            return Err(refused("Operations \"add\" and \"replace\" require a member named \"value\".".to_owned()));
        }
    };
    Ok(Change { operation, name, place, value })
}

/// `/name`, or `/tags/place`.
fn pointer(path: &str) -> Result<(String, Option<String>), Fault> {
    let refused = |why: &str| Fault::new(400, format!("Pointer `{path}` {why}."));
    let rest = path.strip_prefix('/').ok_or_else(|| refused("does not start with \"/\""))?;
    let mut parts = Vec::new();
    for part in rest.split('/') {
        if part.is_empty() {
            return Err(refused("contains an empty token"));
        }
        if part.replace("~0", "").replace("~1", "").contains('~') {
            return Err(refused("contains \"~\" not part of a recognized escape sequence"));
        }
        parts.push(part.replace("~1", "/").replace("~0", "~"));
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => Ok((name, None)),
        (Some(name), place @ Some(_), None) if name == "tags" => Ok((name, place)),
        _ => Err(Fault::new(400, format!("Invalid JSON pointer for this resource: '{path}'"))),
    }
}

impl Patch {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn apply(&self, said: &Said) -> Result<Said, Fault> {
        let mut changed = said.clone();
        for change in &self.0 {
            match &change.place {
                Some(place) => change.apply_to_tags(&mut changed, place)?,
                None => change.apply(&mut changed)?,
            }
        }
        changed.check_amounts().map(|()| changed)
    }
}

impl Change {
    fn apply(&self, said: &mut Said) -> Result<(), Fault> {
        let name = &self.name;
        let missing = || Fault::new(409, format!("Property {name} does not exist."));
        match self.operation {
            Operation::Add => said.set(name, &self.value),
            Operation::Replace if is_known(name) || said.properties.contains_key(name) => said.set(name, &self.value),
            Operation::Replace => Err(missing()),
            Operation::Remove if is_known(name) => Err(Fault::new(403, format!("Property {name} may not be removed."))),
            Operation::Remove => said.properties.remove(name).map(drop).ok_or_else(missing),
        }
    }

    /// By their places in the list that an answer shows.
    fn apply_to_tags(&self, said: &mut Said, place: &str) -> Result<(), Fault> {
        let at = place.parse::<usize>().ok();
        let there = at.and_then(|at| said.tags.iter().nth(at).cloned());
        let missing = || Fault::new(409, format!("Property tags/{place} does not exist."));
        match self.operation {
            Operation::Add if place == "-" || at.is_some_and(|at| at <= said.tags.len()) => {}
            Operation::Add => return Err(missing()),
            Operation::Replace | Operation::Remove => {
                said.tags.remove(&there.ok_or_else(missing)?);
            }
        }
        match self.operation {
            Operation::Remove => Ok(()),
            Operation::Add | Operation::Replace => {
                let tag = self.value.as_str();
                said.add_tag(tag.ok_or_else(|| Fault::new(400, format!("{} is not of type 'string'", self.value)))?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said() -> Said {
        let mut said = Said { name: Some("n".to_owned()), ..Said::default() };
        said.tags = ["a", "b"].map(str::to_owned).into();
        said.properties = [("p", "1"), ("a/b~c", "2")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        said
    }

    fn patched(changes: Value) -> Result<Said, u16> {
        parse(&changes).and_then(|patch| patch.apply(&said())).map_err(|fault| fault.status)
    }

    #[test]
    fn operations_apply_in_their_order() {
        let check = |changes: Value, want: &dyn Fn(&mut Said)| {
            let mut expected = said();
            want(&mut expected);
            assert_eq!(patched(changes.clone()), Ok(expected), "{changes}");
        };
        check(json!([]), &|_| {});
        check(json!([{"op": "replace", "path": "/name", "value": null}]), &|said| said.name = None);
        check(json!([{"op": "add", "path": "/min_disk", "value": 7}]), &|said| said.min_disk_gb = 7);
        check(json!([{"op": "replace", "path": "/a~1b~0c", "value": "3"}]), &|said| {
            said.properties.insert("a/b~c".to_owned(), "3".to_owned());
        });
        check(json!([{"op": "add", "path": "/q", "value": "x"}, {"op": "remove", "path": "/p"}]), &|said| {
            said.properties.insert("q".to_owned(), "x".to_owned());
            said.properties.remove("p");
        });
        check(json!([{"op": "replace", "path": "/tags", "value": ["c", "c"]}]), &|said| {
            said.tags = ["c".to_owned()].into();
        });
        check(json!([{"op": "add", "path": "/tags/-", "value": "c"}, {"op": "remove", "path": "/tags/0"}]), &|said| {
            said.tags = ["b", "c"].map(str::to_owned).into();
        });
        check(json!([{"op": "replace", "path": "/tags/1", "value": "z"}]), &|said| {
            said.tags = ["a", "z"].map(str::to_owned).into();
        });
    }

    #[test]
    fn wrong_operations_are_refused() {
        let check = |change: Value, want: u16| assert_eq!(patched(json!([change])), Err(want), "{change}");
        assert_eq!(patched(json!({})), Err(400));
        check(json!("x"), 400);
        check(json!({"op": "move", "path": "/name"}), 400);
        check(json!({"path": "/name", "value": "x"}), 400);
        check(json!({"op": "add", "value": "x"}), 400);
        check(json!({"op": "add", "path": "/name"}), 400);
        check(json!({"op": "add", "path": "name", "value": "x"}), 400);
        check(json!({"op": "add", "path": "/", "value": "x"}), 400);
        check(json!({"op": "add", "path": "/x/", "value": "x"}), 400);
        check(json!({"op": "add", "path": "/x~2", "value": "x"}), 400);
        check(json!({"op": "add", "path": "/x/y", "value": "x"}), 400);
        check(json!({"op": "add", "path": "/x", "value": 1}), 400);
        check(json!({"op": "replace", "path": "/name", "value": 1}), 400);
        check(json!({"op": "replace", "path": "/disk_format", "value": "vmdk"}), 400);
        check(json!({"op": "replace", "path": "/q", "value": "x"}), 409);
        check(json!({"op": "remove", "path": "/q"}), 409);
        check(json!({"op": "remove", "path": "/tags/9"}), 409);
        check(json!({"op": "add", "path": "/tags/9", "value": "x"}), 409);
        check(json!({"op": "remove", "path": "/name"}), 403);
        for name in
            ["id", "size", "status", "checksum", "os_hash_value", "self", "created_at", "locations", "os_glance_x"]
        {
            check(json!({"op": "replace", "path": format!("/{name}"), "value": "x"}), 403);
        }
    }
}
