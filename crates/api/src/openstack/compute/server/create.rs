//! `POST /servers`: what a new server shall be.
//!
//! Ground rules: what is said is kept as it was said; what follows from leaving something out is decided where it is known, except
//! for plain defaults. One of the two names of the hints is as good as the other.
//! Source: nova, api/openstack/compute/servers.py and schemas/servers.py.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use serde_json::Value;
use uuid::Uuid;

use super::{
    super::{
        super::{fault::Fault, microversion::Microversion},
        fields::{Input, Key, Object},
        literal,
        values::{Form, INTEGER_MAX, PRINTABLE, only_of},
    },
    boot::{self, BlockDevice, Networks},
    hints::{self, Hints},
    record::DiskConfig,
};

const USER_DATA_MAX: usize = 65_535;
const TAGS_MAX: usize = 50;
const CERTIFICATES_MAX: usize = 50;

#[derive(Clone, Debug, PartialEq)]
pub struct NewServer {
    pub name: String,
    pub flavor: String,
    /// `None` where it starts from a volume.
    pub image: Option<Uuid>,
    pub networks: Networks,
    pub block_devices: Vec<BlockDevice>,
    pub metadata: BTreeMap<String, String>,
    pub security_groups: Vec<String>,
    pub key_name: Option<String>,
    /// Base64.
    pub user_data: Option<String>,
    pub config_drive: bool,
    pub personality: Vec<InjectedFile>,
    pub admin_pass: Option<String>,
    pub access_ipv4: Option<Ipv4Addr>,
    pub access_ipv6: Option<Ipv6Addr>,
    pub disk_config: Option<DiskConfig>,
    /// A zone, or `zone:host:node` of an administrator.
    pub availability_zone: Option<String>,
    pub count_min: u32,
    pub count_max: u32,
    pub return_reservation_id: bool,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub trusted_image_certificates: Vec<String>,
    pub host: Option<String>,
    pub hypervisor_hostname: Option<String>,
    pub hostname: Option<String>,
    pub hints: Hints,
}

/// A file that was put into the guest's disk, until 2.56.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedFile {
    pub path: String,
    /// Base64.
    pub contents: String,
}

const HINTS: [&str; 2] = ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"];
const BODY: &[Key] = &[Key::new("server").needed(), Key::new(HINTS[0]), Key::new(HINTS[1])];

const SERVER: &[Key] = &[
    Key::new("name").needed(),
    Key::new("flavorRef").needed(),
    Key::new("imageRef"),
    Key::new("networks").until(36),
    Key::new("networks").since(37).needed(),
    Key::new("block_device_mapping_v2"),
    Key::new("metadata"),
    Key::new("security_groups"),
    Key::new("key_name"),
    Key::new("user_data"),
    Key::new("config_drive"),
    Key::new("personality").until(56),
    Key::new("adminPass"),
    Key::new("accessIPv4"),
    Key::new("accessIPv6"),
    Key::new("OS-DCF:diskConfig"),
    Key::new("availability_zone"),
    Key::new("min_count"),
    Key::new("max_count"),
    Key::new("return_reservation_id"),
    Key::new("description").since(19),
    Key::new("tags").since(52),
    Key::new("trusted_image_certificates").since(63),
    Key::new("host").since(74),
    Key::new("hypervisor_hostname").since(74),
    Key::new("hostname").since(90),
];
const GROUP: &[Key] = &[Key::new("name")];
const FILE: &[Key] = &[Key::new("path"), Key::new("contents")];

/// One label of a host's name, which is all that 2.90 takes.
const LABEL: Form = Form {
    pattern: "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$",
    fits: |text| only_of(text, "-") && !text.starts_with('-') && !text.ends_with('-'),
};

