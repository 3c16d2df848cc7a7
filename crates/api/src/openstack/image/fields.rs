//! What an image is said to be: the known fields as one table, and custom properties beside them.
//!
//! ```text
//! POST body ─┐                       ┌▶ Said.name, Said.tags, …   a row of FIELDS
//! PATCH op  ─┴▶ set(name, value) ────┼▶ Said.properties           any other name, if its value is text
//!                                    └▶ Fault 403                 read-only and reserved names
//! ```
//!
//! Source: glance, api/v2/images.py, `get_base_properties` and `RequestDeserializer`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use whimbrel_core::image::Visibility;

use super::fault::Fault;

/// Of names, owners, tags and names of properties.
pub const TEXT_CHARS_MAX: usize = 255;
/// Glance's `image_property_quota` and `image_tag_quota`.
const PROPERTIES_MAX: usize = 128;
const TAGS_MAX: usize = 128;
const PROPERTY_BYTES_MAX: usize = 65_535;
/// Linux's own bound is 2 KiB on x86.
const COMMAND_LINE_BYTES_MAX: usize = 2_048;
/// A column of Glance's database.
const NUMBER_MAX: u64 = i32::MAX as u64;

/// What this service can give to a guest.
pub const DISK_FORMATS: &[&str] = &["ami", "ari", "aki", "raw", "qcow2"];
pub const CONTAINER_FORMATS: &[&str] = &["ami", "ari", "aki", "bare"];

/// Properties with a meaning here: what a guest is started with where the image has no boot loader.
pub const KERNEL_ID: &str = "kernel_id";
pub const RAMDISK_ID: &str = "ramdisk_id";
pub const OS_COMMAND_LINE: &str = "os_command_line";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub name: Option<String>,
    pub owner: Option<String>,
    pub visibility: Visibility,
    pub protected: bool,
    pub hidden: bool,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    pub min_disk_gb: u64,
    pub min_ram_mb: u64,
    pub tags: BTreeSet<String>,
    pub properties: BTreeMap<String, String>,
}

impl Default for Said {
    fn default() -> Self {
        Said {
            name: None,
            owner: None,
            visibility: Visibility::Shared,
            protected: false,
            hidden: false,
            disk_format: None,
            container_format: None,
            min_disk_gb: 0,
            min_ram_mb: 0,
            tags: BTreeSet::new(),
            properties: BTreeMap::new(),
        }
    }
}

