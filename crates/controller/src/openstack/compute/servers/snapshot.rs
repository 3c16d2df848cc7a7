//! `createImage`: an image of the server's root disk as it is at one moment, with what Nova says of such images.
//!
//! Ground rules: the image is there, without content, before the answer; who asks owns it; what is said of the image that the
//! server was made of is said of this one too, but for what only fits that one's content.
//! Source: nova, compute/api.py, `snapshot` and `_initialize_instance_snapshot_metadata`; conf/compute.py,
//! `non_inheritable_image_properties`.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use whimbrel_api::openstack::{
    compute::action::answer::{self, ImageCreated},
    fault::Fault,
    image::{create, fields::OS_COMMAND_LINE},
};
use whimbrel_core::{id::ImageId, instance::Boot};
use whimbrel_store::{Errand, ImageRow, InstanceRow, StoreError, TaskState};

use super::{
    super::{answer::Answer, ask::Ask, quotas},
    metadata::few_enough,
    power,
};
use crate::{
    app::{App, Shared},
    openstack::image,
};

const EVENT: &str = "compute_snapshot_instance";
const GIB: u64 = 1 << 30;
/// They speak of one image's bytes, or of how they were cached.
const NOT_INHERITED: &[&str] = &[
    "cache_in_nova",
    "bittorrent",
    "img_signature_hash_method",
    "img_signature",
    "img_signature_key_type",
    "img_signature_certificate_uuid",
];
/// Where all compute calls are, and all image calls.
const COMPUTE: &str = "/compute/v2.1";
const IMAGES: &str = "/image/v2";

pub(super) async fn create(
    app: &Shared,
    ask: &Ask,
    row: InstanceRow,
    name: String,
    metadata: BTreeMap<String, String>,
) -> Answer<Response> {
    few_enough(&quotas::limits(app, ask.requester().project(), None).await?, &metadata)?;
    let id = ImageId(Uuid::now_v7());
    let body = said(app, ask, &row, &name, metadata).await?;
    let refused = |fault: whimbrel_api::openstack::image::fault::Fault| Fault::new(400, fault.message);
    let mut told = create::parse(&body).map_err(refused)?.said;
    told.owner = ask.requester().project().map(ToString::to_string);
    let (kernel, ramdisk) = match &row.spec.boot {
        Boot::Disk => (None, None),
        Boot::Kernel { kernel, ramdisk, .. } => (Some(kernel.clone()), ramdisk.clone()),
    };
    let image = ImageRow { id, name, os_command_line: None, disk: None, kernel, ramdisk, created_us: App::now_us() };
    let entry = image::new_entry(image, told).map_err(refused)?;
    app.store.create_image_entry(&entry).await?;
    let errand = Errand { image: Some(id), ..power::new_errand(ask, EVENT) };
    if let Err(refused) = power::errand(app, ask, &row, "createImage", (TaskState::Imaging, None), errand).await {
        app.store.delete_image(id).await?;
        return Err(refused);
    }
    let base = ask.view().base.trim_end_matches(COMPUTE).to_owned() + IMAGES;
    Ok(match answer::image_created(id.0, &base, &ask.view()) {
        ImageCreated::Body(body) => (StatusCode::ACCEPTED, Json(body)).into_response(),
        ImageCreated::Location(location) => {
            let mut response = StatusCode::ACCEPTED.into_response();
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
    })
}

/// As a client of the Image API would say it, so that the same is refused.
async fn said(
    app: &App,
    ask: &Ask,
    row: &InstanceRow,
    name: &str,
    metadata: BTreeMap<String, String>,
) -> Answer<Value> {
    let (project, own) = (ask.requester().project(), row.owner.project.as_ref());
    let mut properties = match app.store.image_entry(row.image).await {
        Ok(base) => base.properties,
        Err(StoreError::NotFound { .. }) => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    properties.retain(|property, _| !NOT_INHERITED.contains(&property.as_str()));
    let mut more = |property: &str, value: String| properties.insert(property.to_owned(), value);
    more("base_image_ref", row.image.to_string());
    more("image_type", "snapshot".to_owned());
    more("image_location", "snapshot".to_owned());
    more("image_state", "available".to_owned());
    more("instance_uuid", row.id.to_string());
    more("user_id", ask.requester().user.to_string());
    if let Some(own) = own {
        more("owner_id", own.to_string());
    }
    if let Boot::Kernel { command_line, .. } = &row.spec.boot {
        more(OS_COMMAND_LINE, command_line.clone());
    }
    properties.extend(metadata);
    let root_gb = row.details.flavor.as_ref().map_or(0, |flavor| flavor.disk_gb);
    let least_gb = row.spec.disks.first().map_or(0, |disk| disk.virtual_bytes.div_ceil(GIB));
    let fixed: [(&str, Value); 5] = [
        ("name", json!(name)),
        ("disk_format", json!("qcow2")),
        ("container_format", json!("bare")),
        ("min_disk", json!(root_gb.max(least_gb))),
        // Whoever asked for an image of another project's server lets that project see it.
        ("visibility", json!(if project == own { "private" } else { "shared" })),
    ];
    if let Some((taken, _)) = fixed.iter().find(|(field, _)| properties.contains_key(*field)) {
        return Err(Fault::new(400, format!("Invalid image metadata. '{taken}' is not a property of its own.")).into());
    }
    let properties = properties.into_iter().map(|(property, value)| (property, Value::from(value)));
    let fixed = fixed.into_iter().map(|(field, value)| (field.to_owned(), value));
    Ok(Value::Object(properties.chain(fixed).collect::<Map<String, Value>>()))
}
