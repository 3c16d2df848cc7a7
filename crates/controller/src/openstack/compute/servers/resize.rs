//! Another flavor, or another host: begun, confirmed, reverted. What is between is [`crate::resize`]'s.
//!
//! ```text
//! resize    room for the larger hardware here? it stays : another host takes it, by a move of its own
//! migrate   another host takes it, with the hardware that it has
//! ```
//!
//! Ground rules: whatever can be refused is refused before the answer; a resize that can stay where it is does, since no byte
//! needs to travel for it.
//! Source: nova, compute/api.py, `resize`, `confirm_resize`, `revert_resize`.

use uuid::Uuid;
use whimbrel_api::{
    native::NewMigration,
    openstack::{compute::server::record::DiskConfig, fault::Fault},
};
use whimbrel_core::{
    failure::FailureCode,
    hardware::larger_of,
    id::MigrationId,
    precheck::Placement,
    quota::{self, ProjectUse},
    resize::{Hardware, Next, Resize, Stage, with_flavor},
    schedule::{Candidate, Wanted, reasons_against},
};
use whimbrel_daemon::pki::Secret;
use whimbrel_store::{Desired, HostLoad, InstanceRow, MigrationKind, ResizeStep, Room, StoreError, TaskState, Verdict};

use super::{
    super::{
        answer::{Answer, Refused},
        ask::Ask,
        flavors, quotas,
    },
    create::flavor_copy,
    history, known_host,
};
use crate::{
    answer::ApiError,
    app::{App, Shared},
    books::virtual_bytes,
    migrate::{self, ResizeWish, Wish, wishes},
    places::place_of,
    resize::{EVENT, room_of},
};

const RESIZE: &str = "resize";
const MIGRATE: &str = "migrate";
const REVERT: &str = "revertResize";

pub(super) async fn resize(
    app: &Shared,
    ask: &Ask,
    row: InstanceRow,
    flavor: &str,
    disk_config: Option<DiskConfig>,
) -> Answer<()> {
    let mut row = row;
    if let Some(config) = disk_config {
        row.details.disk_config_manual = config == DiskConfig::Manual;
    }
    let new = wanted(app, ask, &row, flavor).await?;
    within_quota(app, &row, &new).await?;
    let resize = begun(&row, ask, new);
    if in_place(app, ask, &row, &resize).await? {
        return noted(app, ask, &row, RESIZE).await;
    }
    let wish = NewMigration::default();
    moved(app, ask, &row, resize, wish, RESIZE).await
}

pub(super) async fn migrate(app: &Shared, ask: &Ask, row: InstanceRow, host: Option<String>) -> Answer<()> {
    if let Some(host) = &host {
        known_host(app, host).await?;
        if *host == row.host.as_str() {
            let why = format!("Unable to migrate instance ({}) to current host ({host}).", row.id);
            return Err(Fault::new(400, why).into());
        }
    }
    let resize = begun(&row, ask, hardware(&row));
    moved(app, ask, &row, resize, NewMigration { host, ..NewMigration::default() }, MIGRATE).await
}

pub(super) async fn confirm(app: &Shared, ask: &Ask, row: InstanceRow) -> Answer<()> {
    let resize = waiting(&row)?;
    let mut details = row.details.clone();
    details.resize = None;
    step(app, &row, &details, None, row.desired, Some(room_of(&row.spec))).await?;
    app.store.set_verdict(resize.migration, Verdict::Confirmed, App::now_us()).await?;
    history::begun(app, ask, row.id, "confirmResize").await
}

pub(super) async fn revert(app: &Shared, ask: &Ask, row: InstanceRow) -> Answer<()> {
    let resize = waiting(&row)?;
    let mut back = resize.reverted(Stage::Moving);
    back.request_id.clone_from(&ask.request_id);
    if resize.old_host != row.host {
        let wish = NewMigration { host: Some(resize.old_host.to_string()), ..NewMigration::default() };
        return moved(app, ask, &row, back, wish, REVERT).await;
    }
    let Next::Enter(stage) = back.after_move() else {
        return Err(Fault::new(400, "Instance has not been resized.").into());
    };
    let mut details = row.details.clone();
    details.resize = Some(Box::new(Resize { stage, ..back }));
    step(app, &row, &details, Some(TaskState::Resizing), Desired::Stopped, None).await?;
    noted(app, ask, &row, REVERT).await
}

