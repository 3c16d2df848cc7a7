//! Ports: `/v2.0/ports`.

use serde_json::{Value, json};
use whimbrel_core::{
    id::{NetworkId, SecurityGroupId},
    identity::ProjectId,
    network::{choice::AddressWish, mac},
};

use super::{
    super::compute::times::{self, Micros},
    fault::Fault,
    fields::{self, Input, Method, Object},
    resource::{Attribute, Resource},
};

/// Neutron's default of `max_fixed_ips_per_port`.
const ADDRESSES_MAX: usize = 5;
const GROUPS_MAX: usize = 64;

pub const PORT: Resource = Resource::new(
    ["port", "ports", "ports"],
    ("PortNotFound", "Port", "could not be found."),
    &[
        Attribute::shown("id"),
        Attribute::made("network_id"),
        Attribute::changed("name"),
        Attribute::changed("description"),
        Attribute::made("tenant_id"),
        Attribute::made("project_id"),
        Attribute::made("mac_address"),
        Attribute::changed("admin_state_up"),
        Attribute::shown("status"),
        Attribute::changed("device_id"),
        Attribute::changed("device_owner"),
        Attribute::changed("fixed_ips"),
        Attribute::changed("security_groups"),
        Attribute::changed("binding:vnic_type"),
        Attribute::changed("binding:host_id").for_admin(),
        Attribute::changed("binding:profile").for_admin(),
        Attribute::shown("binding:vif_type").for_admin(),
        Attribute::shown("binding:vif_details").for_admin(),
        Attribute::shown("created_at"),
        Attribute::shown("updated_at"),
        Attribute::shown("revision_number"),
    ],
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub id: String,
    pub network: String,
    pub project: String,
    pub name: String,
    pub description: String,
    pub mac: String,
    pub admin_up: bool,
    pub device: String,
    pub device_owner: String,
    pub host: String,
    /// A server has it.
    pub bound: bool,
    /// Subnet and address.
    pub addresses: Vec<(String, String)>,
    pub groups: Vec<String>,
    pub revision: i64,
    pub created_us: Micros,
    pub updated_us: Micros,
}

impl Port {
    pub fn body(&self) -> Value {
        let address = |(subnet, address): &(String, String)| json!({ "subnet_id": subnet, "ip_address": address });
        json!({
            "id": self.id,
            "network_id": self.network,
            "name": self.name,
            "description": self.description,
            "tenant_id": self.project,
            "project_id": self.project,
            "mac_address": self.mac,
            "admin_state_up": self.admin_up,
            "status": if self.bound && self.admin_up { "ACTIVE" } else { "DOWN" },
            "device_id": self.device,
            "device_owner": self.device_owner,
            "fixed_ips": self.addresses.iter().map(address).collect::<Vec<_>>(),
            "security_groups": self.groups,
            "binding:vnic_type": VNIC_NORMAL,
            "binding:host_id": self.host,
            "binding:profile": {},
            "binding:vif_type": if self.bound { "bridge" } else { "unbound" },
            "binding:vif_details": {},
            "created_at": times::zulu(self.created_us),
            "updated_at": times::zulu(self.updated_us),
            "revision_number": self.revision,
        })
    }
}

const VNIC_NORMAL: &str = "normal";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPort {
    pub network: NetworkId,
    pub project: Option<ProjectId>,
    pub mac: Option<String>,
    pub change: PortChange,
}

/// `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub admin_up: Option<bool>,
    pub device: Option<String>,
    pub device_owner: Option<String>,
    pub host: Option<String>,
    pub addresses: Option<Vec<AddressWish>>,
    pub groups: Option<Vec<SecurityGroupId>>,
}

pub fn parse_create(body: &Value) -> Result<NewPort, Fault> {
    let fields = fields::open(body, &PORT, Method::Post)?;
    Ok(NewPort {
        network: fields.need("network_id")?.uuid()?,
        project: fields.project()?,
        mac: fields.read("mac_address", |input| Ok(mac::canonical(&input.text()?)?))?,
        change: change(fields)?,
    })
}

pub fn parse_update(body: &Value) -> Result<PortChange, Fault> {
    change(fields::open(body, &PORT, Method::Put)?)
}

