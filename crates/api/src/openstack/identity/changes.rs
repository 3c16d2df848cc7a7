//! What is asked of users, projects, domains and roles: made by `POST`, changed by `PATCH`.
//!
//! Ground rules: what is not said stays as it is; a name is 1 to 255 characters and not all blanks; a user may carry texts of
//! the client's own, few and short; anything else that is not known is refused where it would be lost.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use whimbrel_core::identity::NAME_CHARS_MAX;

use super::fault::Fault;

const DESCRIPTION_CHARS_MAX: usize = 4096;
const EXTRAS_MAX: usize = 32;
const EXTRA_CHARS_MAX: usize = 1024;
/// Keystone's own bound for what it hashes whole is less.
const PASSWORD_BYTES_MAX: usize = 4096;

/// `None`: not said.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub name: Option<String>,
    pub domain_id: Option<String>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    /// `Some(None)`: none any more.
    pub default_project_id: Option<Option<String>>,
    pub password: Option<String>,
    pub extra: BTreeMap<String, String>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Change(name {:?}, domain {:?}, enabled {:?})", self.name, self.domain_id, self.enabled)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Domain,
    Project,
    User,
    Role,
}

impl Object {
    /// The only key of the body.
    pub fn key(self) -> &'static str {
        match self {
            Object::Domain => "domain",
            Object::Project => "project",
            Object::User => "user",
            Object::Role => "role",
        }
    }

    /// What clients send along, and what means nothing here.
    fn ignored(self) -> &'static [&'static str] {
        match self {
            Object::Domain | Object::Role => &["options", "tags", "id"],
            Object::Project => &["options", "tags", "parent_id", "is_domain", "id"],
            Object::User => &["options", "id", "original_password"],
        }
    }
}

pub fn parse(object: Object, body: &Value) -> Result<Change, Fault> {
    let key = object.key();
    let fields = body.get(key).and_then(Value::as_object);
    let fields = fields.ok_or_else(|| Fault::new(400, format!("Expecting to find {key} in the body.")))?;
    let mut change = Change::default();
    for (field, value) in fields {
        take(object, &mut change, field, value)?;
    }
    if change.extra.len() > EXTRAS_MAX {
        return Err(Fault::new(400, format!("A user keeps at most {EXTRAS_MAX} texts of the client's own.")));
    }
    Ok(change)
}

/// As [`parse`], for what is made: it needs a name.
pub fn parse_new(object: Object, body: &Value) -> Result<(String, Change), Fault> {
    let mut change = parse(object, body)?;
    let missing = || Fault::new(400, format!("Expecting to find name in {}.", object.key()));
    let name = change.name.take().ok_or_else(missing)?;
    Ok((name, change))
}

fn take(object: Object, change: &mut Change, field: &str, value: &Value) -> Result<(), Fault> {
    match (object, field) {
        (_, "name") => change.name = Some(name(value)?),
        (Object::Project | Object::User, "domain_id") => change.domain_id = text_or_null(field, value, NAME_CHARS_MAX)?,
        (Object::Domain | Object::Project | Object::Role, "description") => {
            change.description = Some(text_or_null(field, value, DESCRIPTION_CHARS_MAX)?.unwrap_or_default());
        }
        (Object::Domain | Object::Project | Object::User, "enabled") => {
            change.enabled = Some(value.as_bool().ok_or_else(|| invalid(field, "a boolean"))?);
        }
        (Object::User, "default_project_id") => {
            change.default_project_id = Some(text_or_null(field, value, NAME_CHARS_MAX)?);
        }
        (Object::User, "password") => change.password = password(value)?,
        (_, ignored) if object.ignored().contains(&ignored) => {}
        (Object::User, own) if value.is_string() && own.chars().count() <= NAME_CHARS_MAX => {
            if let Some(text) = text_or_null(own, value, EXTRA_CHARS_MAX)? {
                change.extra.insert(own.to_owned(), text);
            }
        }
        (_, _) if value.is_null() => {}
        (_, unknown) => {
            let unknown: String = unknown.chars().take(NAME_CHARS_MAX).collect();
            return Err(Fault::new(400, format!("'{unknown}' is not known of a {}.", object.key())));
        }
    }
    Ok(())
}

fn invalid(field: &str, want: &str) -> Fault {
    Fault::new(400, format!("Invalid input for field '{field}': it must be {want}."))
}

fn name(value: &Value) -> Result<String, Fault> {
    let want = || invalid("name", &format!("1 to {NAME_CHARS_MAX} characters, not all blank"));
    let name = value.as_str().ok_or_else(want)?;
    let good = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
    if good { Ok(name.to_owned()) } else { Err(want()) }
}

fn text_or_null(field: &str, value: &Value, chars_max: usize) -> Result<Option<String>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= chars_max => Ok(Some(text.clone())),
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(invalid(field, &format!("a text of at most {chars_max} characters, or null")))
        }
    }
}

fn password(value: &Value) -> Result<Option<String>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.len() <= PASSWORD_BYTES_MAX => Ok(Some(text.clone())),
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(invalid("password", &format!("a text of at most {PASSWORD_BYTES_MAX} bytes, or null")))
        }
    }
}

/// `POST /v3/users/{id}/password`: the old password, and the new.
pub fn parse_password_change(body: &Value) -> Result<(String, String), Fault> {
    let user = body.get("user").and_then(Value::as_object);
    let user: &Map<String, Value> = user.ok_or_else(|| Fault::new(400, "Expecting to find user in the body."))?;
    let text = |field: &str| {
        let said = user.get(field).map(password).transpose()?.flatten();
        said.ok_or_else(|| Fault::new(400, format!("Expecting to find {field} in user.")))
    };
    Ok((text("original_password")?, text("password")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_taken_or_refused() {
        let check = |object: Object, fields: Value, good: bool| {
            let mut body = Map::new();
            body.insert(object.key().to_owned(), fields.clone());
            let got = parse_new(object, &Value::Object(body));
            assert_eq!(got.is_ok(), good, "{object:?} {fields}: {got:?}");
        };
        check(Object::Project, json!({"name": "p", "domain_id": "d", "description": null, "enabled": true}), true);
        check(Object::Project, json!({"name": "p", "tags": [], "parent_id": "d", "is_domain": false}), true);
        check(Object::Project, json!({"name": "p", "color": "red"}), false);
        check(Object::Project, json!({"description": "nameless"}), false);
        check(Object::Project, json!({"name": " "}), false);
        check(Object::Project, json!({"name": "a".repeat(256)}), false);
        check(Object::Project, json!({"name": "p", "enabled": "true"}), false);
        check(Object::User, json!({"name": "u", "email": "a@b", "password": "x", "default_project_id": null}), true);
        check(Object::User, json!({"name": "u", "email": {"deep": 1}}), false);
        check(Object::User, json!({"name": "u", "password": 7}), false);
        check(Object::User, json!({"name": "u", "email": "a".repeat(1025)}), false);
        check(Object::Role, json!({"name": "r", "domain_id": null}), true);
        check(Object::Role, json!({"name": "r", "domain_id": "d"}), false);
        check(Object::Domain, json!({"name": "a\u{0}b"}), false);
        check(Object::Domain, json!(["name"]), false);
        assert!(parse(Object::User, &json!({"project": {}})).is_err());
    }

    #[test]
    fn what_is_not_said_stays() {
        let change = parse(Object::User, &json!({"user": {"default_project_id": null}})).unwrap();
        assert_eq!(change, Change { default_project_id: Some(None), ..Change::default() });
        let change = parse(Object::User, &json!({"user": {"password": null}})).unwrap();
        assert_eq!(change, Change::default());
    }
}
