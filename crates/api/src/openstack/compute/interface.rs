//! Interfaces of a server: its ports, as `/servers/{id}/os-interface` tells them.
//!
//! Source: nova, api/openstack/compute/attach_interfaces.py and its schema.

use std::net::IpAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use super::shape::{self, Field, View};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub port_id: Uuid,
    pub network_id: Uuid,
    pub mac: String,
    /// Subnet and address.
    pub addresses: Vec<(Uuid, IpAddr)>,
}

type Row = Field<Interface>;

const INTERFACE: &[Row] = &[
    Row::new("net_id", |interface, _| json!(interface.network_id)),
    Row::new("port_id", |interface, _| json!(interface.port_id)),
    Row::new("mac_addr", |interface, _| json!(interface.mac)),
    // A tap is up as long as its guest is there.
    Row::new("port_state", |_, _| json!("ACTIVE")),
    Row::new("fixed_ips", fixed_ips),
    Row::new("tag", |_, _| Value::Null).since(70),
];

fn fixed_ips(interface: &Interface, _: &View) -> Value {
    let told = |(subnet, ip): &(Uuid, IpAddr)| json!({ "subnet_id": subnet, "ip_address": ip });
    interface.addresses.iter().map(told).collect()
}

/// `GET /servers/{id}/os-interface`.
pub fn list(interfaces: &[Interface], view: &View) -> Value {
    let items: Vec<Value> = interfaces.iter().map(|one| shape::object(&[INTERFACE], one, view)).collect();
    json!({ "interfaceAttachments": items })
}

/// `GET /servers/{id}/os-interface/{port}`.
pub fn show(interface: &Interface, view: &View) -> Value {
    json!({ "interfaceAttachment": shape::object(&[INTERFACE], interface, view) })
}

#[cfg(test)]
mod tests {
    use super::{
        super::shape::seen::{member, names},
        *,
    };

    #[test]
    fn a_tag_is_told_from_2_70_on() {
        let id = Uuid::from_u128(1);
        let one = Interface {
            port_id: id,
            network_id: id,
            mac: "52:54:00:00:00:01".to_owned(),
            addresses: vec![(id, "10.0.0.3".parse().unwrap())],
        };
        let check = |minor, want: &[&str]| {
            let told = show(&one, &member(minor));
            assert_eq!(names(&told["interfaceAttachment"]), want, "2.{minor}");
        };
        check(69, &["fixed_ips", "mac_addr", "net_id", "port_id", "port_state"]);
        check(70, &["fixed_ips", "mac_addr", "net_id", "port_id", "port_state", "tag"]);
        let all = list(&[one], &member(1));
        assert_eq!(all["interfaceAttachments"][0]["fixed_ips"], json!([{"subnet_id": id, "ip_address": "10.0.0.3"}]));
    }
}
