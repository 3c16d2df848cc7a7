//! Which host, when the user names none.
//!
//! Ground rules: a host that fails one precheck is out, and its reasons are kept for the error; among the others the one
//! with the most free RAM wins, then the most free disk, then the name, so that the same facts give the same answer.

use std::cmp::Reverse;

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
}

#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub instance: &'a InstanceSpec,
    pub allocated_bytes: u64,
    /// `None` for a new server.
    pub source: Option<&'a HostFacts>,
    pub disk_over_commit: bool,
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
        let reasons = placement(wanted, candidate).check();
        match reasons.is_empty() {
            true => fit.push(candidate.host),
            false => why_not.push(WhyNot { host: candidate.host.name.clone(), reasons }),
        }
    }
    fit.sort_by_key(|host| {
        (Reverse(host.free_ram_mb()), Reverse(host.disk_available_least_bytes()), host.name.clone())
    });
    Ranking { fit: fit.into_iter().map(|host| host.name.clone()).collect(), why_not }
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
