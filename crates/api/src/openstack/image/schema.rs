//! What the Image API's objects look like, for clients that ask before they send: python-glanceclient makes its options of it.

use serde_json::{Map, Value, json};

use super::fields::FIELDS;

fn properties() -> Map<String, Value> {
    let property = |field: &super::fields::Field| {
        let mut schema = (field.schema)();
        schema["description"] = json!(field.description);
        if field.is_read_only() {
            schema["readOnly"] = json!(true);
        }
        (field.name.to_owned(), schema)
    };
    FIELDS.iter().map(property).collect()
}

pub fn image() -> Value {
    json!({
        "name": "image",
        "properties": properties(),
        "additionalProperties": { "type": "string" },
        "links": [
            { "rel": "self", "href": "{self}" },
            { "rel": "enclosure", "href": "{file}" },
            { "rel": "describedby", "href": "{schema}" },
        ],
    })
}

pub fn images() -> Value {
    collection("images", image())
}

pub fn member() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "name": "member",
        "properties": {
            "created_at": text("Date and time of image member creation"),
            "image_id": text("An identifier for the image"),
            "member_id": text("An identifier for the image member (tenantId)"),
            "schema": { "type": "string", "readOnly": true },
            "status": {
                "type": "string",
                "description": "The status of this image member",
                "enum": ["pending", "accepted", "rejected"],
            },
            "updated_at": text("Date and time of last modification of image member"),
        },
    })
}

pub fn members() -> Value {
    let mut schema = collection("members", member());
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("first");
        properties.remove("next");
    }
    schema["links"] = json!([{ "rel": "describedby", "href": "{schema}" }]);
    schema
}

fn collection(name: &str, item: Value) -> Value {
    let text = json!({ "type": "string" });
    json!({
        "name": name,
        "properties": { name: { "type": "array", "items": item }, "first": text, "next": text, "schema": text },
        "links": [
            { "rel": "first", "href": "{first}" },
            { "rel": "next", "href": "{next}" },
            { "rel": "describedby", "href": "{schema}" },
        ],
    })
}
