//! Hypervisors: the hosts that have reported, with what they have, what is in use, and which servers they hold.
//!
//! Ground rules: a host that joined and never reported is a service and no hypervisor; what a host has is what it said last,
//! what is in use is the controller's own books.

use std::collections::{BTreeMap, HashSet};

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};
use whimbrel_api::openstack::{
    compute::{
        host_id::HostId,
        hypervisor::{self, HostedServer, Hypervisor, HypervisorService, Sizes},
    },
    fault::Fault,
};
use whimbrel_core::{
    host::{HostFacts, hypervisor_uuid, service_uuid},
    id::{HostName, InstanceId},
    identity::policy::Operation,
};
use whimbrel_store::{HostUse, StoreError, every};

use super::{
    answer::Answer,
    ask::Ask,
    host_sizes::sizes,
    hosts::{self, Host},
};
use crate::app::{App, Shared};

const KIND: &str = "QEMU";

/// A host that has reported.
struct Known {
    host: Host,
    facts: HostFacts,
}

impl Known {
    fn of(mut host: Host) -> Option<Known> {
        host.row.facts.take().map(|facts| Known { host, facts })
    }

    fn name(&self) -> &HostName {
        &self.host.row.name
    }

    fn uptime(&self) -> Option<String> {
        self.facts.uptime.clone().filter(|_| self.host.is_up())
    }

    fn record(&self, sizes: Sizes, servers: Option<Vec<HostedServer>>) -> Hypervisor {
        let row = &self.host.row;
        Hypervisor {
            id: row.number,
            uuid: hypervisor_uuid(&row.name),
            hostname: row.name.to_string(),
            up: self.host.is_up(),
            service: HypervisorService {
                id: row.number,
                uuid: service_uuid(&row.name),
                host: row.name.to_string(),
                enabled: !row.disabled,
                disabled_reason: row.disabled_reason.clone(),
            },
            kind: KIND.to_owned(),
            version: self.facts.qemu_version_number(),
            host_ip: row.control_url.as_deref().and_then(ip_of),
            sizes,
            cpu_info: self.facts.cpu_info.as_ref().map_or_else(|| json!({}), |info| json!(info)),
            uptime: self.uptime(),
            servers,
        }
    }
}

/// Of `https://IP:port`.
fn ip_of(url: &str) -> Option<String> {
    let (_, authority) = url.split_once("://")?;
    authority.trim_end_matches('/').parse::<std::net::SocketAddr>().ok().map(|address| address.ip().to_string())
}

async fn all(app: &App) -> Result<Vec<Known>, StoreError> {
    Ok(hosts::all(app).await?.into_iter().filter_map(Known::of).collect())
}

async fn find(app: &App, ask: &Ask, id: &str) -> Answer<Known> {
    // Never 400: by the name of a host clients look up only what is not found by id.
    let missing = || Fault::new(404, format!("Hypervisor with ID '{id}' could not be found."));
    let wanted = HostId::parse(id, ask.at).ok_or_else(missing)?;
    let name = hosts::named(app, wanted, hypervisor_uuid).await?.ok_or_else(missing)?;
    Ok(Known::of(hosts::one(app, &name).await?).ok_or_else(missing)?)
}

fn matching(mut known: Vec<Known>, pattern: &str) -> Result<Vec<Known>, Fault> {
    known.retain(|known| known.name().as_str().contains(pattern));
    match known.is_empty() {
        true => Err(Fault::new(404, format!("No hypervisor matching '{pattern}' could be found."))),
        false => Ok(known),
    }
}

async fn all_sizes(app: &App, known: &[Known]) -> Result<BTreeMap<HostName, Sizes>, StoreError> {
    let only = match known {
        [one] => Some(one.name()),
        _ => None,
    };
    let uses = app.store.host_uses(only).await?;
    let nothing = HostUse::default();
    let of = |known: &Known| {
        let owned = known.host.row.reported.iter().filter(|report| report.owned).map(|report| report.id);
        let counted: HashSet<InstanceId> = owned.collect();
        (known.name().clone(), sizes(&known.facts, uses.get(known.name()).unwrap_or(&nothing), &counted))
    };
    Ok(known.iter().map(of).collect())
}

async fn servers_on(app: &App, host: &HostName) -> Result<Vec<HostedServer>, StoreError> {
    let rows = every(|ask| async move { app.store.list_instances(Some(host), &ask).await }).await?;
    Ok(rows.into_iter().map(|row| HostedServer { id: row.id.0, name: row.name }).collect())
}

