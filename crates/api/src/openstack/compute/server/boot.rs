//! What a new server is connected to and what it starts from: the networks and the disks of `POST /servers`.
//!
//! Ground rules: the legacy `block_device_mapping` is not taken. A tag of a device was taken at 2.32, forgotten until 2.41 and
//! taken again from 2.42; the tables say so, since clients know it.
//! Source: nova, api/openstack/compute/schemas/servers.py and servers.py, `_get_requested_networks`; block_device.py.

use std::net::IpAddr;

use uuid::Uuid;

use super::super::{
    super::fault::Fault,
    fields::{Input, Key},
    literal,
    values::{Form, INTEGER_MAX, SHORT, TAG, only_of},
};

const TAG_LENGTH: std::ops::RangeInclusive<usize> = 1..=60;

/// What networks are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Networks {
    /// Nothing was said, which is only possible before 2.37.
    #[default]
    Unsaid,
    Auto,
    None,
    Listed(Vec<NetworkRequest>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRequest {
    pub target: NetworkTarget,
    pub fixed_ip: Option<IpAddr>,
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkTarget {
    Network(Uuid),
    Port(Uuid),
}

const NETWORK: &[Key] = &[
    Key::new("uuid"),
    Key::new("port"),
    Key::new("fixed_ip"),
    Key::new("tag").since(32).until(36),
    Key::new("tag").since(42),
];

/// Lists at every version, one of the two words from 2.37.
pub(super) fn networks(input: Input) -> Result<Networks, Fault> {
    match input.word() {
        Some("auto") if input.since(37) => Ok(Networks::Auto),
        Some("none") if input.since(37) => Ok(Networks::None),
        Some(_) if input.since(37) => Err(input.in_no_schema()),
        Some(_) | None => {
            let items = input.list(usize::MAX)?;
            items.into_iter().map(network).collect::<Result<_, _>>().map(Networks::Listed)
        }
    }
}

fn network(input: Input) -> Result<NetworkRequest, Fault> {
    let object = input.object(NETWORK)?;
    let fixed_ip = object.read("fixed_ip", Input::ip)?;
    let port = object.read("port", |input| input.or_null(Input::uuid))?.flatten();
    let target = match (port, object.get("uuid")) {
        (Some(_), _) if fixed_ip.is_some() => {
            return Err(Fault::new(400, "A fixed IP and a port cannot be asked for together: the port has its own."));
        }
        (Some(port), _) => NetworkTarget::Port(port),
        (None, Some(id)) => NetworkTarget::Network(network_id(id)?),
        (None, None) => return Err(Fault::new(400, "Bad network format: missing 'uuid'")),
    };
    Ok(NetworkRequest { target, fixed_ip, tag: object.read("tag", device_tag)? })
}

fn network_id(input: Input) -> Result<Uuid, Fault> {
    input.uuid().map_err(|fault| match input.since(37) {
        true => fault,
        false => {
            let value = literal::plain(input.value());
            Fault::new(400, format!("Bad networks format: network uuid is not in proper format ({value})"))
        }
    })
}

/// A disk of the new server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    pub source: Option<Source>,
    pub destination: Option<Destination>,
    /// Of the image, volume or snapshot.
    pub id: Option<String>,
    /// `None` or negative: never booted from.
    pub boot_index: Option<i64>,
    pub size_gb: Option<u32>,
    pub delete_on_termination: bool,
    pub guest_format: Option<String>,
    pub device_name: Option<String>,
    pub disk_bus: Option<String>,
    pub device_type: Option<String>,
    pub volume_type: Option<String>,
    pub tag: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Volume,
    Image,
    Snapshot,
    Blank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    Local,
    Volume,
}

const BLOCK_DEVICE: &[Key] = &[
    Key::new("source_type"),
    Key::new("destination_type"),
    Key::new("uuid"),
    Key::new("boot_index"),
    Key::new("volume_size"),
    Key::new("delete_on_termination"),
    Key::new("guest_format"),
    Key::new("device_name"),
    Key::new("disk_bus"),
    Key::new("device_type"),
    Key::new("tag").since(32).until(32),
    Key::new("tag").since(42),
    Key::new("volume_type").since(67),
];

const SOURCES: &[(&str, Source)] =
    &[("volume", Source::Volume), ("image", Source::Image), ("snapshot", Source::Snapshot), ("blank", Source::Blank)];
const DESTINATIONS: &[(&str, Destination)] = &[("local", Destination::Local), ("volume", Destination::Volume)];

const ID: Form = Form { pattern: "^[a-zA-Z0-9._-]*$", fits: |text| only_of(text, "._-") };
const DEVICE: Form = Form { pattern: "^[a-zA-Z0-9._/-]*$", fits: |text| only_of(text, "._/-") };

pub(super) fn block_device(input: Input) -> Result<BlockDevice, Fault> {
    let object = input.object(BLOCK_DEVICE)?;
    let short = |name| object.read(name, |input| input.text(0..=255).map(str::to_owned));
    let size = object.read("volume_size", |input| input.integer(1..=INTEGER_MAX))?;
    Ok(BlockDevice {
        source: object.read("source_type", |input| input.choice(SOURCES))?,
        destination: object.read("destination_type", |input| input.choice(DESTINATIONS))?,
        id: object.read("uuid", |input| input.text_of(SHORT, &ID))?,
        boot_index: object
            .read("boot_index", |input| input.or_null(|input| input.integer(i64::MIN..=i64::MAX)))?
            .flatten(),
        size_gb: size.and_then(|size| u32::try_from(size).ok()),
        delete_on_termination: object.read("delete_on_termination", Input::boolean)?.unwrap_or(false),
        guest_format: short("guest_format")?,
        device_name: object.read("device_name", |input| input.text_of(SHORT, &DEVICE))?,
        disk_bus: short("disk_bus")?,
        device_type: short("device_type")?,
        volume_type: object
            .read("volume_type", |input| input.or_null(|input| input.text(0..=255).map(str::to_owned)))?
            .flatten(),
        tag: object.read("tag", device_tag)?,
    })
}

pub(super) fn device_tag(input: Input) -> Result<String, Fault> {
    input.text_of(TAG_LENGTH, &TAG)
}

#[cfg(test)]
mod tests {
    use super::{super::super::super::microversion::Microversion, *};
    use serde_json::{Value, json};

    const ID: &str = "00000000-0000-0000-0000-000000000001";

    fn refused<T: std::fmt::Debug>(result: Result<T, Fault>, want: &str) {
        let fault = result.expect_err(want);
        assert!(fault.status == 400 && fault.message.contains(want), "{fault:?} is not {want}");
    }

    #[test]
    fn networks_are_a_list_or_from_2_37_a_word() {
        let read = |value: Value, minor| networks(Input::body(&value, Microversion::v2(minor)));
        let listed = |target, tag: Option<&str>| {
            Ok(Networks::Listed(vec![NetworkRequest { target, fixed_ip: None, tag: tag.map(str::to_owned) }]))
        };
        let network = NetworkTarget::Network(Uuid::from_u128(1));
        assert_eq!(read(json!([{ "uuid": ID }]), 1), listed(network.clone(), None));
        assert_eq!(read(json!([{"uuid": ID, "port": null}]), 1), listed(network.clone(), None));
        assert_eq!(read(json!([{ "port": ID }]), 1), listed(NetworkTarget::Port(Uuid::from_u128(1)), None));
        for minor in [32, 36, 42, 96] {
            assert_eq!(read(json!([{"uuid": ID, "tag": "t"}]), minor), listed(network.clone(), Some("t")), "2.{minor}");
        }
        for minor in [31, 37, 41] {
            refused(read(json!([{"uuid": ID, "tag": "t"}]), minor), "('tag' was unexpected)");
        }
        assert_eq!(read(json!("auto"), 37), Ok(Networks::Auto));
        assert_eq!(read(json!("none"), 37), Ok(Networks::None));
        assert_eq!(read(json!([]), 37), Ok(Networks::Listed(vec![])));
        refused(read(json!("auto"), 36), "'auto' is not of type 'array'");
        refused(read(json!("all"), 37), "'all' is not valid under any of the given schemas");
        refused(read(json!([{}]), 37), "Bad network format: missing 'uuid'");
        refused(read(json!([{"uuid": "x"}]), 36), "network uuid is not in proper format (x)");
        refused(read(json!([{"uuid": "x"}]), 37), "'x' is not a 'uuid'");
        refused(read(json!([{"port": ID, "fixed_ip": "10.0.0.1"}]), 37), "cannot be asked for together");
    }

    #[test]
    fn a_block_device_is_read_at_its_version() {
        let read = |value: Value, minor| block_device(Input::body(&value, Microversion::v2(minor)));
        let local = json!({"uuid": ID, "boot_index": 0, "source_type": "image", "destination_type": "local",
                           "delete_on_termination": true});
        let device = read(local, 1).expect("what openstackclient sends");
        assert_eq!((device.source, device.destination), (Some(Source::Image), Some(Destination::Local)));
        assert_eq!((device.id.as_deref(), device.boot_index, device.delete_on_termination), (Some(ID), Some(0), true));
        assert_eq!(
            read(json!({"boot_index": "-1", "volume_size": "3"}), 1).map(|d| (d.boot_index, d.size_gb)),
            Ok((Some(-1), Some(3)))
        );
        assert_eq!(read(json!({"boot_index": null}), 1).map(|d| d.boot_index), Ok(None));
        refused(
            read(json!({"source_type": "file"}), 1),
            "'file' is not one of ['volume', 'image', 'snapshot', 'blank']",
        );
        refused(read(json!({"volume_size": 0}), 1), "0 is less than the minimum of 1");
        refused(read(json!({"device_name": "a b"}), 1), "does not match");
        for (key, minor, taken) in [
            ("tag", 31, false),
            ("tag", 32, true),
            ("tag", 33, false),
            ("tag", 41, false),
            ("tag", 42, true),
            ("volume_type", 66, false),
            ("volume_type", 67, true),
        ] {
            assert_eq!(read(json!({ key: "x" }), minor).is_ok(), taken, "{key} at 2.{minor}");
        }
    }
}
