//! Brings what is wanted of each server to its agent, until the agent says that it is so.
//!
//! ```text
//! task building, starting, stopping, pausing, unpausing, rebooting: PUT InstanceAsk to its host, again until the report agrees -> no task
//! task deleting: DELETE on its host and wherever a copy was retained -> gone
//! ```
//!
//! Ground rules: level-triggered and idempotent, periodic and nudged; one ask per server at a time, `ASKS_MAX` in all; a
//! host that does not answer is asked again, a host that refuses ends the task with its reason; only servers of shards whose lease is
//! this controller's, under its fence. A guest that stopped or
//! crashed by itself is left as it is until somebody says `start`. A server that migrates belongs to its migration.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use whimbrel_api::{
    agent::{self, InstanceAsk, InstanceReport, RebootAsk, RebootHow},
    client::AgentClient,
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{HostName, InstanceId},
    instance::PowerState,
    lease::Fence,
};
use whimbrel_store::{Desired, HostRow, HostState, InstanceNews, InstanceRow, PageAsk, Store, StoreError, TaskState};

use crate::{
    answer::failure_of,
    app::{App, Shared},
    config_drive,
    leases::Turn,
    openstack::network::allocate,
};

/// What another controller was asked for is found by looking.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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

struct Alone(Arc<Asked>, InstanceId);

impl Asked {
    fn take(self: &Arc<Self>, id: InstanceId) -> Option<Alone> {
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        new.then(|| Alone(self.clone(), id))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

async fn look(app: &Shared, asked: &Arc<Asked>, slots: &Arc<Semaphore>) -> Result<(), StoreError> {
    let mut ask = PageAsk::default();
    loop {
        let page = app.store.list_busy_instances(&ask).await?;
        for (row, fence) in page.items {
            let Some(turn) = app.leases.of(row.id) else { continue };
            let Some(alone) = asked.take(row.id) else { continue };
            let (app, slots) = (app.clone(), slots.clone());
            app.tasks.clone().spawn(async move {
                let _alone = alone;
                let Ok(_slot) = slots.acquire().await else { return };
                tokio::select! {
                    () = app.shutdown.cancelled() => {}
                    () = turn.lost.cancelled() => {}
                    () = begin(&app, row, fence, &turn) => {}
                }
            });
        }
        ask.marker = page.next;
        if ask.marker.is_none() {
            return Ok(());
        }
    }
}

/// Whoever worked on the server before cannot write it any more, and what it wrote last is known.
async fn begin(app: &App, row: InstanceRow, fence: Fence, turn: &Turn) {
    let store = app.store.fenced(turn.fence);
    let row = match fence < turn.fence {
        false => Ok(row),
        true => store.seal_instance(row.id).await,
    };
    match row {
        Ok(row) => work(&Work { app, store, turn }, &row).await,
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => tracing::warn!(%error, "a server cannot be worked on now"),
    }
}

/// What is done for one server, and under which lease.
struct Work<'a> {
    app: &'a App,
    /// Bears the fence of the turn.
    store: Store,
    turn: &'a Turn,
}

impl Work<'_> {
    fn agent_of(&self, host: &HostRow) -> Result<AgentClient, Failure> {
        Ok(self.app.agents.of(host)?.under(self.turn.work, self.turn.fence))
    }
}

async fn work(work: &Work<'_>, row: &InstanceRow) {
    let Some(task) = row.task else { return };
    let done = match task {
        TaskState::Building
        | TaskState::Starting
        | TaskState::Stopping
        | TaskState::Pausing
        | TaskState::Unpausing
        | TaskState::Rebooting
        | TaskState::RebootingHard => bring(work, row, task).await,
        TaskState::Deleting => delete(work, row).await,
        TaskState::Migrating => Ok(()),
    };
    match done {
        Ok(()) => {}
        Err(failure) if passes(failure.code) => {
            tracing::info!(server = %row.id, %task, %failure, "a server waits for its host");
        }
        Err(failure) => {
            tracing::warn!(server = %row.id, %task, %failure, "a server's task failed");
            if let Err(error) = end_with(&work.store, row, task, &failure).await {
                tracing::warn!(server = %row.id, %error, "cannot note that a server's task failed");
            }
        }
    }
}

/// The host may do it later.
fn passes(code: FailureCode) -> bool {
    matches!(code, FailureCode::HostDown | FailureCode::Unauthorized)
}

async fn end_with(store: &Store, row: &InstanceRow, task: TaskState, failure: &Failure) -> Result<(), StoreError> {
    store.set_instance_failure(row.id, Some(failure), App::now_us()).await?;
    // A deletion is asked for again until it is done: what else could end it?
    if task == TaskState::Deleting {
        return Ok(());
    }
    store.change_task(row.id, Some(task), None, App::now_us()).await
}

async fn bring(work: &Work<'_>, row: &InstanceRow, task: TaskState) -> Result<(), Failure> {
    let app = work.app;
    let host = app.store.host(&row.host).await.map_err(failure_of)?;
    if host.state == HostState::Down {
        return Err(Failure::new(FailureCode::HostDown, format!("host '{}' is down", host.name)));
    }
    let desired = match row.desired {
        Desired::Running => agent::Desired::Running,
        Desired::Paused => agent::Desired::Paused,
        Desired::Stopped => agent::Desired::Stopped,
    };
    let ask = InstanceAsk { spec: row.spec.clone(), epoch: row.epoch, desired, reboot: reboot(row, task) };
    let report = work.agent_of(&host)?.put_instance(&ask).await?;
    note(app, &host.name, &report).await?;
    if report.power == PowerState::Crashed {
        let detail = format!("QEMU of server '{}' on host '{}' crashed", row.name, host.name);
        let crashed = || Failure::new(FailureCode::QemuFailed, detail).hint("see the agent's log on that host");
        return Err(report.failure.unwrap_or_else(crashed));
    }
    if !agrees(row.desired, report.power) {
        return Ok(());
    }
    match work.store.change_task(row.id, Some(task), None, App::now_us()).await {
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
    app.heartbeats.recheck(host);
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
async fn delete(work: &Work<'_>, row: &InstanceRow) -> Result<(), Failure> {
    let app = work.app;
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
        match work.agent_of(&host)?.delete_instance(row.id).await {
            Err(failure) if failure.code == FailureCode::NotFound => {}
            other => other?,
        }
    }
    // Before its row: what is left when this fails is asked for again.
    allocate::release(&app.store, row.id, App::now_us()).await.map_err(failure_of)?;
    config_drive::forget(app, &row.spec).await?;
    work.store.delete_instance(row.id).await.map_err(failure_of)?;
    tracing::info!(server = %row.id, name = row.name, "server deleted");
    Ok(())
}
