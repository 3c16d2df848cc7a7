//! Which host, when the user names none, and whether the one that is named will do.
//!
//! ```text
//! candidates --Filter::ALL--> those that nothing speaks against --Weigher::ALL--> best first
//!                  `--------> why_not: every reason against each of the others
//! ```
//!
//! Ground rules: filters and weighers are closed lists and pure; a host that fails one filter is out, and all its reasons are
//! kept for the error; what nobody wishes rules nothing out; the same facts give the same answer, in whatever order the hosts
//! come. Whether the chosen host still has room is asked again, with its turn taken, before the claim.
//! Sources: nova, scheduler/filters/*.py and scheduler/weights/*.py.

mod extra_spec;
mod filter;
mod place;
mod weigher;
mod wishes;

use std::cmp::Reverse;

pub use filter::{Filter, unlike_storage};
pub use place::{DEFAULT_ZONE, Place, Reach, ZONE_KEY};
pub use weigher::Weigher;
pub use wishes::{Group, GroupPolicy, NO_WISHES, Neighbour, Wishes};

use crate::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::HostName,
    instance::InstanceSpec,
    precheck::Placement,
};

/// Reasons told in one error; a thousand hosts must not make a megabyte of text.
const WHY_NOT_HOSTS_MAX: usize = 10;

/// A host that may be chosen, and what of this instance it already has.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub host: &'a HostFacts,
    pub retained_bytes: u64,
    pub place: &'a Place,
}

impl<'a> Candidate<'a> {
    /// One of which nothing but its agent's facts is known.
    pub fn new(host: &'a HostFacts) -> Self {
        Candidate { host, retained_bytes: 0, place: &place::PLAIN }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub instance: &'a InstanceSpec,
    pub allocated_bytes: u64,
    /// `None` for a new server.
    pub source: Option<&'a HostFacts>,
    pub disk_over_commit: bool,
    pub wishes: &'a Wishes,
}

impl<'a> Wanted<'a> {
    /// A new server, anywhere.
    pub fn new(instance: &'a InstanceSpec) -> Self {
        Wanted { instance, allocated_bytes: 0, source: None, disk_over_commit: false, wishes: &NO_WISHES }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Best first.
    pub fit: Vec<HostName>,
    pub why_not: Vec<WhyNot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyNot {
    pub host: HostName,
    pub reasons: Vec<Failure>,
}

pub fn rank(wanted: &Wanted<'_>, candidates: &[Candidate<'_>]) -> Ranking {
    let mut fit = Vec::new();
    let mut why_not = Vec::new();
    for candidate in candidates {
        let reasons = reasons_against(wanted, candidate);
        match reasons.is_empty() {
            true => fit.push(candidate),
            false => why_not.push(WhyNot { host: candidate.host.name.clone(), reasons }),
        }
    }
    fit.sort_by_cached_key(|candidate| {
        let weights = Weigher::ALL.map(|weigher| Reverse(weigher.weigh(wanted, candidate)));
        (weights, candidate.host.name.clone())
    });
    Ranking { fit: fit.into_iter().map(|candidate| candidate.host.name.clone()).collect(), why_not }
}

/// All that speaks against this host; empty means that it will do.
pub fn reasons_against(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Vec<Failure> {
    Filter::ALL.iter().flat_map(|filter| filter.why_not(wanted, candidate)).collect()
}

/// The best host, or every reason why there is none.
pub fn choose(wanted: &Wanted<'_>, candidates: &[Candidate<'_>]) -> Result<HostName, Failure> {
    let Ranking { fit, why_not } = rank(wanted, candidates);
    fit.into_iter().next().ok_or_else(|| no_host(wanted.instance, &why_not))
}

fn placement<'a>(wanted: &Wanted<'a>, candidate: &Candidate<'a>) -> Placement<'a> {
    Placement {
        instance: wanted.instance,
        allocated_bytes: wanted.allocated_bytes,
        retained_bytes: candidate.retained_bytes,
        source: wanted.source,
        target: candidate.host,
        disk_over_commit: wanted.disk_over_commit,
    }
}

fn no_host(instance: &InstanceSpec, why_not: &[WhyNot]) -> Failure {
    let reasons: Vec<String> = why_not
        .iter()
        .take(WHY_NOT_HOSTS_MAX)
        .flat_map(|host| host.reasons.iter().map(|reason| reason.detail.clone()))
        .collect();
    let more = match why_not.len().saturating_sub(WHY_NOT_HOSTS_MAX) {
        0 => String::new(),
        more => format!("; and {more} more hosts"),
    };
    let detail = match reasons.is_empty() {
        true => format!("no host for server '{}': no host is up", instance.name),
        false => format!("no host for server '{}': {}{more}", instance.name, reasons.join("; ")),
    };
    Failure::new(FailureCode::NoHost, detail)
        .hint("add a host, free RAM or disk on one, or name a host to see its reasons alone")
}