type Set = fn(&mut Said, Input<'_>) -> Result<(), Fault>;

pub(super) struct Field {
    pub name: &'static str,
    /// `None`: only the service says it.
    set: Option<Set>,
    pub schema: fn() -> Value,
    pub description: &'static str,
}

macro_rules! text {
    ($max:expr) => {
        || json!({"type": ["null", "string"], "maxLength": $max})
    };
}
macro_rules! kind {
    ($kind:expr) => {
        || json!({ "type": $kind })
    };
}

const UUID_PATTERN: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

impl Field {
    const fn new(name: &'static str, schema: fn() -> Value, description: &'static str) -> Field {
        Field { name, set: None, schema, description }
    }

    const fn set(mut self, set: Set) -> Field {
        self.set = Some(set);
        self
    }

    pub fn is_read_only(&self) -> bool {
        // Whoever makes an image may name its id.
        self.set.is_none() && self.name != "id"
    }
}

fn one_of(words: &[&str]) -> Value {
    let words: Vec<Value> = std::iter::once(Value::Null).chain(words.iter().map(|word| json!(word))).collect();
    json!({"type": ["null", "string"], "enum": words})
}

pub(super) const FIELDS: &[Field] = &[
    Field::new("id", || json!({"type": "string", "pattern": UUID_PATTERN}), "An identifier for the image"),
    Field::new("name", text!(TEXT_CHARS_MAX), "Descriptive name for the image").set(|said, input| {
        said.name = input.text_or_null()?;
        Ok(())
    }),
    Field::new("status", || json!({"type": "string", "enum": ["queued", "saving", "active"]}), "Status of the image"),
    Field::new(
        "visibility",
        || json!({"type": "string", "enum": ["community", "public", "private", "shared"]}),
        "Scope of image accessibility",
    )
    .set(|said, input| {
        said.visibility = input.visibility()?;
        Ok(())
    }),
    Field::new("protected", kind!("boolean"), "If true, image will not be deletable.").set(|said, input| {
        said.protected = input.boolean()?;
        Ok(())
    }),
    Field::new("os_hidden", kind!("boolean"), "If true, image will not appear in default image list response.").set(
        |said, input| {
            said.hidden = input.boolean()?;
            Ok(())
        },
    ),
    Field::new("checksum", text!(32), "md5 hash of image contents."),
    Field::new("os_hash_algo", text!(64), "Algorithm to calculate the os_hash_value"),
    Field::new("os_hash_value", text!(128), "Hexdigest of the image contents using the algorithm of os_hash_algo"),
    Field::new("owner", text!(TEXT_CHARS_MAX), "Owner of the image").set(|said, input| {
        said.owner = input.text_or_null()?;
        Ok(())
    }),
    Field::new("size", kind!(["null", "integer"]), "Size of image file in bytes"),
    Field::new("virtual_size", kind!(["null", "integer"]), "Virtual size of image in bytes"),
    Field::new("container_format", || one_of(CONTAINER_FORMATS), "Format of the container").set(|said, input| {
        said.container_format = input.word(CONTAINER_FORMATS)?;
        Ok(())
    }),
    Field::new("disk_format", || one_of(DISK_FORMATS), "Format of the disk").set(|said, input| {
        said.disk_format = input.word(DISK_FORMATS)?;
        Ok(())
    }),
    Field::new("created_at", kind!("string"), "Date and time of image registration"),
    Field::new("updated_at", kind!("string"), "Date and time of the last image modification"),
    Field::new(
        "tags",
        || json!({"type": "array", "items": {"type": "string", "maxLength": TEXT_CHARS_MAX}}),
        "List of strings related to the image",
    )
    .set(|said, input| {
        said.tags = input.tags()?;
        Ok(())
    }),
    Field::new("direct_url", kind!("string"), "URL to access the image file kept in external store"),
    Field::new("min_ram", kind!("integer"), "Amount of ram (in MB) required to boot image.").set(|said, input| {
        said.min_ram_mb = input.number()?;
        Ok(())
    }),
    Field::new("min_disk", kind!("integer"), "Amount of disk space (in GB) required to boot image.").set(
        |said, input| {
            said.min_disk_gb = input.number()?;
            Ok(())
        },
    ),
    Field::new("self", kind!("string"), "An image self url"),
    Field::new("file", kind!("string"), "An image file url"),
    Field::new("stores", kind!("string"), "Store in which image data resides."),
    Field::new("schema", kind!("string"), "An image schema url"),
];

/// Names that no property may have, and their beginning.
const RESERVED: &[&str] = &["location", "locations", "deleted", "deleted_at"];
const RESERVED_PREFIX: &str = "os_glance";

/// A value for the field `name`.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    name: &'a str,
    value: &'a Value,
}

