//! `network_data.json`: which NIC has which addresses, for guests that find no DHCP server.
//!
//! Ground rules: links are found by their MAC, names are only for the file's own references; the ways out and the name servers of
//! an address stand at its network, the name servers of all also at the end, since not every guest reads both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::{Address, Link};

/// What a NIC of a guest is at its host, in Nova's words.
const LINK_TYPE: &str = "bridge";

pub(super) fn network_data(links: &[Link]) -> Value {
    let all: Vec<(usize, &Link, &Address)> = links
        .iter()
        .enumerate()
        .flat_map(|(at, link)| link.addresses.iter().map(move |address| (at, link, address)))
        .collect();
    let networks = all.iter().enumerate().map(|(index, (at, link, address))| network(index, *at, link, address));
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in all.iter().flat_map(|(_, _, address)| &address.dns) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    json!({
        "links": links.iter().enumerate().map(|(at, one)| link(at, one)).collect::<Value>(),
        "networks": networks.collect::<Value>(),
        "services": services(&servers),
    })
}

fn link(at: usize, link: &Link) -> Value {
    json!({
        "id": link_id(at), "type": LINK_TYPE, "ethernet_mac_address": link.mac, "mtu": link.mtu, "vif_id": link.port,
    })
}

/// As Nova names one whose device it does not know. The begin of a port's id, as in the names of devices, is the same for ports
/// that are made at once.
fn link_id(at: usize) -> String {
    format!("interface{at}")
}

fn network(index: usize, at: usize, link: &Link, address: &Address) -> Value {
    let default = address.gateway.map(|gateway| {
        let everywhere = unspecified(gateway);
        route(everywhere, 0, gateway)
    });
    let others = address.routes.iter().map(|other| route(other.destination, other.prefix, other.gateway));
    json!({
        "id": format!("network{index}"),
        "type": if address.address.is_ipv4() { "ipv4" } else { "ipv6" },
        "link": link_id(at),
        "ip_address": address.address,
        "netmask": netmask(address.address, address.prefix),
        "routes": default.into_iter().chain(others).collect::<Value>(),
        "network_id": link.network,
        "services": services(&address.dns),
    })
}

fn route(destination: IpAddr, prefix: u8, gateway: IpAddr) -> Value {
    json!({"network": destination, "netmask": netmask(destination, prefix), "gateway": gateway})
}

fn services(servers: &[IpAddr]) -> Value {
    servers.iter().map(|server| json!({"type": "dns", "address": server})).collect()
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The first `prefix` bits set. A longer prefix than the address is the address's own.
fn netmask(of: IpAddr, prefix: u8) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::from_bits(!u32::MAX.checked_shr(prefix.into()).unwrap_or_default()).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(!u128::MAX.checked_shr(prefix.into()).unwrap_or_default()).into(),
    }
}
