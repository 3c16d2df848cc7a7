//! Brings what is wanted of each server to its agent, until the agent says that it is so.
//!
//! ```text
//! task building, starting, stopping, pausing, unpausing, rebooting: PUT InstanceAsk to its host, again until the report agrees -> no task
//! task deleting: DELETE on its host and wherever a copy was retained -> gone
//! ```
//!
//! Ground rules: level-triggered and idempotent, periodic and nudged; one ask per server at a time, `ASKS_MAX` in all; a
//! host that does not answer is asked again, a host that refuses ends the task with its reason. A guest that stopped or
//! crashed by itself is left as it is until somebody says `start`. A server that migrates belongs to its migration.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use whimbrel_api::agent::{self, InstanceAsk, InstanceReport, RebootAsk, RebootHow};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{HostName, InstanceId},
    instance::PowerState,
};
use whimbrel_store::{Desired, HostState, InstanceNews, InstanceRow, PageAsk, StoreError, TaskState};

use crate::{
    answer::failure_of,
    app::{App, Shared},
    config_drive,
    openstack::network::allocate,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Heartbeats of many hosts nudge; a look over all servers is not free.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(50);
const ASKS_MAX: usize = 32;

pub async fn run(app: Shared) {
    let asked = Arc::new(Asked::default());
    let slots = Arc::new(Semaphore::new(ASKS_MAX));
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = app.servers_changed.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = look(&app, &asked, &slots).await {
            tracing::warn!(%error, "cannot look for servers with something to do");
        }
        tokio::time::sleep(LOOK_PAUSE_MIN).await;
    }
}

/// The servers that an ask is under way for.
#[derive(Default)]
struct Asked(Mutex<HashSet<InstanceId>>);

struct Turn(Arc<Asked>, InstanceId);

