//! Tags of a server: short words of its owner's choice.
//!
//! Source: nova, api/openstack/compute/server_tags.py and schemas/server_tags.py.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{
        super::{fault::Fault, microversion::Microversion},
        fields::{self, Input},
    },
    boot::device_tag,
};

/// Of one server.
pub const TAGS_MAX: usize = 50;

/// `PUT /servers/{id}/tags`: all of them, in order and each once.
pub fn parse(body: &Value, at: Microversion) -> Result<Vec<String>, Fault> {
    let items = fields::only(body, "tags", at)?.list(TAGS_MAX)?;
    let tags: BTreeSet<String> = items.into_iter().map(device_tag).collect::<Result<_, _>>()?;
    Ok(tags.into_iter().collect())
}

/// The one that a path names.
pub fn check(tag: &str) -> Result<(), Fault> {
    device_tag(Input::body(&Value::String(tag.to_owned()), Microversion::LAST)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_are_short_and_each_is_there_once() {
        let read = |body: Value| parse(&body, Microversion::LAST).map_err(|fault| fault.status);
        assert_eq!(read(json!({"tags": ["b", "a", "b"]})), Ok(vec!["a".to_owned(), "b".to_owned()]));
        for wrong in
            [json!({"tags": [""]}), json!({"tags": ["a,b"]}), json!({"tags": ["x".repeat(61)]}), json!({"tags": 1})]
        {
            assert_eq!(read(wrong.clone()), Err(400), "{wrong}");
        }
        assert!(check("a").is_ok() && check("a/b").is_err() && check("").is_err());
    }
}
