//! The reasons against a host, each from one filter.

use super::{
    Candidate, Wanted, extra_spec,
    place::{Place, Reach},
    placement,
    wishes::{Group, GroupPolicy, Neighbour},
};
use crate::{
    disk::Storage,
    failure::{Failure, FailureCode},
    id::HostName,
};

/// Extra specs of this scope are compared with the metadata of the host's aggregates.
const AGGREGATE_SCOPE: &str = "aggregate_instance_extra_specs:";
/// Hosts named in one reason.
const HOSTS_TOLD_MAX: usize = 10;
const OTHER_HOST: &str = "choose another host";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Up, and not disabled.
    Compute,
    RequestedHost,
    IgnoredHosts,
    AvailabilityZone,
    AggregateExtraSpecs,
    ServerGroup,
    DifferentHost,
    SameHost,
    Storage,
    /// Room and compatibility.
    Prechecks,
}

impl Filter {
    pub const ALL: [Filter; 10] = [
        Filter::Compute,
        Filter::RequestedHost,
        Filter::IgnoredHosts,
        Filter::AvailabilityZone,
        Filter::AggregateExtraSpecs,
        Filter::ServerGroup,
        Filter::DifferentHost,
        Filter::SameHost,
        Filter::Storage,
        Filter::Prechecks,
    ];

