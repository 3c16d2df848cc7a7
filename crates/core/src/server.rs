//! What a server is to its owner, beside its hardware: all that the Compute API keeps of it and only gives back.
//!
//! Ground rules: nothing here decides where a guest runs or how; a field that is added has a default, so that records of an
//! older release are read.
//! Source: nova, db/main/models.py, `Instance` and `InstanceExtra`.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    identity::{ProjectId, UserId},
    resize::Resize,
};

/// Whose a server is. Neither is known of one that the native API made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    pub project: Option<ProjectId>,
    pub user: Option<UserId>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerDetails {
    pub description: Option<String>,
    pub hostname: String,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub key: Option<ServerKey>,
    /// Base64, as it was given.
    pub user_data: Option<String>,
    pub config_drive: bool,
    /// As it was asked for.
    pub availability_zone: Option<String>,
    pub disk_config_manual: bool,
    pub access_ipv4: Option<String>,
    pub access_ipv6: Option<String>,
    pub reservation_id: Option<String>,
    pub launch_index: u32,
    /// A copy: the flavor itself may change or go.
    pub flavor: Option<FlavorCopy>,
    pub kernel_id: Option<String>,
    pub ramdisk_id: Option<String>,
    pub security_groups: Vec<String>,
    pub trusted_image_certificates: Option<Vec<String>>,
    pub group: Option<Uuid>,
    /// In the order of the hardware's NICs.
    pub nics: Vec<NicAddresses>,
    pub lock: Option<Lock>,
    /// An administrator said so; it lasts until one says otherwise.
    pub set_to_error: bool,
    /// Under way, or waiting to be confirmed.
    pub resize: Option<Box<Resize>>,
}

/// A copy of the key pair as it was when the server was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKey {
    pub name: String,
    pub kind: String,
    pub public_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlavorCopy {
    pub id: String,
    pub name: String,
    pub vcpus: u32,
    pub ram_mb: u64,
    pub disk_gb: u64,
    pub ephemeral_gb: u64,
    pub swap_mb: u64,
    pub extra_specs: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicAddresses {
    pub network: String,
    pub mac: String,
    pub addresses: Vec<IpAddr>,
    pub port: Option<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Then its owner cannot take it off.
    pub by_admin: bool,
    pub reason: Option<String>,
}
