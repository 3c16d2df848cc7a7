//! Hosts, and their heartbeats.

use axum::{Json, extract::State, http::StatusCode};
use whimbrel_api::{
    agent::Heartbeat,
    native::{Host, HostState, Page},
    problem::Problem,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::HostName,
};
use whimbrel_store::HostRow;

use super::page;
use crate::{
    answer::Answer,
    app::Shared,
    auth::{AgentPeer, Reader},
    extract::{At, Body, PageOf},
    heartbeat,
};

#[utoipa::path(get, path = "/v1/hosts", params(("limit" = Option<u32>, Query), ("marker" = Option<String>, Query)),
    responses((status = 200, body = Page<Host>), (status = "default", body = Problem)))]
pub(super) async fn list(_: Reader, State(app): State<Shared>, PageOf(ask): PageOf) -> Answer<Json<Page<Host>>> {
    Ok(page(app.store.list_hosts(&ask).await?, view))
}

#[utoipa::path(get, path = "/v1/hosts/{host}", params(("host" = String, Path)),
    responses((status = 200, body = Host), (status = "default", body = Problem)))]
pub(super) async fn show(_: Reader, State(app): State<Shared>, At(host): At<String>) -> Answer<Json<Host>> {
    Ok(Json(view(app.host(&host).await?)))
}

/// For that host's own certificate only.
#[utoipa::path(put, path = "/v1/hosts/{host}/heartbeat", params(("host" = String, Path)),
    request_body(content = Object, description = "what the agent knows of its host and its instances"),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn heartbeat(
    AgentPeer(peer): AgentPeer,
    State(app): State<Shared>,
    At(host): At<String>,
    Body(told): Body<Heartbeat>,
) -> Answer<StatusCode> {
    if peer.as_str() != host || told.facts.name != peer {
        let detail = format!("host '{peer}' sent a heartbeat of host '{host}' with facts of '{}'", told.facts.name);
        return Err(Failure::new(FailureCode::Forbidden, detail).hint("a host may only speak for itself").into());
    }
    heartbeat::take(&app, &peer, told).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(row: HostRow) -> Host {
    let facts = row.facts.unwrap_or_else(|| no_facts(&row.name));
    Host {
        name: row.name,
        state: match row.state {
            whimbrel_store::HostState::Up => HostState::Up,
            whimbrel_store::HostState::Down => HostState::Down,
        },
        last_seen_us: row.last_seen_us,
        facts,
        servers: row.instances,
        disabled: row.disabled,
        disabled_reason: row.disabled_reason,
        forced_down: row.forced_down,
    }
}

/// Of a host that joined but has not reported yet: nothing is there.
fn no_facts(name: &HostName) -> HostFacts {
    HostFacts {
        name: name.clone(),
        qemu_version: String::new(),
        machines: Vec::new(),
        cpu_models: Vec::new(),
        accel: String::new(),
        vcpus: 0,
        memory_mb: 0,
        memory_mb_used: 0,
        reserved_memory_mb: 0,
        ram_allocation_ratio: 0.0,
        disk_total_bytes: 0,
        disk_free_bytes: 0,
        disk_committed_bytes: 0,
        bridges: Vec::new(),
        images: Vec::new(),
        migration_address: String::new(),
        iothreads_safe: false,
        link_bps: None,
        disk_bps: None,
        cpu_info: None,
        uptime: None,
        storage: None,
    }
}
