//! Rules of security groups: `/v2.0/security-group-rules`.

use ipnet::IpNet;
use serde_json::{Value, json};
use whimbrel_core::{
    id::SecurityGroupId,
    identity::ProjectId,
    network::{address::IpVersion, subnet},
};

use super::{
    super::compute::times::{self, Micros},
    fault::Fault,
    fields::{self, Input, Method, Object},
    resource::{Attribute, Resource},
};

pub const SECURITY_GROUP_RULE: Resource = Resource::new(
    ["security_group_rule", "security_group_rules", "security-group-rules"],
    ("SecurityGroupRuleNotFound", "Security group rule", "does not exist"),
    &[
        Attribute::shown("id"),
        Attribute::made("security_group_id"),
        Attribute::made("tenant_id"),
        Attribute::made("project_id"),
        Attribute::made("direction"),
        Attribute::made("ethertype"),
        Attribute::made("protocol"),
        Attribute::made("port_range_min"),
        Attribute::made("port_range_max"),
        Attribute::made("remote_ip_prefix"),
        Attribute::made("remote_group_id"),
        Attribute::made("description"),
        Attribute::shown("created_at"),
        Attribute::shown("updated_at"),
        Attribute::shown("revision_number"),
    ],
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

const DIRECTIONS: &[(&str, Direction)] = &[("ingress", Direction::Ingress), ("egress", Direction::Egress)];
const ETHERTYPES: &[(&str, IpVersion)] = &[("IPv4", IpVersion::V4), ("IPv6", IpVersion::V6)];

/// Names that stand for numbers of IANA.
const PROTOCOLS: [&str; 22] = [
    "ah",
    "dccp",
    "egp",
    "esp",
    "gre",
    "icmp",
    "icmpv6",
    "igmp",
    "ipip",
    "ipv6-encap",
    "ipv6-frag",
    "ipv6-icmp",
    "ipv6-nonxt",
    "ipv6-opts",
    "ipv6-route",
    "ospf",
    "pgm",
    "rsvp",
    "sctp",
    "tcp",
    "udp",
    "udplite",
];
const WITH_PORTS: [&str; 10] = ["tcp", "6", "udp", "17", "sctp", "132", "dccp", "33", "udplite", "136"];
const ICMP: [&str; 5] = ["icmp", "1", "icmpv6", "ipv6-icmp", "58"];
const ICMP_CODE_MAX: u16 = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroupRule {
    pub id: String,
    pub group: String,
    pub project: String,
    pub direction: Direction,
    pub version: IpVersion,
    pub protocol: Option<String>,
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    pub remote_prefix: Option<IpNet>,
    pub remote_group: Option<String>,
    pub description: String,
    pub created_us: Micros,
}

impl SecurityGroupRule {
    pub fn body(&self) -> Value {
        json!({
            "id": self.id,
            "security_group_id": self.group,
            "tenant_id": self.project,
            "project_id": self.project,
            "direction": word(DIRECTIONS, self.direction),
            "ethertype": word(ETHERTYPES, self.version),
            "protocol": self.protocol,
            "port_range_min": self.port_min,
            "port_range_max": self.port_max,
            "remote_ip_prefix": self.remote_prefix,
            "remote_group_id": self.remote_group,
            "description": self.description,
            "created_at": times::zulu(self.created_us),
            "updated_at": times::zulu(self.created_us),
            "revision_number": 0,
        })
    }
}

fn word<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> Option<&'static str> {
    words.iter().find(|(_, known)| *known == meaning).map(|(word, _)| *word)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSecurityGroupRule {
    pub group: SecurityGroupId,
    pub project: Option<ProjectId>,
    pub direction: Direction,
    pub version: IpVersion,
    pub protocol: Option<String>,
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
    pub remote_prefix: Option<IpNet>,
    pub remote_group: Option<SecurityGroupId>,
    pub description: String,
}

pub fn parse_create(body: &Value) -> Result<NewSecurityGroupRule, Fault> {
    let fields = fields::open(body, &SECURITY_GROUP_RULE, Method::Post)?;
    let rule = NewSecurityGroupRule {
        group: fields.need("security_group_id")?.uuid()?,
        project: fields.project()?,
        direction: fields.need("direction")?.choice(DIRECTIONS)?,
        version: fields.read("ethertype", |input| input.choice(ETHERTYPES))?.unwrap_or(IpVersion::V4),
        protocol: fields.read("protocol", |input| input.or_null(protocol))?.flatten(),
        port_min: port(fields, "port_range_min")?,
        port_max: port(fields, "port_range_max")?,
        remote_prefix: fields.read("remote_ip_prefix", |input| input.or_null(prefix))?.flatten(),
        remote_group: fields.read("remote_group_id", |input| input.or_null(Input::uuid))?.flatten(),
        description: fields.text("description")?,
    };
    agree(&rule)?;
    Ok(rule)
}

fn port(fields: Object, name: &'static str) -> Result<Option<u16>, Fault> {
    let read = |input: Input| {
        let number = input.integer()?;
        u16::try_from(number).map_err(|_| {
            let told = format!("Invalid value for port {number}");
            Fault::new(400, "SecurityGroupInvalidPortValue", told)
        })
    };
    Ok(fields.read(name, |input| input.or_null(read))?.flatten())
}

fn prefix(input: Input) -> Result<IpNet, Fault> {
    let text = input.text()?;
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => Ok(subnet::cidr(&text)?),
    }
}