impl Input<'_> {
    fn refuse(&self, why: &str) -> Fault {
        Fault::new(400, format!("Provided object does not match schema 'image': {} {why}: {}", self.name, self.value))
    }

    fn text(&self, chars_max: usize) -> Result<String, Fault> {
        let text = self.value.as_str().ok_or_else(|| self.refuse("is not of type 'string'"))?;
        if text.chars().count() > chars_max {
            return Err(self.refuse(&format!("is longer than {chars_max} characters")));
        }
        // PostgreSQL's text has no such character, and no client shows it.
        if text.contains('\0') { Err(self.refuse("has a NUL character in it")) } else { Ok(text.to_owned()) }
    }

    fn text_or_null(&self) -> Result<Option<String>, Fault> {
        if self.value.is_null() { Ok(None) } else { self.text(TEXT_CHARS_MAX).map(Some) }
    }

    fn word(&self, words: &[&str]) -> Result<Option<String>, Fault> {
        let known = |text: &String| words.contains(&text.as_str());
        match self.text_or_null()? {
            None => Ok(None),
            Some(text) if known(&text) => Ok(Some(text)),
            Some(_) => Err(self.refuse(&format!("is not one of {}", words.join(", ")))),
        }
    }

    fn visibility(&self) -> Result<Visibility, Fault> {
        let text = self.text(TEXT_CHARS_MAX)?;
        text.parse().map_err(|_| self.refuse("is not one of community, public, private, shared"))
    }

    fn boolean(&self) -> Result<bool, Fault> {
        self.value.as_bool().ok_or_else(|| self.refuse("is not of type 'boolean'"))
    }

    fn number(&self) -> Result<u64, Fault> {
        let number = self.value.as_i64().ok_or_else(|| self.refuse("is not of type 'integer'"))?;
        let number = u64::try_from(number).map_err(|_| self.refuse("cannot be a negative value"))?;
        if number > NUMBER_MAX { Err(self.refuse(&format!("is greater than {NUMBER_MAX}"))) } else { Ok(number) }
    }

    fn tags(&self) -> Result<BTreeSet<String>, Fault> {
        let items = self.value.as_array().ok_or_else(|| self.refuse("is not of type 'array'"))?;
        let tags = items.iter().map(|value| Input { name: self.name, value }.text(TEXT_CHARS_MAX));
        tags.collect()
    }
}

/// Whether it is a field and no custom property.
pub(super) fn is_known(name: &str) -> bool {
    FIELDS.iter().any(|field| field.name == name)
}

/// 403 for what clients do not say, whatever they say of it.
pub(super) fn check_writable(name: &str) -> Result<(), Fault> {
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err(Fault::new(403, format!("Attribute '{name}' is reserved.")));
    }
    let read_only = FIELDS.iter().any(|field| field.name == name && (field.is_read_only()));
    if read_only { Err(Fault::new(403, format!("Attribute '{name}' is read-only."))) } else { Ok(()) }
}

impl Said {
    /// One field or property; `name` is writable.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<(), Fault> {
        let input = Input { name, value };
        if let Some(set) = FIELDS.iter().find(|field| field.name == name).and_then(|field| field.set) {
            return set(self, input);
        }
        if name.is_empty() || name.chars().count() > TEXT_CHARS_MAX || name.contains('\0') {
            let told = format!("Custom property should have a name of 1 to {TEXT_CHARS_MAX} characters.");
            return Err(Fault::new(400, told));
        }
        let text = input.text(PROPERTY_BYTES_MAX)?;
        if name == OS_COMMAND_LINE && (text.len() > COMMAND_LINE_BYTES_MAX || text.chars().any(char::is_control)) {
            return Err(input.refuse(&format!("is not one line of at most {COMMAND_LINE_BYTES_MAX} bytes")));
        }
        self.properties.insert(name.to_owned(), text);
        Ok(())
    }

    /// The bounds on how much there may be, after all was set.
    pub(super) fn check_amounts(&self) -> Result<(), Fault> {
        let over = |what: &str, attempted: usize, maximum: usize| {
            Fault::new(
                413,
                format!(
                    "The limit has been exceeded on the number of allowed image {what}. Attempted: {attempted}, Maximum: {maximum}"
                ),
            )
        };
        if self.properties.len() > PROPERTIES_MAX {
            return Err(over("properties", self.properties.len(), PROPERTIES_MAX));
        }
        if self.tags.len() > TAGS_MAX { Err(over("tags", self.tags.len(), TAGS_MAX)) } else { Ok(()) }
    }

    /// `PUT …/tags/{tag}`.
    pub fn add_tag(&mut self, tag: &str) -> Result<(), Fault> {
        let value = json!(tag);
        self.tags.insert(Input { name: "tags", value: &value }.text(TEXT_CHARS_MAX)?);
        self.check_amounts()
    }
}
