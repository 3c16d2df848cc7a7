//! Carries a resize or a cold migration on from stage to stage: `core::resize` says what comes next, this asks the host and
//! stores it.
//!
//! Ground rules: level-triggered like the reconciler that calls it; a stage is stored before anything is asked for it, and a
//! host is asked again until it agrees or refuses for good; the server's move is its migration's own matter.

use whimbrel_core::{
    failure::Failure,
    instance::InstanceSpec,
    migration::coordinator::{Outcome, Phase},
    resize::{Next, Resize, Seen, Stage},
};
use whimbrel_store::{Desired, InstanceRow, ResizeStep, Room, StoreError, TaskState, Verdict};

use crate::{
    answer::failure_of,
    app::App,
    books::virtual_bytes,
    reconcile::{bring_to, passes},
};

/// Nova's name for it among the events of an action.
pub const EVENT: &str = "compute_resize_instance";

pub(crate) async fn carry(app: &App, row: &InstanceRow) -> Result<(), Failure> {
    let Some(resize) = row.details.resize.as_deref() else {
        // Forgotten with its last step.
        return stored(app.store.change_task(row.id, row.task, None, App::now_us()).await);
    };
    let (seen, failure) = match look(app, row, resize).await {
        Ok(seen) => (seen, None),
        Err(failure) if passes(failure.code) => return Err(failure),
        Err(failure) => (Some(Seen::Refused), Some(failure)),
    };
    match seen.map_or(Next::Stay, |seen| resize.next(seen)) {
        Next::Stay => Ok(()),
        Next::Enter(stage) => enter(app, row, resize, stage, failure).await,
        Next::Forget => forget(app, row, resize, failure).await,
    }
}

/// `None`: not yet.
async fn look(app: &App, row: &InstanceRow, resize: &Resize) -> Result<Option<Seen>, Failure> {
    match resize.stage {
        Stage::Moving => {
            let id = resize.back.filter(|_| resize.reverting).unwrap_or(resize.migration);
            let seen = match app.store.migration(id).await {
                Ok(migration) => match migration.phase {
                    Phase::Done(Outcome::Completed) => Some(Seen::Moved),
                    Phase::Done(Outcome::Cancelled | Outcome::Failed { .. }) | Phase::Owing { .. } => {
                        Some(Seen::NotMoved)
                    }
                    Phase::Queued
                    | Phase::Preparing
                    | Phase::Running
                    | Phase::Cancelling { .. }
                    | Phase::Clearing { .. }
                    | Phase::Settling => None,
                },
                Err(StoreError::NotFound { .. }) => Some(Seen::NotMoved),
                Err(error) => return Err(failure_of(error)),
            };
            Ok(seen)
        }
        Stage::Stopping => Ok(bring_to(app, row, Desired::Stopped).await?.then_some(Seen::Stopped)),
        Stage::Starting => Ok(bring_to(app, row, row.desired).await?.then_some(Seen::Started)),
        Stage::Verify => Ok(None),
    }
}

async fn enter(
    app: &App,
    row: &InstanceRow,
    resize: &Resize,
    stage: Stage,
    failure: Option<Failure>,
) -> Result<(), Failure> {
    let mut next = Resize { stage, ..resize.clone() };
    let mut details = row.details.clone();
    let (mut spec, mut flavor) = (row.spec.clone(), row.flavor);
    let (task, desired) = match stage {
        Stage::Moving | Stage::Stopping => (Some(TaskState::Resizing), Desired::Stopped),
        Stage::Starting => {
            let wanted = resize.wanted();
            spec = InstanceSpec { name: row.spec.name.clone(), ..wanted.spec.clone() };
            flavor = wanted.flavor;
            details.flavor = wanted.copy.clone();
            (Some(TaskState::Resizing), running(resize))
        }
        Stage::Verify => {
            (next.reverting, next.back) = (false, None);
            (None, running(resize))
        }
    };
    details.resize = Some(Box::new(next));
    let step = ResizeStep { spec: &spec, flavor, details: &details, task, desired, room: None };
    stored(app.store.step_resize(row, &step, App::now_us()).await)?;
    if let Some(failure) = &failure {
        tracing::warn!(server = %row.id, %failure, "a resized server cannot be brought about");
        app.store.set_instance_failure(row.id, Some(failure), App::now_us()).await.map_err(failure_of)?;
    }
    if stage == Stage::Verify {
        ended(app, row, resize, failure.as_ref().map(|failure| failure.detail.as_str())).await?;
    }
    app.servers_changed.notify_one();
    Ok(())
}

async fn forget(app: &App, row: &InstanceRow, resize: &Resize, failure: Option<Failure>) -> Result<(), Failure> {
    let mut details = row.details.clone();
    details.resize = None;
    let room = Some(room_of(&row.spec));
    let desired = running(resize);
    let step = ResizeStep { spec: &row.spec, flavor: row.flavor, details: &details, task: None, desired, room };
    stored(app.store.step_resize(row, &step, App::now_us()).await)?;
    if resize.stage != Stage::Moving || resize.reverting {
        for id in std::iter::once(resize.migration).chain(resize.back) {
            app.store.set_verdict(id, Verdict::Reverted, App::now_us()).await.map_err(failure_of)?;
        }
    }
    let why = match (resize.reverting, &failure) {
        (true, _) => None,
        (false, Some(failure)) => Some(failure.detail.clone()),
        (false, None) => Some("The server could not be moved; it is as it was.".to_owned()),
    };
    tracing::info!(server = %row.id, reverted = resize.reverting, why, "a resize is over");
    ended(app, row, resize, why.as_deref()).await?;
    app.servers_changed.notify_one();
    Ok(())
}

fn running(resize: &Resize) -> Desired {
    if resize.runs { Desired::Running } else { Desired::Stopped }
}

pub(crate) fn room_of(spec: &InstanceSpec) -> Room {
    Room { ram_mb: spec.ram_mb, disk_bytes: virtual_bytes(spec) }
}

async fn ended(app: &App, row: &InstanceRow, resize: &Resize, failed: Option<&str>) -> Result<(), Failure> {
    app.store.end_event(row.id, &resize.request_id, EVENT, failed, App::now_us()).await.map(drop).map_err(failure_of)
}

/// Somebody else took the step: it is looked at again.
fn stored(done: Result<(), StoreError>) -> Result<(), Failure> {
    match done {
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(failure_of(error)),
    }
}