/// A name, or a number up to 255 also as a text of it.
fn protocol(input: Input) -> Result<String, Fault> {
    if let Ok(number) = input.integer() {
        return match (0..=255).contains(&number) {
            true => Ok(number.to_string()),
            false => Err(bad_protocol(input)),
        };
    }
    let text = input.text()?.to_ascii_lowercase();
    if PROTOCOLS.contains(&text.as_str()) { Ok(text) } else { Err(bad_protocol(input)) }
}

fn bad_protocol(input: Input) -> Fault {
    let refused = input.refuse("is no protocol: use a name such as tcp, or a number from 0 to 255");
    Fault { kind: "SecurityGroupRuleInvalidProtocol", ..refused }
}

fn agree(rule: &NewSecurityGroupRule) -> Result<(), Fault> {
    let is = |among: &[&str]| rule.protocol.as_deref().is_some_and(|protocol| among.contains(&protocol));
    if rule.remote_prefix.is_some() && rule.remote_group.is_some() {
        let told = "Only one remote_ip_prefix or remote_group_id may be provided.";
        return Err(Fault::new(400, "SecurityGroupRemoteGroupAndRemoteIpPrefix", told));
    }
    if let Some(prefix) = rule.remote_prefix.filter(|prefix| subnet::version(prefix) != rule.version) {
        let told = format!("Conflicting value ethertype {:?} for CIDR {prefix}", word(ETHERTYPES, rule.version));
        return Err(Fault::new(400, "SecurityGroupRuleParameterConflict", told));
    }
    if is(&ICMP) {
        return match (rule.port_min, rule.port_max) {
            (None, Some(_)) => Err(Fault::new(
                400,
                "SecurityGroupMissingIcmpType",
                "ICMP code (port-range-max) is provided but ICMP type (port-range-min) is missing.",
            )),
            (Some(kind), code) if kind > ICMP_CODE_MAX || code.is_some_and(|code| code > ICMP_CODE_MAX) => {
                let told = "ICMP type and code must be from 0 to 255";
                Err(Fault::new(400, "SecurityGroupInvalidIcmpValue", told))
            }
            (Some(_) | None, _) => Ok(()),
        };
    }
    match (rule.port_min, rule.port_max) {
        (None, None) => Ok(()),
        (Some(least), Some(most)) if !is(&WITH_PORTS) => {
            let told =
                format!("Must also specify protocol if port range {least} to {most} is given, one that has ports.");
            Err(Fault::new(400, "SecurityGroupProtocolRequiredWithPorts", told))
        }
        (Some(least), Some(most)) if least <= most => Ok(()),
        (Some(_), _) | (_, Some(_)) => {
            let told = "For TCP/UDP protocols, port_range_min must be <= port_range_max";
            Err(Fault::new(400, "SecurityGroupInvalidPortRange", told))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::resource::seen, *};

    const GROUP: &str = "00000000-0000-0000-0000-000000000001";

    fn parse(more: Value) -> Result<NewSecurityGroupRule, Fault> {
        let mut fields = json!({"security_group_id": GROUP, "direction": "ingress"});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse_create(&json!({ "security_group_rule": fields }))
    }

    #[test]
    fn a_rule_is_read_and_shown() {
        let new = parse(json!({"protocol": "TCP", "port_range_min": 22, "port_range_max": "23",
                               "remote_ip_prefix": "10.0.0.0/8", "ethertype": "ipv4"}))
        .unwrap();
        assert_eq!((new.protocol.as_deref(), new.port_min, new.port_max), (Some("tcp"), Some(22), Some(23)));
        let shown = SecurityGroupRule {
            id: "r".to_owned(),
            group: new.group.to_string(),
            project: "p".to_owned(),
            direction: new.direction,
            version: new.version,
            protocol: new.protocol,
            port_min: new.port_min,
            port_max: new.port_max,
            remote_prefix: new.remote_prefix,
            remote_group: None,
            description: new.description,
            created_us: 0,
        }
        .body();
        seen::assert_shown(&SECURITY_GROUP_RULE, &shown);
        let told = (&shown["direction"], &shown["ethertype"], &shown["remote_ip_prefix"]);
        assert_eq!(told, (&json!("ingress"), &json!("IPv4"), &json!("10.0.0.0/8")));
    }

    #[test]
    fn parts_of_a_rule_agree() {
        let check = |more: Value, want: Option<&str>| {
            let found = parse(more.clone()).map(|_| ()).map_err(|fault| fault.kind);
            assert_eq!(found, want.map_or(Ok(()), Err), "{more}");
        };
        check(json!({}), None);
        check(json!({"protocol": 6, "port_range_min": 1, "port_range_max": 1}), None);
        check(json!({"protocol": "icmp", "port_range_min": 8}), None);
        check(json!({"protocol": null, "remote_group_id": GROUP}), None);
        check(json!({"remote_ip_prefix": "10.0.0.1"}), None);
        check(json!({"direction": "sideways"}), Some("HTTPBadRequest"));
        check(json!({"protocol": "quic"}), Some("SecurityGroupRuleInvalidProtocol"));
        check(json!({"protocol": 256}), Some("SecurityGroupRuleInvalidProtocol"));
        check(json!({"port_range_min": 1, "port_range_max": 1}), Some("SecurityGroupProtocolRequiredWithPorts"));
        check(
            json!({"protocol": "tcp", "port_range_min": 2, "port_range_max": 1}),
            Some("SecurityGroupInvalidPortRange"),
        );
        check(json!({"protocol": "tcp", "port_range_min": 2}), Some("SecurityGroupInvalidPortRange"));
        check(json!({"protocol": "tcp", "port_range_min": 65_536}), Some("SecurityGroupInvalidPortValue"));
        check(json!({"protocol": "icmp", "port_range_max": 1}), Some("SecurityGroupMissingIcmpType"));
        check(json!({"protocol": "icmp", "port_range_min": 256}), Some("SecurityGroupInvalidIcmpValue"));
        check(json!({"remote_ip_prefix": "fd00::/8"}), Some("SecurityGroupRuleParameterConflict"));
        let both = json!({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": GROUP});
        check(both, Some("SecurityGroupRemoteGroupAndRemoteIpPrefix"));
    }
}