impl Asked {
    fn take(self: &Arc<Self>, id: InstanceId) -> Option<Turn> {
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        new.then(|| Turn(self.clone(), id))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

async fn look(app: &Shared, asked: &Arc<Asked>, slots: &Arc<Semaphore>) -> Result<(), StoreError> {
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_instances(None, &ask).await?;
        for row in page.items {
            let Some(task) = row.task.filter(|task| *task != TaskState::Migrating) else { continue };
            let Some(turn) = asked.take(row.id) else { continue };
            let (app, slots) = (app.clone(), slots.clone());
            app.tasks.clone().spawn(async move {
                let _turn = turn;
                let Ok(_slot) = slots.acquire().await else { return };
                tokio::select! {
                    () = app.shutdown.cancelled() => {}
                    () = work(&app, &row, task) => {}
                }
            });
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(());
        }
    }
}

async fn work(app: &App, row: &InstanceRow, task: TaskState) {
    let done = match task {
        TaskState::Building
        | TaskState::Starting
        | TaskState::Stopping
        | TaskState::Pausing
        | TaskState::Unpausing
        | TaskState::Rebooting
        | TaskState::RebootingHard => bring(app, row, task).await,
        TaskState::Deleting => delete(app, row).await,
        TaskState::Migrating => Ok(()),
    };
    match done {
        Ok(()) => {}
        Err(failure) if passes(failure.code) => {
            tracing::info!(server = %row.id, %task, %failure, "a server waits for its host");
        }
        Err(failure) => {
            tracing::warn!(server = %row.id, %task, %failure, "a server's task failed");
            if let Err(error) = end_with(app, row, task, &failure).await {
                tracing::warn!(server = %row.id, %error, "cannot note that a server's task failed");
            }
        }
    }
}

/// The host may do it later.
fn passes(code: FailureCode) -> bool {
    matches!(code, FailureCode::HostDown | FailureCode::Unauthorized)
}

async fn end_with(app: &App, row: &InstanceRow, task: TaskState, failure: &Failure) -> Result<(), StoreError> {
    app.store.set_instance_failure(row.id, Some(failure), App::now_us()).await?;
    // A deletion is asked for again until it is done: what else could end it?
    if task == TaskState::Deleting {
        return Ok(());
    }
    app.store.change_task(row.id, Some(task), None, App::now_us()).await
}

async fn bring(app: &App, row: &InstanceRow, task: TaskState) -> Result<(), Failure> {
    let host = app.store.host(&row.host).await.map_err(failure_of)?;
    if host.state == HostState::Down {
        return Err(Failure::new(FailureCode::HostDown, format!("host '{}' is down", host.name)));
    }
    let desired = match row.desired {
        Desired::Running => agent::Desired::Running,
        Desired::Paused => agent::Desired::Paused,
        Desired::Stopped => agent::Desired::Stopped,
    };
    let ask =
        InstanceAsk { spec: row.spec.clone(), epoch: row.epoch, desired, reboot: reboot(row, task), taken_from: None };
    let report = app.agents.of(&host)?.put_instance(&ask).await?;
    note(app, &host.name, &report).await?;
    if report.power == PowerState::Crashed {
        let detail = format!("QEMU of server '{}' on host '{}' crashed", row.name, host.name);
        let crashed = || Failure::new(FailureCode::QemuFailed, detail).hint("see the agent's log on that host");
        return Err(report.failure.unwrap_or_else(crashed));
    }
    if !agrees(row.desired, report.power) {
        return Ok(());
    }
    match app.store.change_task(row.id, Some(task), None, App::now_us()).await {
        // Something newer is wanted meanwhile.
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(failure_of(error)),
    }
}

/// Asked for by its number as long as the task lasts; the agent does it once.
fn reboot(row: &InstanceRow, task: TaskState) -> Option<RebootAsk> {
    let ask = |how| Some(RebootAsk { number: row.reboots, how });
    match task {
        TaskState::Rebooting => ask(RebootHow::Soft),
        TaskState::RebootingHard => ask(RebootHow::Hard),
        TaskState::Building
        | TaskState::Starting
        | TaskState::Stopping
        | TaskState::Pausing
        | TaskState::Unpausing
        | TaskState::Migrating
        | TaskState::Deleting => None,
    }
}

async fn note(app: &App, host: &HostName, report: &InstanceReport) -> Result<(), Failure> {
    let Some(owned_epoch) = report.owned_epoch else { return Ok(()) };
    let news = InstanceNews {
        id: report.id,
        host: host.clone(),
        owned_epoch,
        power: report.power,
        failure: report.failure.clone(),
        write_bps: report.write_bps,
    };
    app.store.record_instance_news(&news, App::now_us()).await.map(drop).map_err(failure_of)
}

fn agrees(desired: Desired, power: PowerState) -> bool {
    match (desired, power) {
        (Desired::Running, PowerState::Running | PowerState::Paused)
        | (Desired::Paused, PowerState::Paused)
        | (Desired::Stopped, PowerState::Stopped) => true,
        (Desired::Running, PowerState::Stopped | PowerState::Crashed)
        | (Desired::Paused, PowerState::Running | PowerState::Stopped | PowerState::Crashed)
        | (Desired::Stopped, PowerState::Running | PowerState::Paused | PowerState::Crashed) => false,
    }
}

/// Its owner first: when that host has let go, no guest can run any more.
async fn delete(app: &App, row: &InstanceRow) -> Result<(), Failure> {
    let mut hosts = vec![row.host.clone()];
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_migrations(Some(row.id), &ask).await.map_err(failure_of)?;
        for migration in page.items {
            hosts.extend(
                [migration.source, migration.target]
                    .into_iter()
                    .filter(|host| !hosts.contains(host))
                    .collect::<Vec<_>>(),
            );
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            break;
        }
    }
    for name in hosts {
        let host = match app.store.host(&name).await {
            // An operator deleted it, and with it whatever was left there.
            Err(StoreError::NotFound { .. }) if name != row.host => continue,
            other => other.map_err(failure_of)?,
        };
        if host.state == HostState::Down {
            return Err(Failure::new(FailureCode::HostDown, format!("host '{name}' is down and may hold disks of it")));
        }
        match app.agents.of(&host)?.delete_instance(row.id).await {
            Err(failure) if failure.code == FailureCode::NotFound => {}
            other => other?,
        }
    }
    // Before its row: what is left when this fails is asked for again.
    allocate::release(&app.store, row.id, App::now_us()).await.map_err(failure_of)?;
    config_drive::forget(app, &row.spec).await?;
    app.store.delete_instance(row.id).await.map_err(failure_of)?;
    tracing::info!(server = %row.id, name = row.name, "server deleted");
    Ok(())
}