fn change(fields: Object) -> Result<PortChange, Fault> {
    fields.read("binding:vnic_type", |input| input.choice(&[(VNIC_NORMAL, ())]))?;
    fields.read("binding:profile", |input| input.or_null(|input| input.object(&[])))?;
    // Null is what clients send for nothing.
    let text =
        |name| Ok::<_, Fault>(fields.read(name, |input| input.or_null(Input::text))?.map(Option::unwrap_or_default));
    Ok(PortChange {
        name: fields.read("name", Input::text)?,
        description: fields.read("description", Input::text)?,
        admin_up: fields.read("admin_state_up", Input::boolean)?,
        device: text("device_id")?,
        device_owner: text("device_owner")?,
        host: text("binding:host_id")?,
        addresses: fields.read("fixed_ips", |input| input.list(ADDRESSES_MAX, address))?,
        groups: fields.read("security_groups", |input| {
            Ok(input.or_null(|input| input.list(GROUPS_MAX, Input::uuid))?.unwrap_or_default())
        })?,
    })
}

fn address(input: Input) -> Result<AddressWish, Fault> {
    let object = input.object(&["subnet_id", "ip_address"])?;
    let wish =
        AddressWish { subnet: object.read("subnet_id", Input::uuid)?, address: object.read("ip_address", Input::ip)? };
    if wish.subnet.is_none() && wish.address.is_none() {
        return Err(input.refuse("needs a subnet_id, an ip_address or both"));
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::{super::resource::seen, *};

    const ID: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn a_port_is_shown_as_the_table_says() {
        let port = Port {
            id: ID.to_owned(),
            network: ID.to_owned(),
            project: "p".to_owned(),
            name: String::new(),
            description: String::new(),
            mac: "52:54:00:00:00:01".to_owned(),
            admin_up: true,
            device: "d".to_owned(),
            device_owner: "compute:nova".to_owned(),
            host: "h1".to_owned(),
            bound: true,
            addresses: vec![("s".to_owned(), "10.0.0.5".to_owned())],
            groups: vec!["g".to_owned()],
            revision: 1,
            created_us: 0,
            updated_us: 0,
        };
        seen::assert_shown(&PORT, &port.body());
        assert_eq!(port.body()["fixed_ips"], json!([{"subnet_id": "s", "ip_address": "10.0.0.5"}]));
        assert_eq!((&port.body()["status"], &port.body()["binding:vif_type"]), (&json!("ACTIVE"), &json!("bridge")));
        let free = Port { bound: false, ..port }.body();
        assert_eq!((&free["status"], &free["binding:vif_type"]), (&json!("DOWN"), &json!("unbound")));
    }

    #[test]
    fn a_port_is_read_strictly() {
        let asked = json!({"port": {
            "network_id": ID, "mac_address": "52-54-00-AA-BB-CC", "device_id": null, "security_groups": [ID],
            "fixed_ips": [{"subnet_id": ID}, {"ip_address": "10.0.0.7"}], "binding:vnic_type": "normal",
        }});
        let new = parse_create(&asked).unwrap();
        assert_eq!((new.mac.as_deref(), new.change.device.as_deref()), (Some("52:54:00:aa:bb:cc"), Some("")));
        let wishes = new.change.addresses.unwrap();
        assert!(wishes[0].subnet.is_some() && wishes[0].address.is_none(), "{wishes:?}");
        assert_eq!(wishes[1], AddressWish { subnet: None, address: Some("10.0.0.7".parse().unwrap()) });
        assert_eq!(parse_update(&json!({"port": {}})).unwrap(), PortChange::default());

        let check = |key: &str, value: Value, part: &str| {
            let fault = parse_create(&json!({"port": {"network_id": ID, key: value}})).expect_err(key);
            assert!(fault.status == 400 && fault.message.contains(part), "{key}: {fault:?}");
        };
        check("mac_address", json!("ff:ff:ff:ff:ff:ff"), "is not a valid MAC address");
        check("fixed_ips", json!([{}]), "needs a subnet_id");
        check("fixed_ips", json!([{"ip_address": "10.0.0"}]), "is not a valid IP address");
        check("fixed_ips", json!([{"ip": "10.0.0.1"}]), "keys other than");
        check("fixed_ips", json!(vec![json!({"subnet_id": ID}); 6]), "more than the 5");
        check("security_groups", json!(["default"]), "is not a valid UUID");
        check("binding:vnic_type", json!("direct"), "is not in ['normal']");
        check("binding:profile", json!({"a": 1}), "keys other than");
        check("port_security_enabled", json!(false), "Unrecognized attribute(s) 'port_security_enabled'");
        check("status", json!("ACTIVE"), "not allowed in POST");
        assert_eq!(parse_create(&json!({"port": {}})).unwrap_err().status, 400);
        assert!(parse_update(&json!({"port": {"mac_address": "52:54:00:00:00:01"}})).is_err());
    }
}
