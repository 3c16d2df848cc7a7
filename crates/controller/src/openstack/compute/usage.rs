//! What projects' servers used of the hosts over a time.
//!
//! Ground rules: of servers that are deleted nothing is known any more, so a report holds those that are there; a server counts
//! from when it was made.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::Value;
use whimbrel_api::openstack::{
    compute::{
        query::Query,
        server::state::VmState,
        usage::{self, Asked, ServerUsage, TenantUsage},
    },
    fault::Fault,
};
use whimbrel_core::{
    id::FlavorId,
    identity::{
        ProjectId,
        policy::{Operation, Target},
    },
    instance::{InstanceSpec, PowerState},
};
use whimbrel_store::{PageAsk, StoreError, TaskState, UsageRow, every};

use super::{answer::Answer, ask::Ask};
use crate::app::{App, Shared};

const MICROS_PER_SECOND: i64 = 1_000_000;
const GIB: u64 = 1 << 30;
/// How disks are named that a flavor's `disk` and `ephemeral` are about; swap and the config drive are not.
const COUNTED_DISKS: [&str; 2] = ["root", "ephemeral"];

pub(super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    ask.may(Operation::ReadUsageOfAll)?;
    let query = ask.query(usage::LIST_QUERY)?;
    let asked = usage::parse(&query, ask.at, App::now_us())?;
    let (usages, next) = report(&app, &query, &asked, None).await?;
    Ok(Json(usage::list(&usages, asked.detailed, next.as_deref(), &ask.view())))
}

pub(super) async fn show(ask: Ask, State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let project = id.parse::<ProjectId>().ok();
    ask.may_on(Operation::ReadUsage, Target { project: project.as_ref(), ..Target::default() })?;
    let query = ask.query(usage::QUERY)?;
    let asked = usage::parse(&query, ask.at, App::now_us())?;
    let (usages, next) = match &project {
        Some(project) => report(&app, &query, &asked, Some(project)).await?,
        // An id that none can have has no servers.
        None => (Vec::new(), None),
    };
    Ok(Json(usage::show(&id, usages.first(), next.as_deref(), &ask.view())))
}

/// By projects, and the query of the following page.
async fn report(
    app: &App,
    query: &Query,
    asked: &Asked,
    project: Option<&ProjectId>,
) -> Answer<(Vec<TenantUsage>, Option<String>)> {
    if asked.limit == 0 {
        return Ok((Vec::new(), None));
    }
    let page_ask = PageAsk { limit: u32::try_from(asked.limit).ok(), marker: asked.marker.clone() };
    let page = match app.store.list_usage(project, asked.stop, &page_ask).await {
        Err(StoreError::NotFound { id, .. }) => {
            return Err(Fault::new(400, format!("Marker {id} could not be found.")).into());
        }
        other => other?,
    };
    let flavors = every(|ask| async move { app.store.list_flavors(&ask).await }).await?;
    let flavors = flavors.into_iter().map(|flavor| (flavor.id, flavor.name)).collect();
    Ok((by_project(page.items, asked, &flavors, App::now_us()), page.next.map(|marker| query.after(&marker))))
}

/// Of rows in the order of projects.
fn by_project(
    rows: Vec<UsageRow>,
    asked: &Asked,
    flavors: &BTreeMap<FlavorId, String>,
    now_us: i64,
) -> Vec<TenantUsage> {
    let mut usages: Vec<TenantUsage> = Vec::new();
    for row in rows {
        let server = server(row, asked, flavors, now_us);
        match usages.last_mut().filter(|usage| usage.project_id == server.project_id) {
            Some(usage) => usage.servers.push(server),
            None => usages.push(TenantUsage {
                project_id: server.project_id.clone(),
                start: asked.start,
                stop: asked.stop,
                servers: vec![server],
            }),
        }
    }
    usages
}

