//! Subnets: `/v2.0/subnets`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use whimbrel_core::{
    id::NetworkId,
    identity::ProjectId,
    network::{address::AddressRange, subnet},
};

use super::{
    super::compute::times::{self, Micros},
    fault::Fault,
    fields::{self, Input, Method, Object},
    resource::{Attribute, Resource},
};

/// Neutron's defaults of `max_dns_nameservers`, `max_subnet_host_routes`, and a bound for pools, which it has not.
const DNS_SERVERS_MAX: usize = 5;
const ROUTES_MAX: usize = 20;
const POOLS_MAX: usize = 64;

pub const SUBNET: Resource = Resource::new(
    ["subnet", "subnets", "subnets"],
    ("SubnetNotFound", "Subnet", "could not be found."),
    &[
        Attribute::shown("id"),
        Attribute::made("network_id"),
        Attribute::changed("name"),
        Attribute::changed("description"),
        Attribute::made("tenant_id"),
        Attribute::made("project_id"),
        Attribute::made("ip_version"),
        Attribute::made("cidr"),
        Attribute::changed("gateway_ip"),
        Attribute::changed("allocation_pools"),
        Attribute::changed("dns_nameservers"),
        Attribute::changed("host_routes"),
        Attribute::changed("enable_dhcp"),
        Attribute::made("ipv6_ra_mode"),
        Attribute::made("ipv6_address_mode"),
        Attribute::made("subnetpool_id"),
        Attribute::shown("created_at"),
        Attribute::shown("updated_at"),
        Attribute::shown("revision_number"),
    ],
);
/// Nobody announces prefixes and nothing is given out of a pool of prefixes.
const NOT_OFFERED: &[&str] = &["ipv6_ra_mode", "ipv6_address_mode", "subnetpool_id"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub network: String,
    pub project: String,
    pub name: String,
    pub description: String,
    pub cidr: IpNet,
    pub gateway: Option<IpAddr>,
    pub pools: Vec<AddressRange>,
    pub dns_servers: Vec<IpAddr>,
    pub routes: Vec<HostRoute>,
    pub dhcp: bool,
    pub revision: i64,
    pub created_us: Micros,
    pub updated_us: Micros,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    pub destination: IpNet,
    pub nexthop: IpAddr,
}

