//! `meta-data.json` in EC2's words, for images that were made for it.
//!
//! Ground rules: only what is known. An image's and an instance's numbers of EC2 (`ami-…`, `i-…`) do not exist here, so there is no
//! image's number and the instance's is its UUID.

use serde_json::{Value, json};

use super::{Address, ConfigDrive};

/// The root disk is the first.
const ROOT: &str = "vda";

pub(super) fn meta_data(drive: &ConfigDrive) -> Value {
    let addresses = drive.network.iter().flatten().flat_map(|link| &link.addresses);
    let local = addresses.map(|Address { address, .. }| address).find(|address| address.is_ipv4());
    let mut data = json!({
        "instance-id": drive.instance,
        "ami-launch-index": drive.launch_index,
        "hostname": drive.hostname,
        "local-hostname": drive.hostname,
        "public-hostname": drive.hostname,
        "local-ipv4": local,
        "public-ipv4": "",
        "instance-type": drive.flavor,
        "instance-action": "none",
        "reservation-id": drive.reservation_id,
        "security-groups": drive.security_groups,
        "placement": {"availability-zone": drive.availability_zone},
        "block-device-mapping": {"ami": ROOT, "root": format!("/dev/{ROOT}")},
    });
    if let Some(key) = &drive.key {
        data["public-keys"] = json!({"0": {"openssh-key": key.public_key}});
    }
    data
}
