//! `meta_data.json`: who the guest is and who may log in.
//!
//! Ground rules: a key that has nothing to say is left out, as Nova does; guests look for keys, not for nulls.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{ConfigDrive, Device, FOLSOM, GRIZZLY, LIBERTY, NEWTON_ONE, RandomSeed, VICTORIA, content_path};

/// A key, the version that brought it, and its value where there is one.
type Row = (&'static str, &'static str, fn(&ConfigDrive, &RandomSeed) -> Option<Value>);

const ROWS: &[Row] = &[
    ("uuid", FOLSOM, |drive, _| Some(json!(drive.instance))),
    ("name", FOLSOM, |drive, _| Some(json!(drive.name))),
    ("hostname", FOLSOM, |drive, _| Some(json!(drive.hostname))),
    ("launch_index", FOLSOM, |drive, _| Some(json!(drive.launch_index))),
    ("availability_zone", FOLSOM, |drive, _| Some(json!(drive.availability_zone))),
    ("meta", FOLSOM, |drive, _| (!drive.meta.is_empty()).then(|| json!(drive.meta))),
    ("files", FOLSOM, |drive, _| (!drive.injected.is_empty()).then(|| injected(drive))),
    ("admin_pass", FOLSOM, |drive, _| drive.admin_pass.as_ref().map(|password| json!(password))),
    ("public_keys", FOLSOM, |drive, _| {
        let key = drive.key.as_ref()?;
        Some(json!({ key.name.as_str(): key.public_key }))
    }),
    ("keys", FOLSOM, |drive, _| {
        let key = drive.key.as_ref()?;
        Some(json!([{"name": key.name, "type": key.kind.name(), "data": key.public_key}]))
    }),
    ("random_seed", GRIZZLY, |_, seed| Some(json!(STANDARD.encode(seed)))),
    ("project_id", LIBERTY, |drive, _| Some(json!(drive.project_id))),
    ("devices", NEWTON_ONE, |drive, _| Some(drive.devices.iter().map(device).collect())),
    // Virtual CPUs of guests float here.
    ("dedicated_cpus", VICTORIA, |_, _| Some(json!([]))),
];

pub(super) fn meta_data(drive: &ConfigDrive, seed: &RandomSeed, version: &str) -> Value {
    let known = ROWS.iter().filter(|(_, since, _)| version >= *since);
    let pairs = known.filter_map(|(key, _, value)| Some(((*key).to_owned(), value(drive, seed)?)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn injected(drive: &ConfigDrive) -> Value {
    let one =
        |(index, file): (usize, &super::InjectedFile)| json!({"path": file.path, "content_path": content_path(index)});
    drive.injected.iter().enumerate().map(one).collect()
}

fn device(device: &Device) -> Value {
    match device {
        Device::Nic { mac, address, tags } => {
            json!({"type": "nic", "bus": "pci", "address": address, "mac": mac, "tags": tags})
        }
        Device::Disk { path, address, tags } => {
            json!({"type": "disk", "bus": "pci", "address": address, "path": path, "tags": tags})
        }
    }
}