impl Subnet {
    pub fn body(&self) -> Value {
        let route = |route: &HostRoute| json!({ "destination": route.destination, "nexthop": route.nexthop });
        json!({
            "id": self.id,
            "network_id": self.network,
            "name": self.name,
            "description": self.description,
            "tenant_id": self.project,
            "project_id": self.project,
            "ip_version": subnet::version(&self.cidr).number(),
            "cidr": self.cidr,
            "gateway_ip": self.gateway,
            "allocation_pools": self.pools,
            "dns_nameservers": self.dns_servers,
            "host_routes": self.routes.iter().map(route).collect::<Vec<_>>(),
            "enable_dhcp": self.dhcp,
            "ipv6_ra_mode": null,
            "ipv6_address_mode": null,
            "subnetpool_id": null,
            "created_at": times::zulu(self.created_us),
            "updated_at": times::zulu(self.updated_us),
            "revision_number": self.revision,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubnet {
    pub network: NetworkId,
    pub project: Option<ProjectId>,
    pub cidr: IpNet,
    pub change: SubnetChange,
}

/// `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetChange {
    pub name: Option<String>,
    pub description: Option<String>,
    /// `Some(None)`: none.
    pub gateway: Option<Option<IpAddr>>,
    pub pools: Option<Vec<AddressRange>>,
    pub dns_servers: Option<Vec<IpAddr>>,
    pub routes: Option<Vec<HostRoute>>,
    pub dhcp: Option<bool>,
}

pub fn parse_create(body: &Value) -> Result<NewSubnet, Fault> {
    let fields = fields::open(body, &SUBNET, Method::Post)?;
    fields.none_of(NOT_OFFERED)?;
    let network = fields.need("network_id")?.uuid()?;
    let cidr = fields.read("cidr", |input| Ok(subnet::cidr(&input.text()?)?))?;
    let version = fields.read("ip_version", |input| {
        let number = input.integer()?;
        if [4, 6].contains(&number) { Ok(number) } else { Err(input.refuse("is not in [4, 6]")) }
    })?;
    let cidr = cidr.ok_or_else(|| {
        Fault::bad_request(
            "Bad subnets request: a subnetpool must be specified in the absence of a cidr, and there are none.",
        )
    })?;
    let own = i64::from(subnet::version(&cidr).number());
    match version {
        // As in Neutron it has to be said, though it follows.
        None => Err(Fault::bad_request("Failed to parse request. Required attribute 'ip_version' not specified")),
        Some(version) if version != own => Err(Fault::invalid(format_args!(
            "Invalid CIDR {cidr} for subnet with ip_version {version}, the two have to agree"
        ))),
        Some(_) => Ok(NewSubnet { network, project: fields.project()?, cidr, change: change(fields)? }),
    }
}

pub fn parse_update(body: &Value) -> Result<SubnetChange, Fault> {
    change(fields::open(body, &SUBNET, Method::Put)?)
}

fn change(fields: Object) -> Result<SubnetChange, Fault> {
    let some_list = |input: Input| input.list(DNS_SERVERS_MAX, Input::ip);
    Ok(SubnetChange {
        name: fields.read("name", Input::text)?,
        description: fields.read("description", Input::text)?,
        gateway: fields.read("gateway_ip", |input| input.or_null(Input::ip))?,
        pools: fields.read("allocation_pools", |input| input.list(POOLS_MAX, pool))?,
        // Null is what clients send for none.
        dns_servers: fields.read("dns_nameservers", |input| Ok(input.or_null(some_list)?.unwrap_or_default()))?,
        routes: fields.read("host_routes", |input| {
            Ok(input.or_null(|input| input.list(ROUTES_MAX, route))?.unwrap_or_default())
        })?,
        dhcp: fields.read("enable_dhcp", Input::boolean)?,
    })
}

fn pool(input: Input) -> Result<AddressRange, Fault> {
    let object = input.object(&["start", "end"])?;
    Ok(AddressRange { first: object.need("start")?.ip()?, last: object.need("end")?.ip()? })
}

fn route(input: Input) -> Result<HostRoute, Fault> {
    let object = input.object(&["destination", "nexthop"])?;
    let destination = subnet::cidr(&object.need("destination")?.text()?)?;
    Ok(HostRoute { destination, nexthop: object.need("nexthop")?.ip()? })
}

#[cfg(test)]
mod tests {
    use super::{super::resource::seen, *};

    const NETWORK: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn a_subnet_is_read_and_shown() {
        let body = json!({"subnet": {
            "network_id": NETWORK, "cidr": "10.0.0.9/24", "ip_version": 4, "gateway_ip": null, "name": "s",
            "allocation_pools": [{"start": "10.0.0.10", "end": "10.0.0.20"}], "dns_nameservers": ["192.0.2.53"],
            "host_routes": [{"destination": "198.51.100.0/24", "nexthop": "10.0.0.1"}], "enable_dhcp": false,
        }});
        let new = parse_create(&body).unwrap();
        assert_eq!((new.cidr.to_string().as_str(), new.change.gateway), ("10.0.0.0/24", Some(None)));
        let change = new.change;
        let shown = Subnet {
            id: "i".to_owned(),
            network: new.network.to_string(),
            project: "p".to_owned(),
            name: change.name.unwrap(),
            description: String::new(),
            cidr: new.cidr,
            gateway: None,
            pools: change.pools.unwrap(),
            dns_servers: change.dns_servers.unwrap(),
            routes: change.routes.unwrap(),
            dhcp: change.dhcp.unwrap(),
            revision: 1,
            created_us: 0,
            updated_us: 0,
        }
        .body();
        seen::assert_shown(&SUBNET, &shown);
        for key in ["allocation_pools", "dns_nameservers", "host_routes", "gateway_ip", "enable_dhcp", "ip_version"] {
            assert_eq!(shown[key], body["subnet"][key], "{key}");
        }
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        let check = |key: &str, value: Value, part: &str| {
            let mut fields = json!({"network_id": NETWORK, "cidr": "10.0.0.0/24", "ip_version": 4});
            parse_create(&json!({"subnet": fields.clone()})).unwrap();
            fields[key] = value;
            let fault = parse_create(&json!({ "subnet": fields })).expect_err(key);
            assert!(fault.status == 400 && fault.message.contains(part), "{key}: {fault:?}");
        };
        check("cidr", json!("10.0.0.0"), "isn't a recognized IP subnet cidr");
        check("cidr", json!(5), "not a valid string");
        check("ip_version", json!(6), "have to agree");
        check("ip_version", json!(5), "is not in [4, 6]");
        check("network_id", json!("private"), "is not a valid UUID");
        check("gateway_ip", json!("router"), "is not a valid IP address");
        check("allocation_pools", json!([{"start": "10.0.0.2"}]), "'end' not specified");
        check("allocation_pools", json!([{"start": "10.0.0.2", "end": "10.0.0.3", "x": 1}]), "keys other than");
        check("allocation_pools", json!({"start": "10.0.0.2"}), "is not a list");
        check("dns_nameservers", json!(vec!["192.0.2.1"; 6]), "more than the 5");
        check("host_routes", json!([{"destination": "x", "nexthop": "10.0.0.1"}]), "recognized IP subnet cidr");
        check("ipv6_ra_mode", json!("slaac"), "is not supported here");
        check("subnetpool_id", json!(NETWORK), "is not supported here");
        check("colour", json!("red"), "Unrecognized attribute(s) 'colour'");
        let without = |key: &str| {
            let mut fields = json!({"network_id": NETWORK, "cidr": "10.0.0.0/24", "ip_version": 4});
            fields.as_object_mut().unwrap().remove(key);
            parse_create(&json!({ "subnet": fields })).map_err(|fault| fault.status)
        };
        assert_eq!(["network_id", "cidr", "ip_version"].map(|key| without(key).err()), [Some(400); 3]);
    }
}