fn waiting(row: &InstanceRow) -> Result<&Resize, Fault> {
    let resize = row.details.resize.as_deref().filter(|resize| resize.stage == Stage::Verify && !resize.reverting);
    resize.ok_or_else(|| Fault::new(400, "Instance has not been resized."))
}

fn hardware(row: &InstanceRow) -> Hardware {
    Hardware { flavor: row.flavor, copy: row.details.flavor.clone(), spec: row.spec.clone() }
}

fn begun(row: &InstanceRow, ask: &Ask, new: Hardware) -> Resize {
    Resize {
        stage: Stage::Moving,
        old: hardware(row),
        new,
        old_host: row.host.clone(),
        runs: row.desired == Desired::Running,
        request_id: ask.request_id.clone(),
        reverting: false,
        migration: MigrationId(Uuid::now_v7()),
        back: None,
    }
}

async fn wanted(app: &App, ask: &Ask, row: &InstanceRow, flavor: &str) -> Answer<Hardware> {
    let (id, found) = match flavors::find(app, ask, flavor).await {
        Err(refused) if refused.status() == 404 => {
            return Err(Fault::new(400, format!("Flavor {flavor} could not be found.")).into());
        }
        other => other?,
    };
    if id == row.flavor {
        return Err(Fault::new(400, "When resizing, instances must change flavor!").into());
    }
    if found.disk_gb == 0 && row.details.flavor.as_ref().is_some_and(|old| old.disk_gb > 0) {
        return Err(Fault::new(400, "Resize to zero disk flavor is not allowed.").into());
    }
    let copy = flavor_copy(found);
    let spec = with_flavor(&row.spec, &copy).map_err(|failure| match failure.code {
        FailureCode::BadRequest => Refused::from(Fault::new(400, failure.detail)),
        _ => Refused::from(failure),
    })?;
    Ok(Hardware { flavor: id, copy: Some(copy), spec })
}

/// Of what it would have more than now.
async fn within_quota(app: &App, row: &InstanceRow, new: &Hardware) -> Answer<()> {
    let Some(project) = &row.owner.project else { return Ok(()) };
    let limits = quotas::limits(app, Some(project), row.owner.user.as_ref()).await?;
    let more = ProjectUse {
        instances: 0,
        cores: new.spec.vcpus.saturating_sub(row.spec.vcpus).into(),
        ram_mb: new.spec.ram_mb.saturating_sub(row.spec.ram_mb),
    };
    let used = app.store.project_use(project).await?;
    Ok(quota::check(&limits, &used, &more).map_err(|exceeded| Fault::new(403, exceeded.to_string()))?)
}

