//! Networks: `/v2.0/networks`.
//!
//! A *physical network* is here the name of the bridge that carries the network, equal on all hosts.

use serde_json::{Value, json};
use whimbrel_core::{identity::ProjectId, network::wire};

use super::{
    super::compute::times::{self, Micros},
    fault::Fault,
    fields::{self, Input, Method, Object},
    resource::{Attribute, Resource},
};

pub const NETWORK: Resource = Resource::new(
    ["network", "networks", "networks"],
    ("NetworkNotFound", "Network", "could not be found."),
    &[
        Attribute::shown("id"),
        Attribute::changed("name"),
        Attribute::changed("description"),
        Attribute::made("tenant_id"),
        Attribute::made("project_id"),
        Attribute::changed("admin_state_up"),
        Attribute::changed("mtu"),
        Attribute::changed("shared"),
        Attribute::changed("router:external"),
        Attribute::made("provider:network_type").for_admin(),
        Attribute::made("provider:physical_network").for_admin(),
        Attribute::made("provider:segmentation_id").for_admin(),
        Attribute::shown("status"),
        Attribute::shown("subnets"),
        Attribute::shown("created_at"),
        Attribute::shown("updated_at"),
        Attribute::shown("revision_number"),
    ],
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    pub project: String,
    pub name: String,
    pub description: String,
    pub bridge: String,
    pub vlan: Option<u16>,
    pub mtu: u32,
    pub shared: bool,
    pub external: bool,
    pub admin_up: bool,
    pub subnets: Vec<String>,
    pub revision: i64,
    pub created_us: Micros,
    pub updated_us: Micros,
}

impl Network {
    pub fn body(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "tenant_id": self.project,
            "project_id": self.project,
            "admin_state_up": self.admin_up,
            "mtu": self.mtu,
            "shared": self.shared,
            "router:external": self.external,
            "provider:network_type": if self.vlan.is_some() { VLAN } else { FLAT },
            "provider:physical_network": self.bridge,
            "provider:segmentation_id": self.vlan,
            "status": "ACTIVE",
            "subnets": self.subnets,
            "created_at": times::zulu(self.created_us),
            "updated_at": times::zulu(self.updated_us),
            "revision_number": self.revision,
        })
    }
}

const FLAT: &str = "flat";
const VLAN: &str = "vlan";

/// Where a new network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub bridge: String,
    pub vlan: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNetwork {
    pub project: Option<ProjectId>,
    pub change: NetworkChange,
    pub provider: Option<Provider>,
}

/// `None`: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub admin_up: Option<bool>,
    pub mtu: Option<u32>,
    pub shared: Option<bool>,
    pub external: Option<bool>,
}

impl NetworkChange {
    /// Whether it says what only an administrator may.
    pub fn is_for_admin(&self) -> bool {
        self.shared.is_some() || self.external.is_some() || self.mtu.is_some()
    }
}

pub fn parse_create(body: &Value) -> Result<NewNetwork, Fault> {
    let fields = fields::open(body, &NETWORK, Method::Post)?;
    Ok(NewNetwork { project: fields.project()?, change: change(fields)?, provider: provider(fields)? })
}

pub fn parse_update(body: &Value) -> Result<NetworkChange, Fault> {
    change(fields::open(body, &NETWORK, Method::Put)?)
}

fn change(fields: Object) -> Result<NetworkChange, Fault> {
    Ok(NetworkChange {
        name: fields.read("name", Input::text)?,
        description: fields.read("description", Input::text)?,
        admin_up: fields.read("admin_state_up", Input::boolean)?,
        mtu: fields.read("mtu", |input| Ok(wire::mtu(input.integer()?)?))?,
        shared: fields.read("shared", Input::boolean)?,
        external: fields.read("router:external", Input::boolean)?,
    })
}

