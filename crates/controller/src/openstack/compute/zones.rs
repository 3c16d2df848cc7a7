//! Availability zones: those that aggregates give to hosts, and the one of all other hosts.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde_json::Value;
use whimbrel_api::openstack::compute::availability_zone::{self, Zone, ZoneHost};
use whimbrel_core::identity::policy::Operation;

use super::{answer::Answer, ask::Ask, hosts};
use crate::app::{App, Shared};

/// Those that can be used first, each kind in the order of names.
async fn all(app: &App) -> Answer<Vec<Zone>> {
    let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
    for host in hosts::all(app).await? {
        let name = host.place.zone().to_owned();
        let new = || Zone { name: name.clone(), available: false, hosts: BTreeMap::new() };
        let zone = zones.entry(name.clone()).or_insert_with(new);
        if !host.row.disabled {
            let told = ZoneHost { enabled: true, up: host.is_up(), updated: host.seen_us() };
            zone.hosts.insert(host.row.name.to_string(), told);
            zone.available = true;
        }
    }
    let (available, not): (Vec<Zone>, Vec<Zone>) = zones.into_values().partition(|zone| zone.available);
    Ok(available.into_iter().chain(not).collect())
}

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadZones)?;
    Ok(Json(availability_zone::list(&all(&app).await?)))
}

pub(super) async fn detail(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadZoneHosts)?;
    Ok(Json(availability_zone::detail(&all(&app).await?)))
}
