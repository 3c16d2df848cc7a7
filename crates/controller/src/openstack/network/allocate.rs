//! The ports of a server: taken when it is made, read when it is shown, given back when it goes.
//!
//! ```text
//! networks of POST /servers -> which ports (here) -> claim_ports (one transaction) -> NICs, config drive, `addresses`
//! ```
//!
//! Ground rules: a server has all its ports or none; ports that were made for it go with it, those that it was given stay.
//! Words of refusals are Nova's, since they are told by the Compute API.
//! Source: nova, network/neutron.py (`_get_available_networks`, `_validate_requested_network_ids`, `validate_networks`).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use ipnet::IpNet;
use uuid::Uuid;
use whimbrel_api::openstack::{
    compute::server::boot::{NetworkRequest, NetworkTarget, Networks},
    fault::Fault,
};
use whimbrel_core::{
    id::{InstanceId, NetworkId, PortId, SecurityGroupId, SubnetId},
    identity::ProjectId,
    instance::Nic,
    network::{choice::AddressWish, refusal::Refusal},
};
use whimbrel_store::{
    NetworkError, NetworkRow, NewPort, PortHold, PortRow, PortWish, Route, Store, StoreError, SubnetRow, every,
};

use super::security_groups::default_of;
use crate::answer::failure_of;

/// Neutron shows it, and clients filter by it.
const OWNER: &str = "compute:nova";
/// As many as one guest can have.
const NICS_MAX: usize = 8;

/// For whom ports are taken.
pub(crate) struct Wanted<'a> {
    pub server: InstanceId,
    pub project: &'a ProjectId,
    /// An administrator may name any network and port.
    pub is_admin: bool,
    pub networks: &'a Networks,
    /// Names or ids of security groups; none for the default one.
    pub groups: &'a [String],
    pub now_us: i64,
}

/// An address as the guest has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub subnet: SubnetId,
    pub address: IpAddr,
    pub net: IpNet,
    pub gateway: Option<IpAddr>,
    pub dns_servers: Vec<IpAddr>,
    pub routes: Vec<Route>,
}

/// A NIC of a server and what it is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub port: PortId,
    pub network: NetworkId,
    pub network_name: String,
    pub mac: String,
    pub bridge: String,
    pub vlan: Option<u16>,
    pub mtu: u32,
    pub leases: Vec<Lease>,
    pub groups: Vec<SecurityGroupId>,
}

impl Attached {
    pub(crate) fn nic(&self) -> Nic {
        Nic { mac: self.mac.clone(), bridge: self.bridge.clone(), vlan: self.vlan }
    }
}

/// In the order of the wish. The server has none yet; if it is not made after all, [`release`] is called, and if that does not
/// happen either, the ports are given back after an hour.
pub(crate) async fn allocate(store: &Store, wanted: &Wanted<'_>) -> Result<Vec<Attached>, Fault> {
    let networks = networks_of(store, wanted).await?;
    if networks.len() > NICS_MAX {
        let told = format!("{} networks were asked for, a server has at most {NICS_MAX}.", networks.len());
        return Err(Fault::new(400, told));
    }
    if networks.is_empty() {
        return Ok(Vec::new());
    }
    let groups = groups(store, wanted).await?;
    let mut wishes = Vec::new();
    for chosen in &networks {
        wishes.push(match chosen {
            Chosen::Port(port) => PortWish::Take(*port),
            Chosen::Network(network, fixed_ip) => {
                PortWish::Make(Box::new(new_port(wanted, network, *fixed_ip, &groups)))
            }
        });
    }
    let device = wanted.server.to_string();
    let claimed = store.claim_ports(&device, OWNER, &wishes, wanted.now_us).await;
    attached(store, claimed.map_err(refused)?).await.map_err(failed)
}

/// Of all these servers, each one's in the order of its NICs. A server without any is not in it.
pub(crate) async fn ports_of(
    store: &Store,
    servers: &[InstanceId],
) -> Result<BTreeMap<InstanceId, Vec<Attached>>, StoreError> {
    let devices: Vec<String> = servers.iter().map(InstanceId::to_string).collect();
    let rows = store.ports_of(&devices).await?;
    let owners: Vec<Option<InstanceId>> = rows.iter().map(|row| row.device.parse().ok()).collect();
    let mut of: BTreeMap<InstanceId, Vec<Attached>> = BTreeMap::new();
    for (owner, port) in owners.into_iter().zip(attached(store, rows).await?) {
        if let Some(server) = owner {
            of.entry(server).or_default().push(port);
        }
    }
    Ok(of)
}

