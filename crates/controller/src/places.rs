//! Hosts as the scheduler sees them: what operators decided about each, and what its aggregates say of it.

use whimbrel_core::schedule::{Place, Reach, ZONE_KEY};
use whimbrel_store::{AggregateRow, HostRow, HostState};

pub fn place_of(host: &HostRow, aggregates: &[AggregateRow]) -> Place {
    let mut place = Place {
        reach: match (host.forced_down, host.state) {
            (true, HostState::Up | HostState::Down) => Reach::ForcedDown,
            (false, HostState::Up) => Reach::Up,
            (false, HostState::Down) => Reach::Silent,
        },
        disabled: host.disabled,
        disabled_reason: host.disabled_reason.clone(),
        ..Place::default()
    };
    for aggregate in aggregates.iter().filter(|aggregate| aggregate.hosts.contains(&host.name)) {
        for (key, value) in &aggregate.metadata {
            place.metadata.entry(key.clone()).or_default().insert(value.clone());
        }
        place.zone = aggregate.metadata.get(ZONE_KEY).cloned().or(place.zone);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_all_that_its_aggregates_say() {
        let row = |state, forced_down| HostRow {
            name: "h1".parse().unwrap(),
            state,
            control_url: None,
            facts: None,
            certificate_serial: String::new(),
            joined_us: 0,
            last_seen_us: 0,
            instances: 0,
            number: 1,
            disabled: true,
            disabled_reason: Some("kernel".to_owned()),
            forced_down,
            evacuees: 0,
        };
        let aggregate = |hosts: &[&str], metadata: &[(&str, &str)]| AggregateRow {
            id: 1,
            uuid: uuid::Uuid::nil(),
            name: String::new(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            created_us: 0,
            updated_us: None,
        };
        let aggregates = [
            aggregate(&["h1", "h2"], &[("disk", "ssd"), (ZONE_KEY, "z1")]),
            aggregate(&["h1"], &[("disk", "nvme")]),
            aggregate(&["h2"], &[("disk", "hdd"), (ZONE_KEY, "z2")]),
        ];
        let place = place_of(&row(HostState::Up, false), &aggregates);
        assert_eq!((place.zone(), place.disabled, place.disabled_reason.as_deref()), ("z1", true, Some("kernel")));
        assert_eq!(place.metadata["disk"].iter().map(String::as_str).collect::<Vec<_>>(), ["nvme", "ssd"]);
        let check = |state, forced_down, want| assert_eq!(place_of(&row(state, forced_down), &[]).reach, want);
        check(HostState::Up, false, Reach::Up);
        check(HostState::Down, false, Reach::Silent);
        check(HostState::Up, true, Reach::ForcedDown);
        assert_eq!(place_of(&row(HostState::Up, false), &[]).zone(), "nova");
    }
}
