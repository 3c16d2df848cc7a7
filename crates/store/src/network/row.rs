//! What is kept of networks and ports.

use std::net::IpAddr;

use whimbrel_core::{
    id::{NetworkId, PortId, SecurityGroupId, SubnetId},
    identity::ProjectId,
};

use crate::record::stored_words;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRow {
    pub id: NetworkId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    /// Equal on all hosts.
    pub bridge: String,
    pub vlan: Option<u16>,
    pub mtu: u32,
    pub shared: bool,
    pub external: bool,
    pub admin_up: bool,
    pub generation: i64,
    pub created_us: i64,
    pub updated_us: i64,
}

stored_words!(
    /// How a server has a port.
    PortHold {
        /// It has none, or one that somebody else wrote into it.
        Free = "free",
        /// It was there before the server and outlives it.
        Bound = "bound",
        /// It was made for the server and goes with it.
        Made = "made",
    }
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAddress {
    pub subnet: SubnetId,
    pub address: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRow {
    pub id: PortId,
    pub network: NetworkId,
    pub project: ProjectId,
    pub name: String,
    pub description: String,
    /// Unique, also beyond its network: a guest may have several.
    pub mac: String,
    pub admin_up: bool,
    /// Empty while nothing has it.
    pub device: String,
    /// `compute:nova`.
    pub device_owner: String,
    pub host: String,
    pub hold: PortHold,
    pub nic: u32,
    /// In the order of their subnets.
    pub addresses: Vec<PortAddress>,
    pub groups: Vec<SecurityGroupId>,
    pub generation: i64,
    pub created_us: i64,
    pub updated_us: i64,
}

/// All that is given must match.
#[derive(Clone, Debug, Default)]
pub struct PortFilter {
    pub network: Option<NetworkId>,
    pub project: Option<ProjectId>,
}