/// Whether its host takes it as it shall be; then the resize has begun.
async fn in_place(app: &App, ask: &Ask, row: &InstanceRow, resize: &Resize) -> Answer<bool> {
    let host = app.store.host(&row.host).await?;
    let Ok(books) = app.books(&host).await? else { return Ok(false) };
    let larger = larger_of(&row.spec, &resize.new.spec);
    let held = virtual_bytes(&row.spec);
    let load = app.store.host_load(&host.name).await?;
    let without = HostLoad {
        ram_mb: load.ram_mb.saturating_sub(row.spec.ram_mb),
        disk_bytes: load.disk_bytes.saturating_sub(held),
        ..load
    };
    let (facts, place) = (books.with(&without), place_of(&host, &app.store.list_aggregates().await?));
    let wishes = wishes(app, row, resize.new.flavor, false).await?;
    let question = Wanted { wishes: &wishes, ..Wanted::new(&larger) };
    let candidate = Candidate { retained_bytes: held, place: &place, ..Candidate::new(&facts) };
    let against = reasons_against(&question, &candidate);
    if !against.is_empty() {
        tracing::debug!(server = %row.id, host = %host.name, ?against, "a resize does not stay on its host");
        return Ok(false);
    }
    let Next::Enter(stage) = resize.after_move() else { return Ok(false) };
    let mut details = row.details.clone();
    details.resize = Some(Box::new(Resize { stage, ..resize.clone() }));
    let new = whimbrel_store::NewMigration {
        id: resize.migration,
        instance: row.id,
        source: row.host.clone(),
        target: row.host.clone(),
        epoch: row.epoch,
        kind: MigrationKind::Resize,
        asked_by: ask.ownership(),
        request_id: None,
        options: serde_json::json!({}),
        credential: Secret::generate().map_err(ApiError::from)?.reveal(),
        room: room_of(&larger),
        details: Some((row.generation, details)),
        created_us: App::now_us(),
    };
    let admit = |load: &HostLoad| {
        let target = &books.with(load);
        let placement = Placement {
            instance: &larger,
            allocated_bytes: 0,
            retained_bytes: held,
            source: None,
            target,
            disk_over_commit: false,
        };
        match placement.check() {
            reasons if reasons.is_empty() => Ok(()),
            reasons => Err(reasons),
        }
    };
    match app.store.resize_in_place(&new, admit).await {
        Ok(()) => Ok(true),
        Err(StoreError::Refused { .. }) => Ok(false),
        Err(error) => Err(raced(error, row, RESIZE)),
    }
}

/// By a move of its own; it is under way when this returns.
async fn moved(
    app: &Shared,
    ask: &Ask,
    row: &InstanceRow,
    resize: Resize,
    new: NewMigration,
    what: &str,
) -> Answer<()> {
    let kind = if resize.changes_hardware() { MigrationKind::Resize } else { MigrationKind::Cold };
    let id = if resize.reverting { MigrationId(Uuid::now_v7()) } else { resize.migration };
    let (room_for, flavor) = (larger_of(&row.spec, &resize.wanted().spec), resize.wanted().flavor);
    let mut details = row.details.clone();
    details.resize = Some(Box::new(Resize { back: resize.reverting.then_some(id), ..resize }));
    let wish = Wish {
        kind,
        asked_by: ask.ownership(),
        scheduled: true,
        resize: Some(ResizeWish { id, room_for, flavor, details }),
        ..Wish::default()
    };
    match migrate::create(app, row, &new, wish).await {
        Ok(_) => noted(app, ask, row, what).await,
        Err(error) => {
            let failure = error.failure();
            match failure.code {
                FailureCode::Conflict => {
                    Err(Fault::new(409, format!("Cannot '{what}' instance {}: {}", row.id, failure.detail)).into())
                }
                FailureCode::Internal => Err(Refused::from(failure)),
                _ => Err(Fault::new(400, format!("No valid host was found. {}", failure.detail)).into()),
            }
        }
    }
}

async fn step(
    app: &App,
    row: &InstanceRow,
    details: &whimbrel_core::server::ServerDetails,
    task: Option<TaskState>,
    desired: Desired,
    room: Option<Room>,
) -> Answer<()> {
    let step = ResizeStep { spec: &row.spec, flavor: row.flavor, details, task, desired, room };
    app.store.step_resize(row, &step, App::now_us()).await.map_err(|error| raced(error, row, RESIZE))
}

fn raced(error: StoreError, row: &InstanceRow, what: &str) -> Refused {
    match error {
        StoreError::Conflict { reason, .. } => {
            Fault::new(409, format!("Cannot '{what}' instance {}: it {reason}", row.id)).into()
        }
        other => other.into(),
    }
}

async fn noted(app: &Shared, ask: &Ask, row: &InstanceRow, what: &str) -> Answer<()> {
    history::begun(app, ask, row.id, what).await?;
    history::started(app, ask, row.id, EVENT, &row.host).await?;
    app.servers_changed.notify_one();
    Ok(())
}
