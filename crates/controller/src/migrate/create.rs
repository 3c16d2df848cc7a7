//! Begins a move, and asks for its end.

use uuid::Uuid;
use whimbrel_api::{agent::MoveOptions, native::NewMigration};
use whimbrel_core::{
    disk::Storage,
    failure::{Failure, FailureCode},
    id::MigrationId,
    migration::{Note, coordinator::Event},
    precheck::Placement,
    server::Ownership,
};
use whimbrel_daemon::pki::Secret;
use whimbrel_store::{InstanceRow, MigrationKind, MigrationRow, Room, StoreError};

use super::{debt, drive, plan};
use crate::{
    answer::{Answer, ApiError},
    app::{App, Shared},
    books::virtual_bytes,
};

/// Between reading a migration and advancing it, its driver may have advanced it.
const CANCEL_TRIES: u32 = 20;

/// Beside target and options: who wants it, and how Nova's older versions count disks.
#[derive(Clone, Debug)]
pub struct Wish {
    pub kind: MigrationKind,
    pub asked_by: Ownership,
    /// Of the action that it is part of.
    pub request_id: Option<String>,
    pub disk_over_commit: bool,
    /// Nova's `block_migration`; `None` is as the disks need it.
    pub storage: Option<Storage>,
    /// A named host is judged as if the scheduler had chosen it: one that is disabled, or in another zone, is refused.
    pub scheduled: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Wish {
            kind: MigrationKind::Live,
            asked_by: Ownership::default(),
            request_id: None,
            disk_over_commit: false,
            storage: None,
            scheduled: false,
        }
    }
}

pub async fn create(app: &Shared, row: &InstanceRow, new: &NewMigration, wish: Wish) -> Answer<MigrationRow> {
    if let Some(host) = &new.host {
        debt::settle_first(app, row.id, host).await?;
    }
    let planned = plan::planned(app, row, new, &wish).await?;
    let refused = format!("server '{}' cannot be moved", row.name);
    if !planned.plan.reasons.is_empty() {
        return Err(ApiError::of_reasons(&refused, planned.plan.reasons));
    }
    let Some(offer) = &planned.target else {
        return Err(Failure::new(FailureCode::NoHost, refused).hint("see `whimbrel move --plan`").into());
    };
    let target = &offer.facts;
    let storage = planned.source.storage_towards(target);
    // The claim becomes the server's own there, so it is of the whole disks, also of those that stay where they are.
    let missing_base_bytes = Placement {
        instance: &row.spec,
        allocated_bytes: 0,
        retained_bytes: 0,
        source: None,
        target,
        disk_over_commit: false,
    }
    .missing_base_bytes();
    let missing_base_bytes = if storage.is_shared() { 0 } else { missing_base_bytes };
    // What both hosts see, nobody can compare.
    let options = MoveOptions { verify: new.options.verify && !storage.is_shared(), ..new.options.clone() };
    let migration = whimbrel_store::NewMigration {
        id: MigrationId(Uuid::now_v7()),
        instance: row.id,
        source: row.host.clone(),
        target: target.name.clone(),
        epoch: row.epoch.next(),
        kind: wish.kind,
        asked_by: wish.asked_by,
        request_id: wish.request_id,
        options: serde_json::to_value(&options)
            .map_err(|error| Failure::new(FailureCode::BadRequest, format!("the options cannot be stored: {error}")))?,
        storage,
        credential: Secret::generate()?.reveal(),
        room: Room { ram_mb: row.spec.ram_mb, disk_bytes: virtual_bytes(&row.spec).saturating_add(missing_base_bytes) },
        created_us: App::now_us(),
    };
    let admit = |load: &whimbrel_store::HostLoad| plan::admit(row, &planned, offer, load);
    match app.store.create_migration(&migration, admit).await {
        Ok(()) => {}
        Err(StoreError::Refused { reasons }) => return Err(ApiError::of_reasons(&refused, reasons)),
        Err(error) => return Err(error.into()),
    }
    // A client that hangs up ends this call, and must not end what it began.
    let (begun, id) = (app.clone(), migration.id);
    let driven = app.tasks.spawn(async move {
        let stored = begun.store.migration(id).await?;
        tracing::info!(migration = %id, server = stored.instance_name, source = %stored.source, target = %stored.target, "migration");
        drive(&begun, stored.clone());
        Ok::<_, StoreError>(stored)
    });
    let ended = |error| Failure::new(FailureCode::Internal, format!("migration {id} could not be driven: {error}"));
    Ok(driven.await.map_err(|error| ended(error.to_string()))??)
}

/// Stores that the move is to end; its driver, here or at another controller, carries it out.
pub async fn cancel(app: &Shared, id: MigrationId) -> Answer<MigrationRow> {
    for _ in 0..CANCEL_TRIES {
        let row = app.store.migration(id).await?;
        let step = row.phase.step(&Event::Cancel);
        match step.note {
            Note::TooLate => return Err(too_late(&row).into()),
            Note::AlreadySo => return Ok(row),
            Note::Moved | Note::Told | Note::Stale | Note::Refused | Note::Waiting | Note::Contradiction => {}
        }
        match app.store.advance_migration(id, row.generation, &step.next, App::now_us()).await {
            Ok(_) => {
                tracing::info!(migration = %id, "cancel was asked for");
                let row = app.store.migration(id).await?;
                drive(app, row.clone());
                if let Some(driven) = app.drivers.of(id) {
                    driven.nudge.notify_one();
                }
                return Ok(row);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(FailureCode::Conflict, format!("migration {id} moves on too fast to be cancelled now"))
        .hint("try again")
        .into())
}

fn too_late(row: &MigrationRow) -> Failure {
    let detail = format!(
        "migration {} of server '{}' cannot be cancelled: it is {}",
        row.id,
        row.instance_name,
        if row.phase.is_over() { "over" } else { "past the point of no return" }
    );
    Failure::new(FailureCode::Conflict, detail).hint("see `whimbrel migration show`; move the server back if need be")
}
