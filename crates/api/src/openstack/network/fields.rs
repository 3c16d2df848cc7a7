//! Requests of the Network API, read strictly: an attribute that is not known, or not to be said here, is refused by its name.
//!
//! Source: neutron-lib, api/attributes.py and api/validators/__init__.py.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use serde_json::{Map, Value};
use whimbrel_core::identity::ProjectId;

use super::{
    super::compute::{literal, values::boolean_word},
    fault::Fault,
    resource::{Resource, Taken},
};

/// Names, descriptions and ids of devices.
pub const TEXT_CHARS_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Post,
    Put,
}

/// The attributes that a request names, all of them known.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a>(&'a Map<String, Value>);

/// One of them, not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    name: &'a str,
    value: &'a Value,
}

/// Opens `{"network": {...}}`.
pub fn open<'a>(body: &'a Value, resource: &Resource, method: Method) -> Result<Object<'a>, Fault> {
    let missing = || Fault::bad_request(format!("Unable to find '{}' in request body", resource.name));
    let whole = body.as_object().ok_or_else(missing)?;
    let fields = whole.get(resource.name).and_then(Value::as_object).ok_or_else(missing)?;
    let others: Vec<&str> = whole.keys().map(String::as_str).filter(|name| *name != resource.name).collect();
    if !others.is_empty() {
        return Err(unrecognized(&others));
    }
    let unknown: Vec<&str> =
        fields.keys().map(String::as_str).filter(|name| resource.attribute(name).is_none()).collect();
    if !unknown.is_empty() {
        return Err(unrecognized(&unknown));
    }
    for name in fields.keys() {
        let taken = resource.attribute(name).map_or(Taken::Never, |attribute| attribute.taken);
        match (method, taken) {
            (_, Taken::Always) | (Method::Post, Taken::OnCreate) => (),
            (Method::Post, Taken::Never) => {
                return Err(Fault::bad_request(format!("Attribute '{name}' not allowed in POST")));
            }
            (Method::Put, Taken::Never | Taken::OnCreate) => {
                return Err(Fault::bad_request(format!("Cannot update read-only attribute {name}")));
            }
        }
    }
    Ok(Object(fields))
}

fn unrecognized(names: &[&str]) -> Fault {
    let quoted: Vec<String> = names.iter().map(|name| literal::quoted_text(name)).collect();
    Fault::bad_request(format!("Unrecognized attribute(s) {}", quoted.join(", ")))
}

