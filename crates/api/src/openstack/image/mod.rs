//! Glance's API, version 2: images as clients name, describe, find and change them.
//!
//! | call | in | out |
//! |---|---|---|
//! | `GET /v2/images` | `list::Ask` | `list::body` of `record`s |
//! | `POST /v2/images` | `create` | `record::ImageRecord` |
//! | `PATCH /v2/images/{id}` | `patch` | `record::ImageRecord` |
//! | `GET /v2/images/{id}/file` | `range` | bytes |
//! | `GET /v2/schemas/…` | | `schema`, of the same table as `fields` |
//!
//! Ground rules: a custom property stands beside the known fields, so every name that is not known is one, and must be text;
//! what the service finds out about content (size, sums, status) nobody else says.
//! Source: glance, api/v2/images.py, image_data.py, image_members.py, image_tags.py.

pub mod create;
pub mod fault;
pub mod fields;
mod filter;
pub mod list;
pub mod patch;
pub mod range;
pub mod record;
pub mod schema;
pub mod versions;

/// What an answer of another content type than JSON is.
pub const CONTENT_TYPE: &str = "application/octet-stream";
pub const PATCH_TYPE: &str = "application/openstack-images-v2.1-json-patch";
/// Header with the size of an upload that comes in chunks.
pub const IMAGE_SIZE: &str = "x-openstack-image-size";
