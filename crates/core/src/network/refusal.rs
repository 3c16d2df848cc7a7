//! Why something about networks was refused, in Neutron's words.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{address::AddressRange, wire::MTU_MAX, wire::MTU_MIN, wire::VLAN_MAX, wire::VLAN_MIN};
use crate::id::{NetworkId, PortId, SecurityGroupId, SubnetId};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("'{0}' isn't a recognized IP subnet cidr, such as 192.0.2.0/24")]
    BadCidr(String),
    #[error("Gateway {gateway} is not valid on subnet {net}")]
    GatewayOutside { gateway: IpAddr, net: IpNet },
    #[error("Gateway ip {gateway} conflicts with allocation pool {pool}.")]
    GatewayInPool { gateway: IpAddr, pool: AddressRange },
    #[error("Gateway ip {gateway} is in use by a port.")]
    GatewayInUse { gateway: IpAddr },
    #[error("The allocation pool {0} is not valid.")]
    BadPool(AddressRange),
    #[error("The allocation pool {pool} spans beyond the subnet cidr {net}.")]
    PoolOutside { pool: AddressRange, net: IpNet },
    #[error("Found overlapping allocation pools: {one} {other} for subnet {net}.")]
    PoolsOverlap { one: AddressRange, other: AddressRange, net: IpNet },
    #[error("Requested subnet with cidr: {net} for network: {network} overlaps with another subnet, {other}")]
    SubnetsOverlap { net: IpNet, network: NetworkId, other: IpNet },
    #[error("IP address {0} is not a valid IP for the specified subnet.")]
    AddressOutsideSubnet(IpAddr),
    #[error("IP address {0} is not a valid IP for any of the subnets on the specified network.")]
    AddressOutsideNetwork(IpAddr),
    #[error("Failed to create port on network {network}, because fixed_ips included invalid subnet {subnet}")]
    SubnetElsewhere { network: NetworkId, subnet: SubnetId },
    #[error("No more IP addresses available on network {0}.")]
    NoAddressLeft(NetworkId),
    #[error("IP address {address} already allocated in subnet {subnet}")]
    AddressTaken { address: IpAddr, subnet: SubnetId },
    #[error("Unable to complete operation for network {network}. The mac address {mac} is in use.")]
    MacTaken { mac: String, network: NetworkId },
    #[error("'{0}' is not a valid MAC address")]
    BadMac(String),
    #[error("'{0}' is no bridge name, which a physical network is here: use 1 to 15 of a-z, A-Z, 0-9, '-', '_', '.'")]
    BadBridge(String),
    #[error("segmentation_id out of range ({VLAN_MIN} through {VLAN_MAX}): {0}")]
    BadVlan(i64),
    #[error("mtu out of range ({MTU_MIN} through {MTU_MAX}): {0}")]
    BadMtu(i64),
    #[error("{}", wire_taken(bridge, *vlan))]
    WireTaken { bridge: String, vlan: Option<u16> },
    #[error("Unable to complete operation on network {0}. There are one or more ports still in use on the network.")]
    NetworkInUse(NetworkId),
    #[error("Unable to complete operation on subnet {0}: One or more ports have an IP allocation from this subnet.")]
    SubnetInUse(SubnetId),
    #[error(
        "Unable to complete operation on port {port} for network {network}. Port already has an attached device {device}."
    )]
    PortInUse { port: PortId, network: NetworkId, device: String },
    #[error("Security Group {0} in use.")]
    GroupInUse(SecurityGroupId),
    #[error("Security group {0} does not exist")]
    NoGroup(SecurityGroupId),
    #[error("Security group rule already exists.")]
    RuleExists,
}

fn wire_taken(bridge: &str, vlan: Option<u16>) -> String {
    match vlan {
        Some(vlan) => {
            format!("Unable to create the network. The VLAN {vlan} on physical network {bridge} is in use.")
        }
        None => format!("Unable to create the flat network. Physical network {bridge} is in use."),
    }
}