/// Nothing to do for one that has none.
pub(crate) async fn release(store: &Store, server: InstanceId, now_us: i64) -> Result<(), StoreError> {
    store.release_ports(&server.to_string(), now_us).await
}

/// What one NIC shall be.
enum Chosen {
    Port(PortId),
    Network(NetworkRow, Option<IpAddr>),
}

async fn networks_of(store: &Store, wanted: &Wanted<'_>) -> Result<Vec<Chosen>, Fault> {
    match wanted.networks {
        Networks::None => Ok(Vec::new()),
        Networks::Auto | Networks::Unsaid => the_only_one(store, wanted).await,
        // Before 2.37 an empty list was the way to say nothing.
        Networks::Listed(requests) if requests.is_empty() => the_only_one(store, wanted).await,
        Networks::Listed(requests) => {
            let mut chosen = Vec::new();
            for request in requests {
                chosen.push(one(store, wanted, request).await?);
            }
            Ok(chosen)
        }
    }
}

/// Of those that the project may use and that have addresses to give.
async fn the_only_one(store: &Store, wanted: &Wanted<'_>) -> Result<Vec<Chosen>, Fault> {
    let project = Some(wanted.project);
    let visible = every(|ask| async move { store.list_networks(project, &ask).await }).await.map_err(failed)?;
    let mut usable = visible.into_iter().filter(|network| is_for_guests(network, wanted.project) && network.admin_up);
    match (usable.next(), usable.next()) {
        (None, _) => Ok(Vec::new()),
        (Some(network), None) => {
            needs_subnet(store, network.id).await?;
            Ok(vec![Chosen::Network(network, None)])
        }
        (Some(_), Some(_)) => {
            let told = "Multiple possible networks found, use a Network ID to be more specific.";
            Err(Fault::new(409, told))
        }
    }
}

fn is_for_guests(network: &NetworkRow, project: &ProjectId) -> bool {
    network.project == *project || network.shared
}

async fn one(store: &Store, wanted: &Wanted<'_>, request: &NetworkRequest) -> Result<Chosen, Fault> {
    match request.target {
        NetworkTarget::Network(id) => network(store, wanted, NetworkId(id), request.fixed_ip).await,
        NetworkTarget::Port(id) => port(store, wanted, PortId(id)).await,
    }
}

async fn network(store: &Store, wanted: &Wanted<'_>, id: NetworkId, fixed_ip: Option<IpAddr>) -> Result<Chosen, Fault> {
    let missing = || Fault::new(400, format!("Network {id} could not be found."));
    let found = match store.network(id).await {
        Err(StoreError::NotFound { .. }) => return Err(missing()),
        other => other.map_err(failed)?,
    };
    if !wanted.is_admin && !is_for_guests(&found, wanted.project) {
        return Err(match found.external {
            true => Fault::new(403, format!("It is not allowed to create an interface on external network {id}")),
            false => missing(),
        });
    }
    needs_subnet(store, id).await?;
    Ok(Chosen::Network(found, fixed_ip))
}

async fn needs_subnet(store: &Store, id: NetworkId) -> Result<(), Fault> {
    match subnets(store, id).await.map_err(failed)?.is_empty() {
        true => Err(Fault::new(400, format!("Network {id} requires a subnet in order to boot instances on."))),
        false => Ok(()),
    }
}

async fn port(store: &Store, wanted: &Wanted<'_>, id: PortId) -> Result<Chosen, Fault> {
    let missing = || Fault::new(400, format!("Port id {id} could not be found."));
    let found = match store.port(id).await {
        Err(StoreError::NotFound { .. }) => return Err(missing()),
        other => other.map_err(failed)?,
    };
    if !wanted.is_admin && found.project != *wanted.project {
        return Err(missing());
    }
    if !found.device.is_empty() {
        return Err(port_in_use(id));
    }
    if found.addresses.is_empty() && !subnets(store, found.network).await.map_err(failed)?.is_empty() {
        return Err(Fault::new(400, format!("Port {id} requires a FixedIP in order to be used.")));
    }
    Ok(Chosen::Port(id))
}

fn port_in_use(id: PortId) -> Fault {
    Fault::new(409, format!("Port {id} is still in use."))
}

