//! A guest switched on, off, held still, let go on, restarted: noted as a task that the reconciler brings about.
//!
//! Ground rules: a task begins only while there is none, whatever was seen before.

use whimbrel_api::openstack::{compute::action::Reboot, fault::Fault};
use whimbrel_store::{Desired, InstanceRow, StoreError, TaskState};

use super::{
    super::{
        answer::{Answer, Refused},
        ask::Ask,
    },
    change::described,
    history,
};
use crate::app::{App, Shared};

pub(super) async fn start(app: &Shared, ask: &Ask, row: &InstanceRow) -> Answer<()> {
    begin(app, ask, row, "start", TaskState::Starting, Desired::Running).await
}

pub(super) async fn stop(app: &Shared, ask: &Ask, row: &InstanceRow) -> Answer<()> {
    begin(app, ask, row, "stop", TaskState::Stopping, Desired::Stopped).await
}

pub(super) async fn pause(app: &Shared, ask: &Ask, row: &InstanceRow) -> Answer<()> {
    begin(app, ask, row, "pause", TaskState::Pausing, Desired::Paused).await
}

pub(super) async fn unpause(app: &Shared, ask: &Ask, row: &InstanceRow) -> Answer<()> {
    begin(app, ask, row, "unpause", TaskState::Unpausing, Desired::Running).await
}

pub(super) async fn reboot(app: &Shared, ask: &Ask, row: &InstanceRow, how: Reboot) -> Answer<()> {
    let task = match how {
        Reboot::Soft => TaskState::Rebooting,
        Reboot::Hard => TaskState::RebootingHard,
    };
    let begun = app.store.begin_reboot(row.id, None, task, App::now_us()).await;
    begun.map_err(|error| busy(error, row, "reboot"))?;
    noted(app, ask, row, "reboot").await
}

async fn begin(
    app: &Shared,
    ask: &Ask,
    row: &InstanceRow,
    what: &str,
    task: TaskState,
    desired: Desired,
) -> Answer<()> {
    let begun = app.store.begin_task(row.id, task, desired, App::now_us()).await;
    begun.map_err(|error| busy(error, row, what))?;
    noted(app, ask, row, what).await
}

async fn noted(app: &Shared, ask: &Ask, row: &InstanceRow, what: &str) -> Answer<()> {
    app.servers_changed.notify_one();
    if row.details.set_to_error {
        described(app, row.clone(), |_, details| {
            details.set_to_error = false;
            Ok(())
        })
        .await?;
    }
    history::begun(app, ask, row.id, what).await
}

/// Two clients raced for it, and this one came second.
fn busy(error: StoreError, row: &InstanceRow, what: &str) -> Refused {
    match error {
        StoreError::Conflict { reason, .. } => {
            Fault::new(409, format!("Cannot '{what}' instance {} while it {reason}", row.id)).into()
        }
        other => other.into(),
    }
}