pub fn parse(body: &Value, at: Microversion) -> Result<NewServer, Fault> {
    let body = Input::body(body, at).object(BODY)?;
    let server = body.need("server")?.object(SERVER)?;
    let hints = HINTS.into_iter().find_map(|name| body.get(name)).map(hints::hints).transpose()?;
    let (count_min, count_max) = counts(server)?;
    Ok(NewServer {
        name: server.need("name")?.name()?,
        flavor: flavor_ref(server.need("flavorRef")?)?,
        image: server.read("imageRef", image_ref)?.flatten(),
        networks: server.read("networks", boot::networks)?.unwrap_or_default(),
        block_devices: each(server, "block_device_mapping_v2", usize::MAX, boot::block_device)?,
        metadata: server.read("metadata", Input::metadata)?.unwrap_or_default(),
        security_groups: each(server, "security_groups", usize::MAX, security_group)?.into_iter().flatten().collect(),
        key_name: server.read("key_name", Input::name)?,
        user_data: server.read("user_data", |input| input.base64(USER_DATA_MAX))?,
        config_drive: server.read("config_drive", Input::boolean)?.unwrap_or(false),
        personality: each(server, "personality", usize::MAX, injected_file)?,
        admin_pass: server.read("adminPass", |input| input.text(0..=usize::MAX).map(str::to_owned))?,
        access_ipv4: server.read("accessIPv4", |input| input.address("ipv4"))?,
        access_ipv6: server.read("accessIPv6", |input| input.address("ipv6"))?,
        disk_config: server.read("OS-DCF:diskConfig", disk_config)?,
        availability_zone: server.read("availability_zone", Input::name)?,
        count_min,
        count_max,
        return_reservation_id: server.read("return_reservation_id", Input::boolean)?.unwrap_or(false),
        description: server.read("description", description)?.flatten(),
        tags: each(server, "tags", TAGS_MAX, boot::device_tag)?,
        trusted_image_certificates: certificates(server)?,
        host: server.read("host", Input::host)?,
        hypervisor_hostname: server.read("hypervisor_hostname", Input::host)?,
        hostname: server.read("hostname", hostname)?,
        hints: hints.unwrap_or_default(),
    })
}

fn each<T>(
    server: Object,
    name: &'static str,
    most: usize,
    read: fn(Input) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let items = server.read(name, |input| input.list(most))?.unwrap_or_default();
    items.into_iter().map(read).collect()
}

fn counts(server: Object) -> Result<(u32, u32), Fault> {
    let count = |name| {
        let count = server.read(name, |input| input.integer(1..=INTEGER_MAX))?;
        Ok(count.and_then(|count| u32::try_from(count).ok()))
    };
    let least = count("min_count")?.unwrap_or(1);
    let most = count("max_count")?.unwrap_or(least);
    match least <= most {
        true => Ok((least, most)),
        false => Err(Fault::new(400, "min_count must be <= max_count")),
    }
}

pub fn flavor_ref(input: Input) -> Result<String, Fault> {
    match input.number() {
        Some(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        // Clients may send where the flavor is instead of its id.
        Some(_) | None => {
            let text = input.text(1..=usize::MAX)?;
            Ok(text.rsplit('/').next().unwrap_or(text).to_owned())
        }
    }
}

fn image_ref(input: Input) -> Result<Option<Uuid>, Fault> {
    if input.word() == Some("") { Ok(None) } else { input.uuid().map(Some).map_err(|_| input.in_no_schema()) }
}

fn security_group(input: Input) -> Result<Option<String>, Fault> {
    input.object(GROUP)?.read("name", Input::name)
}

fn injected_file(input: Input) -> Result<InjectedFile, Fault> {
    let file = input.object(FILE)?;
    let path = file.read("path", |input| input.text(0..=usize::MAX).map(str::to_owned))?;
    let contents = file.read("contents", |input| input.base64(usize::MAX))?;
    match (path, contents) {
        (Some(path), Some(contents)) => Ok(InjectedFile { path, contents }),
        (None, _) => Err(Fault::new(400, "Bad personality format: missing 'path'")),
        (Some(_), None) => Err(Fault::new(400, "Bad personality format: missing 'contents'")),
    }
}

pub fn disk_config(input: Input) -> Result<DiskConfig, Fault> {
    input.one_of(&DiskConfig::NAMES).map(DiskConfig::of)
}

pub(super) fn description(input: Input) -> Result<Option<String>, Fault> {
    input.or_null(|input| input.text_of(0..=255, &PRINTABLE))
}

fn certificates(server: Object) -> Result<Vec<String>, Fault> {
    let Some(input) = server.get("trusted_image_certificates").filter(|input| !input.is_null()) else {
        return Ok(Vec::new());
    };
    let items = input.list(CERTIFICATES_MAX)?;
    if items.is_empty() {
        return Err(input.empty_list());
    }
    let texts: Vec<String> =
        items.into_iter().map(|item| item.text(1..=usize::MAX).map(str::to_owned)).collect::<Result<_, _>>()?;
    match texts.iter().collect::<BTreeSet<_>>().len() == texts.len() {
        true => Ok(texts),
        false => Err(input.refuse(format_args!("{} has non-unique elements", literal::quoted(input.value())))),
    }
}

/// One label at first, dots too from 2.94.
pub(super) fn hostname(input: Input) -> Result<String, Fault> {
    if input.since(94) { input.host() } else { input.text_of(2..=63, &LABEL) }
}

#[cfg(test)]
mod tests;