fn provider(fields: Object) -> Result<Option<Provider>, Fault> {
    let kind = fields.read("provider:network_type", |input| input.or_null(Input::text))?.flatten();
    let bridge = fields.read("provider:physical_network", |input| input.or_null(Input::text))?.flatten();
    let segment = fields.read("provider:segmentation_id", |input| input.or_null(Input::integer))?.flatten();
    let Some(kind) = kind else {
        return match (bridge, segment) {
            (None, None) => Ok(None),
            (Some(_), _) | (_, Some(_)) => Err(Fault::invalid("network_type required")),
        };
    };
    let vlan = match (kind.as_str(), segment) {
        (FLAT, None) => None,
        (FLAT, Some(_)) => return Err(Fault::invalid("provider:segmentation_id specified for flat network")),
        (VLAN, Some(number)) => Some(wire::vlan(number)?),
        (VLAN, None) => return Err(Fault::invalid("segmentation_id required for VLAN provider network")),
        (_, _) => {
            let told = format!("Unknown network type '{kind}': there are flat and vlan");
            return Err(Fault::invalid(told));
        }
    };
    let bridge =
        bridge.ok_or_else(|| Fault::invalid(format_args!("physical_network required for {kind} provider network")))?;
    Ok(Some(Provider { bridge: wire::bridge(&bridge)?, vlan }))
}

#[cfg(test)]
mod tests {
    use super::{
        super::resource::{seen, seen_by},
        *,
    };

    #[test]
    fn the_body_is_what_the_table_says_and_less_for_members() {
        let network = Network {
            id: "n".to_owned(),
            project: "p".to_owned(),
            name: "private".to_owned(),
            description: String::new(),
            bridge: "br0".to_owned(),
            vlan: Some(7),
            mtu: 1500,
            shared: true,
            external: false,
            admin_up: true,
            subnets: vec!["s".to_owned()],
            revision: 1,
            created_us: 0,
            updated_us: 0,
        };
        let body = network.body();
        seen::assert_shown(&NETWORK, &body);
        assert_eq!((&body["provider:network_type"], &body["provider:segmentation_id"]), (&json!("vlan"), &json!(7)));
        let member = seen_by(&NETWORK, body.clone(), false);
        assert!(member.get("provider:physical_network").is_none() && member["shared"] == true, "{member}");
        assert_eq!(seen_by(&NETWORK, body.clone(), true), body);
    }

    #[test]
    fn a_wire_is_said_whole_or_not_at_all() {
        let check = |wire: Value, want: Result<Option<(&str, Option<u16>)>, &str>| {
            let mut fields = json!({"name": "n"});
            for (name, value) in wire.as_object().unwrap() {
                fields[format!("provider:{name}")] = value.clone();
            }
            let found = parse_create(&json!({"network": fields})).map(|new| new.provider);
            match (found, want) {
                (Ok(found), Ok(want)) => {
                    assert_eq!(
                        found.map(|wire| (wire.bridge, wire.vlan)),
                        want.map(|(bridge, vlan)| (bridge.to_owned(), vlan))
                    );
                }
                (Err(fault), Err(part)) => assert!(fault.status == 400 && fault.message.contains(part), "{fault:?}"),
                (found, want) => panic!("{wire}: {found:?} and not {want:?}"),
            }
        };
        check(json!({}), Ok(None));
        check(json!({"network_type": "flat", "physical_network": "br0"}), Ok(Some(("br0", None))));
        let vlan = |id: Value| json!({"network_type": "vlan", "physical_network": "br0", "segmentation_id": id});
        check(vlan(json!(7)), Ok(Some(("br0", Some(7)))));
        check(vlan(json!("4094")), Ok(Some(("br0", Some(4094)))));
        check(vlan(json!(4095)), Err("out of range (1 through 4094): 4095"));
        check(vlan(json!(0)), Err("out of range"));
        check(vlan(Value::Null), Err("segmentation_id required"));
        check(json!({"physical_network": "br0"}), Err("network_type required"));
        check(json!({"network_type": "flat"}), Err("physical_network required"));
        check(json!({"network_type": "flat", "physical_network": "a/b"}), Err("'a/b' is no bridge name"));
        check(json!({"network_type": "flat", "physical_network": "br0", "segmentation_id": 1}), Err("flat network"));
        check(json!({"network_type": "vxlan", "physical_network": "br0"}), Err("flat and vlan"));
    }

    #[test]
    fn a_change_says_what_it_says() {
        let found = parse_update(&json!({"network": {"name": "n", "mtu": 9000}})).unwrap();
        assert_eq!(found, NetworkChange { name: Some("n".to_owned()), mtu: Some(9000), ..NetworkChange::default() });
        assert!(found.is_for_admin());
        for bad in [
            json!({"mtu": 1}),
            json!({"shared": "perhaps"}),
            json!({"provider:network_type": "flat"}),
            json!({"id": "x"}),
        ] {
            assert_eq!(parse_update(&json!({ "network": bad })).map_err(|fault| fault.status), Err(400), "{bad}");
        }
    }
}