async fn groups(store: &Store, wanted: &Wanted<'_>) -> Result<Vec<SecurityGroupId>, Fault> {
    let default = default_of(store, wanted.project).await.map_err(failed)?;
    if wanted.groups.is_empty() {
        return Ok(vec![default.id]);
    }
    let project = Some(wanted.project);
    let known = every(|ask| async move { store.list_security_groups(project, &ask).await }).await.map_err(failed)?;
    let mut found = Vec::new();
    for asked in wanted.groups {
        let matching: Vec<SecurityGroupId> = known
            .iter()
            .filter(|group| group.name == *asked || group.id.to_string() == *asked)
            .map(|group| group.id)
            .collect();
        match matching.as_slice() {
            [one] => found.push(*one),
            [] => {
                let told = format!("Security group {asked} not found for project {}.", wanted.project);
                return Err(Fault::new(400, told));
            }
            [_, ..] => {
                let told = format!("Multiple security groups found matching '{asked}'. Use an ID to be more specific.");
                return Err(Fault::new(409, told));
            }
        }
    }
    Ok(found)
}

fn new_port(
    wanted: &Wanted<'_>,
    network: &NetworkRow,
    fixed_ip: Option<IpAddr>,
    groups: &[SecurityGroupId],
) -> NewPort {
    NewPort {
        id: PortId(Uuid::now_v7()),
        network: network.id,
        project: wanted.project.clone(),
        name: String::new(),
        description: String::new(),
        mac: None,
        admin_up: true,
        device: wanted.server.to_string(),
        device_owner: OWNER.to_owned(),
        host: String::new(),
        hold: PortHold::Made,
        nic: 0,
        addresses: fixed_ip.map(|address| vec![AddressWish { subnet: None, address: Some(address) }]),
        groups: groups.to_vec(),
        now_us: wanted.now_us,
    }
}

async fn subnets(store: &Store, network: NetworkId) -> Result<Vec<SubnetRow>, StoreError> {
    every(|ask| async move { store.list_subnets(Some(network), &ask).await }).await
}

/// In the order of `rows`; each network is read once.
async fn attached(store: &Store, rows: Vec<PortRow>) -> Result<Vec<Attached>, StoreError> {
    let mut networks: BTreeMap<NetworkId, (NetworkRow, Vec<SubnetRow>)> = BTreeMap::new();
    let mut found = Vec::new();
    for row in rows {
        let (network, subnets) = match networks.entry(row.network) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let both = (store.network(row.network).await?, subnets(store, row.network).await?);
                place.insert(both)
            }
        };
        found.push(connect(row, network, subnets));
    }
    Ok(found)
}

fn connect(port: PortRow, network: &NetworkRow, subnets: &[SubnetRow]) -> Attached {
    let lease = |given: &whimbrel_store::PortAddress| {
        let subnet = subnets.iter().find(|subnet| subnet.id == given.subnet)?;
        Some(Lease {
            subnet: subnet.id,
            address: given.address,
            net: subnet.cidr,
            gateway: subnet.gateway,
            dns_servers: subnet.dns_servers.clone(),
            routes: subnet.routes.clone(),
        })
    };
    Attached {
        port: port.id,
        network: network.id,
        network_name: network.name.clone(),
        mac: port.mac,
        bridge: network.bridge.clone(),
        vlan: network.vlan,
        mtu: network.mtu,
        leases: port.addresses.iter().filter_map(lease).collect(),
        groups: port.groups,
    }
}

fn refused(error: NetworkError) -> Fault {
    match error {
        NetworkError::Store(error) => failed(error),
        NetworkError::Refused(refusal) => match refusal {
            Refusal::PortInUse { port, .. } => port_in_use(port),
            Refusal::NoAddressLeft(network) => {
                Fault::new(409, format!("No fixed IP addresses available for network: {network}"))
            }
            Refusal::AddressTaken { address, .. } => {
                Fault::new(400, format!("Fixed IP address {address} is already in use."))
            }
            Refusal::AddressOutsideNetwork(address) => {
                Fault::new(400, format!("Fixed IP {address} is not a valid ip address for the network."))
            }
            other => Fault::new(409, other.to_string()),
        },
    }
}

/// A network or port that went meanwhile is not there; the rest is logged with its cause, of which nobody outside is told.
fn failed(error: StoreError) -> Fault {
    match error {
        StoreError::NotFound { .. } => Fault::new(400, format!("{error}; it went meanwhile.")),
        StoreError::Conflict { .. } => Fault::new(409, error.to_string()),
        StoreError::Busy { .. } => {
            failure_of(error);
            Fault::new(503, "The database is busy: try again in a moment.")
        }
        StoreError::Refused { .. }
        | StoreError::Corrupt { .. }
        | StoreError::BadUrl { .. }
        | StoreError::TooNew { .. }
        | StoreError::Db { .. } => {
            failure_of(error);
            Fault::new(500, "Unexpected API Error: see the controller's log for the request's id.")
        }
    }
}

#[cfg(test)]
mod tests;