    /// Empty where the filter lets the host pass.
    pub fn why_not(self, wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Vec<Failure> {
        match self {
            Filter::Compute => compute(wanted, candidate),
            Filter::RequestedHost => requested_host(wanted, candidate).into_iter().collect(),
            Filter::IgnoredHosts => ignored_hosts(wanted, candidate).into_iter().collect(),
            Filter::AvailabilityZone => availability_zone(wanted, candidate).into_iter().collect(),
            Filter::AggregateExtraSpecs => aggregate_extra_specs(wanted, candidate),
            Filter::ServerGroup => server_group(wanted, candidate).into_iter().collect(),
            Filter::DifferentHost => different_host(wanted, candidate),
            Filter::SameHost => same_host(wanted, candidate).into_iter().collect(),
            Filter::Storage => storage(wanted, candidate).into_iter().collect(),
            Filter::Prechecks => placement(wanted, candidate).check(),
        }
    }
}

fn excluded(detail: String, hint: impl Into<String>) -> Failure {
    Failure::new(FailureCode::Excluded, detail).hint(hint)
}

fn compute(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Vec<Failure> {
    let (host, place) = (&candidate.host.name, candidate.place);
    let down = |detail: String, hint: String| Failure::new(FailureCode::HostDown, detail).hint(hint);
    let reach = match place.reach {
        Reach::Up => None,
        Reach::Silent => Some(down(
            format!("host '{host}' is down: its agent does not report any more"),
            format!("is `whimbrel agent` running on '{host}', and does it reach the controller?"),
        )),
        Reach::ForcedDown => Some(down(
            format!("host '{host}' was declared down by an administrator"),
            format!("when it is sound again: `openstack compute service set --up {host} nova-compute`"),
        )),
    };
    let disabled = (place.disabled && !wanted.wishes.disabled_too).then(|| {
        excluded(
            format!("host '{host}' is disabled{} and takes no servers", because(place)),
            format!("enable it with `openstack compute service set --enable {host} nova-compute`, or {OTHER_HOST}"),
        )
    });
    reach.into_iter().chain(disabled).collect()
}

fn because(place: &Place) -> String {
    place.disabled_reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"))
}

fn requested_host(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Failure> {
    let asked = wanted.wishes.host.as_ref().filter(|asked| **asked != candidate.host.name)?;
    let detail = format!(
        "host '{}' is not the host '{asked}' that server '{}' was asked to be on",
        candidate.host.name, wanted.instance.name
    );
    Some(excluded(detail, "name another host, or none to have one chosen"))
}

fn ignored_hosts(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Failure> {
    let host = &candidate.host.name;
    wanted.wishes.ignored.contains(host).then(|| {
        let detail = format!("host '{host}' is one of those that server '{}' shall not be on", wanted.instance.name);
        excluded(detail, OTHER_HOST)
    })
}

fn availability_zone(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Failure> {
    let (asked, zone) = (wanted.wishes.zone.as_deref()?, candidate.place.zone());
    (asked != zone).then(|| {
        let detail = format!(
            "host '{}' is in availability zone '{zone}', server '{}' wants '{asked}'",
            candidate.host.name, wanted.instance.name
        );
        excluded(detail, "ask for another zone, or add the host to an aggregate of that zone")
    })
}

fn aggregate_extra_specs(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Vec<Failure> {
    let metadata = &candidate.place.metadata;
    let scoped = |(key, spec)| Some((str::strip_prefix(key, AGGREGATE_SCOPE)?, spec));
    let specs = wanted.wishes.extra_specs.iter().map(|(key, spec)| (key.as_str(), spec)).filter_map(scoped);
    let unmet = specs.filter(|(key, spec)| {
        let mut values = metadata.get(*key).into_iter().flatten();
        !values.any(|value| extra_spec::is_met(spec, value))
    });
    unmet
        .map(|(key, spec)| {
            let values: Vec<&str> = metadata.get(key).into_iter().flatten().map(String::as_str).collect();
            let has = if values.is_empty() { "nothing".to_owned() } else { format!("'{}'", values.join("', '")) };
            let detail = format!(
                "the flavor of server '{}' wants '{key}' to be '{spec}', the aggregates of host '{}' have {has}",
                wanted.instance.name, candidate.host.name
            );
            excluded(detail, "add the host to an aggregate with that metadata, or use another flavor")
        })
        .collect()
}

fn server_group(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Failure> {
    let group = wanted.wishes.group.as_ref()?;
    let (server, host, others) = (&wanted.instance.name, &candidate.host.name, group.others_on(&candidate.host.name));
    let detail = match group.policy {
        GroupPolicy::AntiAffinity { max_server_per_host } if others >= max_server_per_host => format!(
            "host '{host}' has {others} other servers of group '{}' of server '{server}', of which at most \
             {max_server_per_host} may be on one host",
            group.name
        ),
        GroupPolicy::Affinity if others == 0 && !group.others.is_empty() => format!(
            "host '{host}' has no server of group '{}' of server '{server}', whose servers shall be together (on {})",
            group.name,
            hosts_of(group)
        ),
        GroupPolicy::AntiAffinity { max_server_per_host: _ }
        | GroupPolicy::Affinity
        | GroupPolicy::SoftAffinity
        | GroupPolicy::SoftAntiAffinity => return None,
    };
    Some(excluded(detail, OTHER_HOST))
}

fn hosts_of(group: &Group) -> String {
    let names: Vec<&str> = group.others.keys().take(HOSTS_TOLD_MAX).map(|host| host.as_str()).collect();
    names.join(", ")
}

fn storage(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Failure> {
    let (source, wished) = (wanted.source?, wanted.wishes.storage?);
    (source.storage_towards(candidate.host) != wished).then(|| unlike_storage(&source.name, wished))
}

/// In Nova's words, which name the host that the server is on.
pub fn unlike_storage(source: &HostName, wished: Storage) -> Failure {
    let (detail, hint) = match wished {
        Storage::Local => (
            format!("{source} is not on local storage: Block migration can not be used with shared storage."),
            "ask for a move without block migration, or leave the choice: both hosts see the disks where they are",
        ),
        Storage::Shared => (
            format!(
                "{source} is not on shared storage: Shared storage live-migration requires either shared storage or \
                 boot-from-volume with no local disks."
            ),
            "ask for block migration, or leave the choice, or choose a host that sees the server's disks",
        ),
    };
    excluded(detail, hint)
}

fn different_host(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Vec<Failure> {
    let here = |neighbour: &&Neighbour| neighbour.host == candidate.host.name;
    let told = |neighbour: &Neighbour| {
        let detail = format!(
            "server {} is on host '{}', server '{}' shall be on a different one",
            neighbour.server, neighbour.host, wanted.instance.name
        );
        excluded(detail, OTHER_HOST)
    };
    wanted.wishes.different_from.iter().filter(here).map(told).collect()
}

fn same_host(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Failure> {
    let neighbours = &wanted.wishes.same_as;
    let (first, host) = (neighbours.first()?, &candidate.host.name);
    (!neighbours.iter().any(|neighbour| neighbour.host == *host)).then(|| {
        let more = if neighbours.len() > 1 { format!(" or {} others", neighbours.len() - 1) } else { String::new() };
        let detail = format!(
            "host '{host}' has none of the servers that server '{}' shall be with ({} on host '{}'{more})",
            wanted.instance.name, first.server, first.host
        );
        excluded(detail, format!("choose host '{}'", first.host))
    })
}
