//! What a new server asks of the scheduler: `os:scheduler_hints`.
//!
//! Ground rules: hints that nobody knows are kept and not refused, as the only place of the API where that is so.
//! Source: nova, api/openstack/compute/schemas/servers.py, `_hints`.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::super::{super::fault::Fault, fields::Input};

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Hints {
    pub group: Option<Uuid>,
    pub same_host: Vec<Uuid>,
    pub different_host: Vec<Uuid>,
    pub others: BTreeMap<String, Value>,
}

pub(super) fn hints(input: Input) -> Result<Hints, Fault> {
    let mut hints = Hints::default();
    for (name, value) in input.any_object()?.entries() {
        match name {
            "group" => hints.group = one_or_more(value)?.into_iter().next(),
            "same_host" => hints.same_host = one_or_more(value)?,
            "different_host" => hints.different_host = one_or_more(value)?,
            other => _ = hints.others.insert(other.to_owned(), value.value().clone()),
        }
    }
    Ok(hints)
}

fn one_or_more(input: Input) -> Result<Vec<Uuid>, Fault> {
    match input.word() {
        Some(_) => input.uuid().map(|id| vec![id]),
        None => input.list(usize::MAX)?.into_iter().map(Input::uuid).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::super::microversion::Microversion, *};
    use serde_json::json;

    #[test]
    fn ids_are_read_alone_or_in_lists_and_the_unknown_is_kept() {
        let read = |value: Value| hints(Input::body(&value, Microversion::FIRST));
        let (id, text) = (Uuid::from_u128(1), "00000000-0000-0000-0000-000000000001");
        assert_eq!(read(json!({ "group": text })), Ok(Hints { group: Some(id), ..Hints::default() }));
        assert_eq!(read(json!({ "group": [text] })), Ok(Hints { group: Some(id), ..Hints::default() }));
        assert_eq!(read(json!({ "same_host": text })), Ok(Hints { same_host: vec![id], ..Hints::default() }));
        let both = Hints { different_host: vec![id, id], ..Hints::default() };
        assert_eq!(read(json!({ "different_host": [text, text] })), Ok(both));
        let others = BTreeMap::from([("reservation".into(), json!({"a": 1}))]);
        assert_eq!(read(json!({"reservation": {"a": 1}})), Ok(Hints { others, ..Hints::default() }));
        for wrong in [json!({"group": "web"}), json!({"same_host": 1}), json!({"different_host": [1]}), json!([])] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
