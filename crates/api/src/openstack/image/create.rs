//! What a new image is said to be.

use serde_json::Value;
use uuid::Uuid;

use super::{
    fault::Fault,
    fields::{Said, check_writable},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewImage {
    /// Of the client's choice.
    pub id: Option<Uuid>,
    pub said: Said,
    /// Whether the request names an owner: it may name nobody.
    pub names_owner: bool,
}

pub fn parse(body: &Value) -> Result<NewImage, Fault> {
    let object = body.as_object().ok_or_else(|| Fault::new(400, "Provided object is not of type 'object'"))?;
    for name in object.keys() {
        check_writable(name)?;
    }
    let mut said = Said::default();
    for (name, value) in object.iter().filter(|(name, _)| name.as_str() != "id") {
        said.set(name, value)?;
    }
    said.check_amounts()?;
    let id = object.get("id").map(|value| {
        // Only the form with hyphens is an id in all of its calls.
        let text = value.as_str().filter(|text| text.len() == 36);
        let bad =
            || Fault::new(400, format!("Provided object does not match schema 'image': id is not a UUID: {value}"));
        text.and_then(|text| text.parse::<Uuid>().ok()).ok_or_else(bad)
    });
    Ok(NewImage { id: id.transpose()?, said, names_owner: object.contains_key("owner") })
}
