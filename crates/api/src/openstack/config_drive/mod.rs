//! The files of a config drive: how a guest learns who it is, who may log in, and what its addresses are, without a network.
//!
//! ```text
//! openstack/<version>/meta_data.json     who it is                       versions from 2012-08-10 to 2020-10-14, and latest
//! openstack/<version>/user_data          as the user gave it, if so
//! openstack/<version>/vendor_data.json   since 2013-10-17, vendor_data2.json since 2016-10-06: nothing is in them here
//! openstack/<version>/network_data.json  since 2015-10-15, if the addresses are given from here
//! openstack/content/<number>             files that the user gave; meta_data.json says where they belong
//! ec2/<version>/meta-data.json           the same in the words of EC2; 2009-04-04 and latest
//! ec2/<version>/user-data
//! ```
//!
//! Ground rules: pure, one record in and files out, the same for the same record and seed; what differs between versions is a
//! row of a table. A guest takes the newest version that it knows, so all of them stay.
//! Source: nova, api/metadata/base.py and virt/netutils.py; cloud-init, sources/helpers/openstack.py.

mod ec2;
mod meta_data;
mod network_data;

use std::{collections::BTreeMap, net::IpAddr};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::compute::keypair::KeyKind;

/// The volume's label, by which a guest finds the drive.
pub const LABEL: &str = "config-2";
pub const RANDOM_SEED_BYTES: usize = 512;
/// In base64, as the Compute API takes it.
pub const USER_DATA_BASE64_BYTES_MAX: usize = 65_535;

const FOLSOM: &str = "2012-08-10";
const GRIZZLY: &str = "2013-04-04";
const HAVANA: &str = "2013-10-17";
const LIBERTY: &str = "2015-10-15";
const NEWTON_ONE: &str = "2016-06-30";
const NEWTON_TWO: &str = "2016-10-06";
const OCATA: &str = "2017-02-22";
const ROCKY: &str = "2018-08-27";
const VICTORIA: &str = "2020-10-14";
/// Stands behind every date also in the order of text.
const LATEST: &str = "latest";
const VERSIONS: [&str; 10] = [FOLSOM, GRIZZLY, HAVANA, LIBERTY, NEWTON_ONE, NEWTON_TWO, OCATA, ROCKY, VICTORIA, LATEST];
const EC2_VERSIONS: [&str; 2] = ["2009-04-04", LATEST];

/// 512 random bytes from which a guest feeds its own source of randomness.
pub type RandomSeed = [u8; RANDOM_SEED_BYTES];

/// All that a guest is told of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDrive {
    pub instance: Uuid,
    pub name: String,
    /// With its domain, if it has one.
    pub hostname: String,
    /// Which one of those that were asked for at once.
    pub launch_index: u32,
    pub availability_zone: Option<String>,
    pub project_id: String,
    /// The flavor's name.
    pub flavor: String,
    pub reservation_id: Option<String>,
    pub security_groups: Vec<String>,
    pub key: Option<Key>,
    pub meta: BTreeMap<String, String>,
    pub admin_pass: Option<String>,
    pub devices: Vec<Device>,
    /// Raw, not in base64: see [`from_base64`].
    pub user_data: Option<Vec<u8>>,
    /// Files that the user wants to have in the guest.
    pub injected: Vec<InjectedFile>,
    /// `None`: the guest gets its addresses elsewhere, and is told nothing of them.
    pub network: Option<Vec<Link>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub kind: KeyKind,
    pub public_key: String,
}

/// A device that the user gave tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    Nic { mac: String, address: PciAddress, tags: Vec<String> },
    Disk { path: String, address: PciAddress, tags: Vec<String> },
}

/// `0000:00:04.0`.
pub type PciAddress = String;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedFile {
    /// In the guest.
    pub path: String,
    pub content: Vec<u8>,
}

/// A NIC, its network and its addresses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub port: Uuid,
    pub network: Uuid,
    pub mac: String,
    /// `None` for the guest's own choice.
    pub mtu: Option<u32>,
    pub addresses: Vec<Address>,
}

/// An address and what its subnet says of the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub routes: Vec<Route>,
    pub dns: Vec<IpAddr>,
}

/// Beside the one to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: IpAddr,
}

/// One file of the drive, with its path from the root on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub content: Vec<u8>,
}

/// All files of the drive, each path once.
pub fn files(drive: &ConfigDrive, seed: &RandomSeed) -> Vec<File> {
    let mut files = Vec::new();
    let mut add = |path: String, content: Vec<u8>| files.push(File { path, content });
    for version in EC2_VERSIONS {
        add(format!("ec2/{version}/meta-data.json"), bytes(&ec2::meta_data(drive)));
        if let Some(user_data) = &drive.user_data {
            add(format!("ec2/{version}/user-data"), user_data.clone());
        }
    }
    for version in VERSIONS {
        let mut add = |name: &str, content: Vec<u8>| add(format!("openstack/{version}/{name}"), content);
        add("meta_data.json", bytes(&meta_data::meta_data(drive, seed, version)));
        if let Some(user_data) = &drive.user_data {
            add("user_data", user_data.clone());
        }
        if version >= HAVANA {
            add("vendor_data.json", bytes(&json!({})));
        }
        if version >= NEWTON_TWO {
            add("vendor_data2.json", bytes(&json!({})));
        }
        if version >= LIBERTY
            && let Some(links) = &drive.network
        {
            add("network_data.json", bytes(&network_data::network_data(links)));
        }
    }
    for (index, file) in drive.injected.iter().enumerate() {
        add(format!("openstack{}", content_path(index)), file.content.clone());
    }
    files
}

/// Where a file of the user's is, as `meta_data.json` says it.
fn content_path(index: usize) -> String {
    format!("/content/{index:04}")
}

/// What the Compute API took as base64; `None` if it is none. As lenient as Python's reading of it, which Nova's is.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let dense: String = text.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    LENIENT.decode(dense).ok()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