/// Sizes are read where they are shown.
async fn records(app: &App, known: &[Known], with_sizes: bool, with_servers: bool) -> Answer<Vec<Hypervisor>> {
    let mut sizes = if with_sizes { all_sizes(app, known).await? } else { BTreeMap::new() };
    let mut records = Vec::with_capacity(known.len());
    for one in known {
        let servers = if with_servers { Some(servers_on(app, one.name()).await?) } else { None };
        records.push(one.record(sizes.remove(one.name()).unwrap_or_default(), servers));
    }
    Ok(records)
}

async fn listed(app: &App, ask: &Ask, with_sizes: bool) -> Answer<(Vec<Hypervisor>, Option<String>)> {
    ask.may(Operation::ReadHosts)?;
    let listing = hypervisor::parse_listing(ask.raw_query(), ask.at)?;
    let known = all(app).await?;
    let (known, next) = match (&listing.pattern, &listing.page) {
        (Some(pattern), _) => (matching(known, pattern)?, None),
        (None, None) => (known, None),
        (None, Some(page)) => {
            let id = |known: &Known| HostId::text(known.host.row.number, hypervisor_uuid(known.name()), ask.at);
            let marked = known.into_iter().map(|known| (id(&known), known)).collect();
            let (items, next) = page.page(marked, |(id, _): &(String, Known)| id.as_str())?;
            (items.into_iter().map(|(_, known)| known).collect(), next)
        }
    };
    Ok((records(app, &known, with_sizes, listing.with_servers).await?, next))
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let (records, next) = listed(&app, &ask, false).await?;
    Ok(Json(hypervisor::list(&records, next.as_deref(), &ask.view())))
}

pub(super) async fn detail(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let (records, next) = listed(&app, &ask, true).await?;
    Ok(Json(hypervisor::detail(&records, next.as_deref(), &ask.view())))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadHosts)?;
    let with_servers = hypervisor::parse_showing(ask.raw_query(), ask.at)?;
    let known = [find(&app, &ask, &id).await?];
    let records = records(&app, &known, true, with_servers).await?;
    let [record] = records.as_slice() else { unreachable!("one host, one record") };
    Ok(Json(hypervisor::show(record, &ask.view())))
}

pub(super) async fn uptime(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    hypervisor::calls_for_sizes(ask.at)?;
    ask.may(Operation::ReadHosts)?;
    let known = find(&app, &ask, &id).await?;
    if !known.host.is_up() {
        let why = format!("Compute service of {} is unavailable at this time.", known.name());
        return Err(Fault::new(400, why).into());
    }
    if known.uptime().is_none() {
        return Err(Fault::new(501, "The agent of this host is too old to tell its uptime.").into());
    }
    Ok(Json(hypervisor::uptime(&known.record(Sizes::default(), None), &ask.view())))
}

/// As Nova: of the hosts that are enabled.
pub(super) async fn statistics(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    hypervisor::calls_for_sizes(ask.at)?;
    ask.may(Operation::ReadHosts)?;
    let mut known = all(&app).await?;
    known.retain(|known| !known.host.row.disabled);
    let sizes = all_sizes(&app, &known).await?;
    Ok(Json(hypervisor::statistics(known.len(), &Sizes::sum(sizes.values()))))
}

pub(super) async fn search(ask: Ask, State(app): State<Shared>, Path(pattern): Path<String>) -> Answer<Json<Value>> {
    by_name(&ask, &app, &pattern, false).await
}

pub(super) async fn servers(ask: Ask, State(app): State<Shared>, Path(pattern): Path<String>) -> Answer<Json<Value>> {
    by_name(&ask, &app, &pattern, true).await
}

async fn by_name(ask: &Ask, app: &App, pattern: &str, with_servers: bool) -> Answer<Json<Value>> {
    hypervisor::calls_by_name(ask.at)?;
    ask.may(Operation::ReadHosts)?;
    let known = matching(all(app).await?, pattern)?;
    let records = records(app, &known, false, with_servers).await?;
    Ok(Json(hypervisor::list(&records, None, &ask.view())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_host_is_that_of_its_agent() {
        let check = |url: &str, want: Option<&str>| assert_eq!(ip_of(url).as_deref(), want, "{url}");
        check("https://10.0.0.1:7443", Some("10.0.0.1"));
        check("https://10.0.0.1:7443/", Some("10.0.0.1"));
        check("https://[fd00::1]:7443", Some("fd00::1"));
        check("https://host.example:7443", None);
        check("10.0.0.1:7443", None);
    }
}
