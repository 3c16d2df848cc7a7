//! An image as an answer shows it.

use serde_json::{Map, Value, json};
use whimbrel_core::image::ImageStatus;

use super::{
    super::compute::times::{Micros, zulu},
    fields::Said,
};

/// The only algorithm of `os_hash_value`.
const HASH_ALGORITHM: &str = "sha512";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub id: String,
    pub said: Said,
    pub status: ImageStatus,
    /// Of the file, and of the disk that a guest sees; none before there is content.
    pub file_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub md5: Option<String>,
    pub sha512: Option<String>,
    pub created_us: Micros,
    pub updated_us: Micros,
}

impl ImageRecord {
    pub fn path(&self) -> String {
        format!("/v2/images/{}", self.id)
    }

    pub fn body(&self) -> Value {
        let mut body: Map<String, Value> =
            self.said.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let known = json!({
            "id": self.id,
            "name": self.said.name,
            "disk_format": self.said.disk_format,
            "container_format": self.said.container_format,
            "visibility": self.said.visibility.as_str(),
            "size": self.file_bytes,
            "virtual_size": self.virtual_bytes,
            "status": self.status.as_str(),
            "checksum": self.md5,
            "protected": self.said.protected,
            "min_ram": self.said.min_ram_mb,
            "min_disk": self.said.min_disk_gb,
            "owner": self.said.owner,
            "os_hidden": self.said.hidden,
            "os_hash_algo": self.sha512.as_ref().map(|_| HASH_ALGORITHM),
            "os_hash_value": self.sha512,
            "created_at": zulu(self.created_us),
            "updated_at": zulu(self.updated_us),
            "tags": self.said.tags,
            "self": self.path(),
            "file": format!("{}/file", self.path()),
            "schema": "/v2/schemas/image",
        });
        body.extend(known.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(body)
    }
}

/// Images are shared with nobody: `GET …/members`.
pub fn no_members() -> Value {
    json!({ "members": [], "schema": "/v2/schemas/members" })
}

#[cfg(test)]
mod tests;
