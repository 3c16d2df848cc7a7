//! A guest switched on, off, held still, let go on, restarted: noted as a task that the reconciler brings about.
//!
//! Ground rules: a task begins only while there is none, whatever was seen before.

use whimbrel_api::openstack::{compute::action::Reboot, fault::Fault};
use whimbrel_store::{Desired, Errand, InstanceRow, StoreError, TaskState};

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

pub(super) async fn suspend(app: &Shared, ask: &Ask, row: &InstanceRow) -> Answer<()> {
    let wish = (TaskState::Suspending, Some(Desired::Suspended));
    errand(app, ask, row, "suspend", wish, new_errand(ask, "compute_suspend_instance")).await
}

pub(super) async fn resume(app: &Shared, ask: &Ask, row: &InstanceRow) -> Answer<()> {
    let wish = (TaskState::Resuming, Some(Desired::Running));
    errand(app, ask, row, "resume", wish, new_errand(ask, "compute_resume_instance")).await
}

pub(super) fn new_errand(ask: &Ask, event: &str) -> Errand {
    Errand { request_id: ask.request_id.clone(), event: event.to_owned(), image: None }
}

/// A task whose end is told as an event of its action.
pub(super) async fn errand(
    app: &Shared,
    ask: &Ask,
    row: &InstanceRow,
    what: &str,
    (task, desired): (TaskState, Option<Desired>),
    errand: Errand,
) -> Answer<()> {
    // Before the task begins, or its end could come first.
    history::begun(app, ask, row.id, what).await?;
    history::started(app, ask, row.id, &errand.event, &row.host).await?;
    let begun = app.store.begin_errand(row.id, task, desired, Some(&errand), App::now_us()).await;
    if let Err(error) = begun {
        let refused = busy(error, row, what);
        history::ended(app, ask, row.id, &errand.event, Some(refused.message())).await?;
        return Err(refused);
    }
    looked_at(app, row).await
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
    looked_at(app, row).await?;
    history::begun(app, ask, row.id, what).await
}

/// The reconciler's next look is at once, and an administrator's word that it is in error is over.
pub(super) async fn looked_at(app: &Shared, row: &InstanceRow) -> Answer<()> {
    app.servers_changed.notify_one();
    if row.details.set_to_error {
        described(app, row.clone(), |_, details| {
            details.set_to_error = false;
            Ok(())
        })
        .await?;
    }
    Ok(())
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