impl<'a> Object<'a> {
    pub fn get(self, name: &'static str) -> Option<Input<'a>> {
        self.0.get(name).map(|value| Input { name, value })
    }

    pub fn need(self, name: &'static str) -> Result<Input<'a>, Fault> {
        let missing =
            || Fault::bad_request(format!("Failed to parse request. Required attribute '{name}' not specified"));
        self.get(name).ok_or_else(missing)
    }

    /// What is under a name, read; nothing where it is absent.
    pub fn read<T>(
        self,
        name: &'static str,
        read: impl FnOnce(Input<'a>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.get(name).map(read).transpose()
    }

    /// A text, empty where it is absent.
    pub fn text(self, name: &'static str) -> Result<String, Fault> {
        Ok(self.read(name, Input::text)?.unwrap_or_default())
    }

    /// Under its new or its old name.
    pub fn project(self) -> Result<Option<ProjectId>, Fault> {
        let id = |input: Input| input.parsed::<ProjectId>("is not a valid project id");
        let (project, tenant) = (self.read("project_id", id)?, self.read("tenant_id", id)?);
        match (project, tenant) {
            (Some(project), Some(tenant)) if project != tenant => {
                Err(Fault::bad_request("'project_id' and 'tenant_id' do not match"))
            }
            (Some(id), _) | (None, Some(id)) => Ok(Some(id)),
            (None, None) => Ok(None),
        }
    }

    /// For an attribute of something that is not offered: only that it is not used can be said.
    pub fn none_of(self, names: &[&'static str]) -> Result<(), Fault> {
        let said = names.iter().filter_map(|name| self.get(name)).find(|input| !input.is_null());
        said.map_or(Ok(()), |input| Err(input.refuse("is not supported here, leave it out")))
    }
}

impl<'a> Input<'a> {
    pub fn is_null(self) -> bool {
        self.value.is_null()
    }

    pub fn refuse(self, why: impl Display) -> Fault {
        let value: String = literal::quoted(self.value).chars().take(TEXT_CHARS_MAX).collect();
        Fault::bad_request(format!("Invalid input for {}. Reason: {value} {why}.", self.name))
    }

    pub fn or_null<T>(self, read: impl FnOnce(Self) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        if self.is_null() { Ok(None) } else { read(self).map(Some) }
    }

    fn str(self) -> Result<&'a str, Fault> {
        self.value.as_str().ok_or_else(|| self.refuse("is not a valid string"))
    }

    pub fn text(self) -> Result<String, Fault> {
        let text = self.str()?;
        if text.chars().count() > TEXT_CHARS_MAX {
            return Err(self.refuse(format_args!("exceeds maximum length of {TEXT_CHARS_MAX}")));
        }
        if text.contains('\0') {
            return Err(self.refuse("is not a valid string"));
        }
        Ok(text.to_owned())
    }

    pub fn boolean(self) -> Result<bool, Fault> {
        let found = match self.value {
            Value::Bool(value) => Some(*value),
            Value::Number(number) => number.as_u64().filter(|number| *number <= 1).map(|number| number == 1),
            Value::String(text) => boolean_word(text),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        found.ok_or_else(|| self.refuse("cannot be converted to boolean"))
    }

    /// A number, or a text of one.
    pub fn integer(self) -> Result<i64, Fault> {
        let found = match self.value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        found.ok_or_else(|| self.refuse("is not an integer"))
    }

    pub fn parsed<T: FromStr>(self, why: &str) -> Result<T, Fault> {
        self.str()?.parse().map_err(|_| self.refuse(why))
    }

    pub fn uuid<T: FromStr>(self) -> Result<T, Fault> {
        self.parsed("is not a valid UUID")
    }

    pub fn ip(self) -> Result<IpAddr, Fault> {
        self.parsed("is not a valid IP address")
    }

    /// One of the words of a table, as what it stands for.
    pub fn choice<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Fault> {
        let found = self.value.as_str().and_then(|text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| literal::quoted_text(word)).collect();
            self.refuse(format_args!("is not in [{}]", known.join(", ")))
        })
    }

    pub fn list<T>(self, most: usize, read: impl Fn(Input<'a>) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let items = self.value.as_array().ok_or_else(|| self.refuse("is not a list"))?;
        if items.len() > most {
            return Err(self.refuse(format_args!("has more than the {most} items that are possible")));
        }
        items.iter().map(|value| read(Input { name: self.name, value })).collect()
    }

    /// An object with these keys and no others.
    pub fn object(self, keys: &[&str]) -> Result<Object<'a>, Fault> {
        let map = self.value.as_object().ok_or_else(|| self.refuse("is not a dictionary"))?;
        match map.keys().find(|name| !keys.contains(&name.as_str())) {
            Some(_) => Err(self.refuse(format_args!("has keys other than {}", keys.join(", ")))),
            None => Ok(Object(map)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::resource::Attribute, *};

    const THING: Resource = Resource::new(
        ["thing", "things", "things"],
        ("ThingNotFound", "Thing", "could not be found."),
        &[
            Attribute::shown("id"),
            Attribute::made("size"),
            Attribute::changed("name"),
            Attribute::made("project_id"),
            Attribute::made("tenant_id"),
        ],
    );

    #[test]
    fn what_is_not_to_be_said_is_refused_by_name() {
        let check = |method: Method, body: Value, want: Option<&str>| {
            let found = open(&body, &THING, method).map(|_| ()).map_err(|fault| (fault.status, fault.message));
            assert_eq!(found, want.map_or(Ok(()), |message| Err((400, message.to_owned()))), "{body}");
        };
        check(Method::Post, json!({"thing": {"size": 1, "name": "a"}}), None);
        check(Method::Put, json!({"thing": {"name": "a"}}), None);
        check(Method::Post, json!({"thing": {"id": 1}}), Some("Attribute 'id' not allowed in POST"));
        check(Method::Put, json!({"thing": {"size": 1}}), Some("Cannot update read-only attribute size"));
        check(Method::Post, json!({"thing": {"a": 1, "b": 1}}), Some("Unrecognized attribute(s) 'a', 'b'"));
        check(Method::Post, json!({"thing": {}, "other": {}}), Some("Unrecognized attribute(s) 'other'"));
        for bad in [json!({}), json!([]), json!(null), json!({"thing": []}), json!({"things": [{}]})] {
            check(Method::Post, bad, Some("Unable to find 'thing' in request body"));
        }
    }

    #[test]
    fn values_are_read_as_what_they_must_be() {
        fn check<T: std::fmt::Debug + PartialEq>(
            value: Value,
            read: impl Fn(Input) -> Result<T, Fault>,
            want: Result<T, &str>,
        ) {
            let found = read(Input { name: "x", value: &value }).map_err(|fault| fault.message);
            let want = want.map_err(|why| format!("Invalid input for x. Reason: {why}."));
            assert_eq!(found, want, "{value}");
        }
        check(json!("a"), |input| input.text(), Ok("a".to_owned()));
        check(json!(5), |input| input.text(), Err("5 is not a valid string"));
        check(json!("a\0"), |input| input.text(), Err("'a\\x00' is not a valid string"));
        check(json!(1), |input| input.boolean(), Ok(true));
        check(json!("False"), |input| input.boolean(), Ok(false));
        check(json!(2), |input| input.boolean(), Err("2 cannot be converted to boolean"));
        check(json!("7"), |input| input.integer(), Ok(7));
        check(json!(1.5), |input| input.integer(), Err("1.5 is not an integer"));
        check(json!("10.0.0"), |input| input.ip(), Err("'10.0.0' is not a valid IP address"));
        check(json!("B"), |input| input.choice(&[("a", 1), ("b", 2)]), Ok(2));
        check(json!("c"), |input| input.choice(&[("a", 1), ("b", 2)]), Err("'c' is not in ['a', 'b']"));
        check(json!(["a"]), |input| input.list(1, |item| item.text()), Ok(vec!["a".to_owned()]));
        check(json!("a"), |input| input.list(1, |item| item.text()), Err("'a' is not a list"));
        check(json!({"k": 1}), |input| input.object(&["j"]).map(|_| ()), Err("{'k': 1} has keys other than j"));
        assert!(Input { name: "x", value: &json!("a".repeat(256)) }.text().is_err());
        assert!(Input { name: "x", value: &json!(["a", "b"]) }.list(1, |item| item.text()).is_err());
    }

    #[test]
    fn a_project_goes_by_two_names() {
        let check = |body: Value, want: Result<Option<&str>, ()>| {
            let body = json!({ "thing": body });
            let found = open(&body, &THING, Method::Post).unwrap().project().map_err(|_| ());
            assert_eq!(found.map(|id| id.map(String::from)), want.map(|id| id.map(str::to_owned)), "{body}");
        };
        check(json!({}), Ok(None));
        check(json!({"tenant_id": "p"}), Ok(Some("p")));
        check(json!({"tenant_id": "p", "project_id": "p"}), Ok(Some("p")));
        check(json!({"tenant_id": "p", "project_id": "q"}), Err(()));
        check(json!({"project_id": "a/b"}), Err(()));
        check(json!({"project_id": null}), Err(()));
    }
}
