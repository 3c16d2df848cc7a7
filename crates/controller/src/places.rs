//! Hosts as the scheduler sees them: what operators decided about each, and what its aggregates say of it.

use std::collections::HashMap;

use whimbrel_core::{
    id::HostName,
    schedule::{Place, Reach, ZONE_KEY},
};
use whimbrel_store::{AggregateRow, HostMark, HostState};

pub fn place_of(host: &HostMark, aggregates: &[AggregateRow]) -> Place {
    place(host, aggregates.iter().filter(|aggregate| aggregate.hosts.contains(&host.name)))
}

/// Of many hosts at once.
pub fn places_of(hosts: &[HostMark], aggregates: &[AggregateRow]) -> HashMap<HostName, Place> {
    let mut around: HashMap<&HostName, Vec<&AggregateRow>> = HashMap::new();
    for aggregate in aggregates {
        for host in &aggregate.hosts {
            around.entry(host).or_default().push(aggregate);
        }
    }
    let of = |host: &HostMark| place(host, around.get(&host.name).into_iter().flatten().copied());
    hosts.iter().map(|host| (host.name.clone(), of(host))).collect()
}

fn place<'a>(host: &HostMark, aggregates: impl Iterator<Item = &'a AggregateRow>) -> Place {
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
    for aggregate in aggregates {
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
        let row = |state, forced_down| HostMark {
            name: "h1".parse().unwrap(),
            state,
            disabled: true,
            disabled_reason: Some("kernel".to_owned()),
            forced_down,
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
        assert_eq!(places_of(&[row(HostState::Up, false)], &aggregates)[&row(HostState::Up, false).name], place);
        assert_eq!(place.metadata["disk"].iter().map(String::as_str).collect::<Vec<_>>(), ["nvme", "ssd"]);
        let check = |state, forced_down, want| assert_eq!(place_of(&row(state, forced_down), &[]).reach, want);
        check(HostState::Up, false, Reach::Up);
        check(HostState::Down, false, Reach::Silent);
        check(HostState::Up, true, Reach::ForcedDown);
        assert_eq!(place_of(&row(HostState::Up, false), &[]).zone(), "nova");
    }
}
