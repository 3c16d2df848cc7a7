//! Availability zones: the groups of hosts among which a user may choose.
//!
//! Ground rules: hosts are told in the detailed answer alone, and of a zone that is available alone; the zone of the controller's
//! own services is nobody's choice and the caller leaves it out of the short list.
//! Source: nova, api/openstack/compute/availability_zone.py.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    service::COMPUTE,
    times::{self, Micros},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub name: String,
    /// Some host of it is enabled.
    pub available: bool,
    /// Those that are enabled, by name.
    pub hosts: BTreeMap<String, ZoneHost>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneHost {
    pub enabled: bool,
    pub up: bool,
    pub updated: Option<Micros>,
}

/// `GET /os-availability-zone`.
pub fn list(zones: &[Zone]) -> Value {
    answer(zones, |_| Value::Null)
}

/// `GET /os-availability-zone/detail`.
pub fn detail(zones: &[Zone]) -> Value {
    answer(zones, |zone| if zone.available { hosts(zone) } else { Value::Null })
}

fn answer(zones: &[Zone], hosts: fn(&Zone) -> Value) -> Value {
    let told = |zone: &Zone| json!({ "zoneName": zone.name, "zoneState": { "available": zone.available }, "hosts": hosts(zone) });
    json!({ "availabilityZoneInfo": zones.iter().map(told).collect::<Vec<_>>() })
}

fn hosts(zone: &Zone) -> Value {
    let told = |(name, host): (&String, &ZoneHost)| {
        let service = json!({ "active": host.enabled, "available": host.up, "updated_at": times::fraction_or_null(host.updated) });
        (name.clone(), json!({ COMPUTE: service }))
    };
    Value::Object(zone.hosts.iter().map(told).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_in_detail_of_zones_that_are_available() {
        let host = ZoneHost { enabled: true, up: true, updated: Some(0) };
        let zone = |available| Zone { name: "z".into(), available, hosts: [("cn1".to_owned(), host.clone())].into() };
        let check = |body: Value, available: bool, hosts: Value| {
            let want = json!([{"zoneName": "z", "zoneState": {"available": available}, "hosts": hosts}]);
            assert_eq!(body, json!({ "availabilityZoneInfo": want }));
        };
        check(list(&[zone(true)]), true, json!(null));
        check(detail(&[zone(false)]), false, json!(null));
        let service = json!({"active": true, "available": true, "updated_at": "1970-01-01T00:00:00.000000"});
        check(detail(&[zone(true)]), true, json!({"cn1": {"nova-compute": service}}));
    }
}