fn server(row: UsageRow, asked: &Asked, flavors: &BTreeMap<FlavorId, String>, now_us: i64) -> ServerUsage {
    let uptime_s = now_us.saturating_sub(row.created_us) / MICROS_PER_SECOND;
    ServerUsage {
        id: row.id.0,
        state: state(&row).name().to_owned(),
        name: row.name,
        project_id: row.project.into(),
        // As Nova tells a flavor that is gone.
        flavor: flavors.get(&row.flavor).cloned().unwrap_or_default(),
        hours: usage::hours(row.created_us, asked),
        vcpus: row.spec.vcpus,
        memory_mb: row.spec.ram_mb,
        local_gb: local_gb(&row.spec),
        started: row.created_us,
        ended: None,
        uptime_s: uptime_s.max(0).unsigned_abs(),
    }
}

fn local_gb(spec: &InstanceSpec) -> u64 {
    let counted = |name: &str| COUNTED_DISKS.iter().any(|counted| name.starts_with(counted));
    let disks = spec.disks.iter().filter(|disk| counted(disk.name.as_str()));
    disks.map(|disk| disk.virtual_bytes).sum::<u64>().div_ceil(GIB)
}

fn state(row: &UsageRow) -> VmState {
    match row.power {
        Some(PowerState::Running) => VmState::Active,
        Some(PowerState::Paused) => VmState::Paused,
        Some(PowerState::Suspended) => VmState::Suspended,
        Some(PowerState::Stopped) if !row.has_failed => VmState::Stopped,
        None if row.task == Some(TaskState::Building) => VmState::Building,
        Some(PowerState::Stopped | PowerState::Crashed) | None => VmState::Error,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_core::{
        disk::{DiskFormat, DiskSpec},
        id::InstanceId,
        instance::Boot,
    };

    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    fn row(number: u128, project: &str) -> UsageRow {
        let id = InstanceId(Uuid::from_u128(number));
        let disk = |name: &str, virtual_bytes| DiskSpec {
            name: name.parse().unwrap(),
            format: DiskFormat::Qcow2,
            virtual_bytes,
            base: None,
            read_only: false,
        };
        UsageRow {
            id,
            name: format!("vm{number}"),
            project: project.parse().unwrap(),
            flavor: FlavorId(Uuid::from_u128(1)),
            spec: InstanceSpec {
                id,
                name: String::new(),
                vcpus: 2,
                ram_mb: 512,
                machine: String::new(),
                cpu_model: String::new(),
                disks: vec![disk("root", GIB + 1), disk("ephemeral0", GIB), disk("swap", 5 * GIB)],
                nics: Vec::new(),
                boot: Boot::Disk,
                iothreads: false,
            },
            power: Some(PowerState::Running),
            task: None,
            has_failed: false,
            created_us: HOUR_US,
        }
    }

    #[test]
    fn servers_are_told_by_project() {
        let asked = Asked { start: 0, stop: 3 * HOUR_US, detailed: true, limit: 9, marker: None };
        let flavors = BTreeMap::from([(FlavorId(Uuid::from_u128(1)), "small".to_owned())]);
        let rows = vec![row(1, "p1"), row(2, "p1"), UsageRow { flavor: FlavorId(Uuid::nil()), ..row(3, "p2") }];
        let usages = by_project(rows, &asked, &flavors, 4 * HOUR_US);
        let told: Vec<_> = usages.iter().map(|usage| (usage.project_id.as_str(), usage.servers.len())).collect();
        assert_eq!(told, [("p1", 2), ("p2", 1)]);
        let server = &usages[0].servers[0];
        assert_eq!((server.hours, server.uptime_s, server.local_gb, server.memory_mb), (2.0, 10_800, 3, 512));
        assert_eq!((server.flavor.as_str(), server.ended, server.started), ("small", None, HOUR_US));
        assert_eq!(usages[1].servers[0].flavor, "");
    }

    #[test]
    fn a_servers_state_is_one_that_nova_knows() {
        let check = |power, task, has_failed, want: &str| {
            let row = UsageRow { power, task, has_failed, ..row(1, "p") };
            assert_eq!(state(&row).name(), want, "{power:?} {task:?} {has_failed}");
        };
        check(Some(PowerState::Running), None, true, "active");
        check(Some(PowerState::Paused), Some(TaskState::Migrating), false, "paused");
        check(Some(PowerState::Stopped), None, false, "stopped");
        check(Some(PowerState::Stopped), None, true, "error");
        check(Some(PowerState::Crashed), None, false, "error");
        check(None, Some(TaskState::Building), false, "building");
        check(None, None, true, "error");
    }
}
