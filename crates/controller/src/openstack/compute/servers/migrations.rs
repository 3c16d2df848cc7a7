//! Moves as the Compute API shows them: of one server while they go on, and all of them as the operator's list.
//!
//! Ground rules: the numbers of disks and memory are those that the agents report, at every moment; a move is shown as in progress
//! until its guest runs on the target, whatever phase it is in.
//! Source: nova, api/openstack/compute/server_migrations.py and migrations.py.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;
use whimbrel_api::{
    native::MigrationStatus,
    openstack::{
        compute::{
            migration::{self, Kind, Migration, Place, Status, Transfer},
            query::{LIMIT_MAX, Query},
            times,
        },
        fault::Fault,
        microversion::Microversion,
    },
};
use whimbrel_core::{
    failure::FailureCode,
    id::{HostName, MigrationId},
    identity::policy::Operation,
    migration::coordinator,
    progress::Progress,
};
use whimbrel_store::{InstanceRow, MigrationFilter, MigrationKind, MigrationRow, StoreError};

use super::{
    super::{
        answer::{Answer, Body, Refused},
        ask::Ask,
    },
    find, history,
};
use crate::{
    app::{App, Shared},
    migrate,
};

const LIST_SINCE: Microversion = Microversion::v2(23);
const FORCE_SINCE: Microversion = Microversion::v2(22);
const ABORT_SINCE: Microversion = Microversion::v2(24);
const ABORT_EARLY_SINCE: Microversion = Microversion::v2(65);
const PAGED_SINCE: Microversion = Microversion::v2(59);
const CHANGES_BEFORE_SINCE: Microversion = Microversion::v2(66);
const USER_FILTER_SINCE: Microversion = Microversion::v2(80);
const QUERY: &[&str] = &[
    "host",
    "status",
    "instance_uuid",
    "migration_type",
    "source_compute",
    "hidden",
    "limit",
    "marker",
    "changes-since",
    "changes-before",
    "user_id",
    "project_id",
];

fn since(ask: &Ask, version: Microversion) -> Result<(), Fault> {
    match ask.at >= version {
        true => Ok(()),
        false => Err(Fault::new(404, "The resource could not be found.")),
    }
}

pub(in super::super) async fn of_server(
    ask: Ask,
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    since(&ask, LIST_SINCE)?;
    let row = find(&app, &ask, &id, Operation::ListServerMigrations).await?;
    let going_on = app.store.unfinished_migration_of(row.id).await?;
    let records: Vec<Migration> = going_on
        .into_iter()
        .map(|migration| record(&app, migration))
        .collect::<Vec<_>>()
        .into_iter()
        .filter(Migration::is_live_in_progress)
        .collect();
    Ok(Json(migration::of_server(&records, &ask.view())))
}

pub(in super::super) async fn show(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, number)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    since(&ask, LIST_SINCE)?;
    let row = find(&app, &ask, &id, Operation::ShowServerMigration).await?;
    let record = record(&app, of(&app, &row, &number).await?);
    if !record.is_live_in_progress() {
        let why = format!("Live migration {number} for server {id} is not in progress.");
        return Err(Fault::new(404, why).into());
    }
    Ok(Json(migration::show(&record, &ask.view())))
}

/// By number, or by the UUID that `openstackclient` has.
async fn of(app: &App, row: &InstanceRow, number: &str) -> Answer<MigrationRow> {
    let missing = || Fault::new(404, format!("Migration {number} for server {} could not be found.", row.id));
    let found = match (number.parse::<u64>(), number.parse::<MigrationId>()) {
        (Ok(number), _) => app.store.migration_by_number(number).await,
        (Err(_), Ok(id)) => app.store.migration(id).await,
        (Err(_), Err(_)) => return Err(missing().into()),
    };
    match found {
        Ok(migration) if migration.instance == row.id => Ok(migration),
        Ok(_) | Err(StoreError::NotFound { .. }) => Err(missing().into()),
        Err(error) => Err(error.into()),
    }
}

/// `DELETE`: the guest stays where it is.
pub(in super::super) async fn abort(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, number)): Path<(String, String)>,
) -> Answer<StatusCode> {
    since(&ask, ABORT_SINCE)?;
    let row = find(&app, &ask, &id, Operation::EndServerMigration).await?;
    let migration = of(&app, &row, &number).await?;
    let status = status(&app, &migration);
    let early = ask.at >= ABORT_EARLY_SINCE && matches!(status, Status::Queued | Status::Preparing);
    if status != Status::Running && !early {
        let why = format!(
            "Cannot abort migration {number}: it is {}, and only what is running{} can be aborted.",
            status.name(),
            if ask.at >= ABORT_EARLY_SINCE { ", queued or being prepared" } else { "" }
        );
        return Err(Fault::new(400, why).into());
    }
    history::begun(&app, &ask, row.id, "live_migration_cancel").await?;
    match migrate::cancel(&app, migration.id).await {
        Ok(_) => Ok(StatusCode::ACCEPTED),
        Err(error) if error.failure().code == FailureCode::Conflict => {
            Err(Fault::new(400, error.failure().detail).into())
        }
        Err(error) => Err(Refused::from(error)),
    }
}

/// `force_complete`: whatever the guest does, the move shall end now.
pub(in super::super) async fn act(
    ask: Ask,
    State(app): State<Shared>,
    Path((id, number)): Path<(String, String)>,
    Body(body): Body,
) -> Answer<StatusCode> {
    since(&ask, FORCE_SINCE)?;
    let row = find(&app, &ask, &id, Operation::EndServerMigration).await?;
    migration::parse_force_complete(&body, ask.at)?;
    let migration = of(&app, &row, &number).await?;
    let status = status(&app, &migration);
    if status != Status::Running {
        let why =
            format!("Migration {number} of server {id} is {}, and only a running one can be forced.", status.name());
        return Err(Fault::new(400, why).into());
    }
    history::begun(&app, &ask, row.id, "live_migration_force_complete").await?;
    let source = app.store.host(&migration.source).await?;
    app.agents.of(&source)?.force(migration.id).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(in super::super) async fn list(ask: Ask, State(app): State<Shared>) -> Answer<Json<Value>> {
    let query = ask.query(QUERY)?;
    let own = ask.requester().project().cloned();
    let all = ask.may(Operation::ListAllMigrations).is_ok();
    if !all {
        ask.may_in(Operation::ListMigrations, own.as_ref())?;
    }
    let Some(mut filter) = filter(&query, &ask)? else {
        return Ok(Json(migration::list(&[], None, &ask.view())));
    };
    if !all {
        match (&filter.project, own) {
            // Another's are not there.
            (Some(asked), own) if Some(asked) != own.as_ref() => {
                return Ok(Json(migration::list(&[], None, &ask.view())));
            }
            (_, None) => return Ok(Json(migration::list(&[], None, &ask.view()))),
            (_, own) => filter.project = own,
        }
    }
    let paged = ask.at >= PAGED_SINCE;
    let limit = if paged { query.limit()? } else { LIMIT_MAX };
    let before = match query.get("marker").filter(|_| paged) {
        None => None,
        Some(marker) => Some(known_marker(&app, marker).await?),
    };
    let rows = app.store.list_moves(&filter, before, u32::try_from(limit + 1).unwrap_or(u32::MAX)).await?;
    let more = rows.len() > limit;
    let mut records: Vec<Migration> = rows.into_iter().take(limit).map(|row| record(&app, row)).collect();
    if !paged {
        // Oldest first, and the newest of them where there are more than any list tells.
        records.reverse();
        return Ok(Json(migration::list(&records, None, &ask.view())));
    }
    let next = records.last().filter(|_| more).map(|last| query.after(&last.uuid.to_string()));
    Ok(Json(migration::list(&records, next.as_deref(), &ask.view())))
}

async fn known_marker(app: &App, marker: &str) -> Answer<MigrationId> {
    let bad = || Fault::new(400, format!("marker [{marker}] not found"));
    let id: MigrationId = marker.parse().map_err(|_| bad())?;
    match app.store.migration(id).await {
        Err(StoreError::NotFound { .. }) => Err(bad().into()),
        other => other.map(|row| row.id).map_err(Into::into),
    }
}

/// `None` where no migration can be meant.
fn filter(query: &Query, ask: &Ask) -> Result<Option<MigrationFilter>, Fault> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let time = |name: &str| {
        let bad = |text: &str| Fault::new(400, format!("Invalid input for query parameters {name}. Value: {text}."));
        query.get(name).map(|text| times::parse(text).ok_or_else(|| bad(text))).transpose()
    };
    let by_user = ask.at >= USER_FILTER_SINCE;
    let server = text("instance_uuid").map(|id| id.parse());
    let user = text("user_id").filter(|_| by_user).map(|id| id.parse());
    let project = text("project_id").filter(|_| by_user).map(|id| id.parse());
    let kind = text("migration_type").map(|name| KINDS.iter().copied().find(|known| kind(*known).name() == name));
    let statuses = text("status").map(|name| statuses(&name));
    let is_none = matches!(server, Some(Err(_)))
        || matches!(user, Some(Err(_)))
        || matches!(project, Some(Err(_)))
        || kind == Some(None)
        || statuses.is_some_and(<[_]>::is_empty);
    let filter = MigrationFilter {
        host: text("host"),
        source: text("source_compute"),
        server: server.and_then(Result::ok),
        kind: kind.flatten(),
        statuses: statuses.unwrap_or_default().to_vec(),
        user: user.and_then(Result::ok),
        project: project.and_then(Result::ok),
        changed_since_us: if ask.at >= PAGED_SINCE { time("changes-since")? } else { None },
        changed_before_us: if ask.at >= CHANGES_BEFORE_SINCE { time("changes-before")? } else { None },
    };
    Ok((!is_none).then_some(filter))
}

const KINDS: [MigrationKind; 4] =
    [MigrationKind::Live, MigrationKind::Cold, MigrationKind::Resize, MigrationKind::Evacuation];

/// The coordinator's own that [`status`] shows by this name.
fn statuses(name: &str) -> &'static [coordinator::Status] {
    use coordinator::Status as Own;
    match name {
        "queued" => &[Own::Queued],
        "preparing" => &[Own::Preparing],
        "running" => &[Own::Running, Own::PostMigrating, Own::Cancelling],
        "completed" => &[Own::Completed],
        "cancelled" => &[Own::Cancelled],
        "failed" => &[Own::Failed],
        _ => &[],
    }
}

fn record(app: &App, row: MigrationRow) -> Migration {
    let status = status(app, &row);
    let observed = app.drivers.of(row.id).and_then(|driven| driven.observed().progress);
    let (memory, disk) = observed.or(row.progress.clone()).as_ref().map(transfers).unwrap_or_default();
    let place = |host: &HostName| Place { host: Some(host.to_string()), node: Some(host.to_string()) };
    Migration {
        id: row.number,
        uuid: row.id.0,
        server_id: row.instance.0,
        kind: kind(row.kind),
        status,
        source: place(&row.source),
        target: place(&row.target),
        target_ip: None,
        memory,
        disk,
        old_flavor: None,
        new_flavor: None,
        user_id: row.asked_by.user.map(String::from),
        project_id: row.asked_by.project.map(String::from),
        created: row.created_us,
        updated: Some(row.updated_us),
    }
}

fn transfers(progress: &Progress) -> (Transfer, Transfer) {
    let transfer = |done: u64, total: u64| Transfer {
        total: Some(total),
        processed: Some(done.min(total)),
        remaining: Some(total.saturating_sub(done)),
    };
    let disks = progress
        .disks
        .iter()
        .fold((0, 0), |(done, total), lane| (done + lane.done_bytes.min(lane.total_bytes), total + lane.total_bytes));
    (transfer(progress.ram.done_bytes, progress.ram.total_bytes), transfer(disks.0, disks.1))
}

fn kind(kind: MigrationKind) -> Kind {
    match kind {
        MigrationKind::Live => Kind::Live,
        MigrationKind::Cold => Kind::Cold,
        MigrationKind::Resize => Kind::Resize,
        MigrationKind::Evacuation => Kind::Evacuation,
    }
}

fn status(app: &App, row: &MigrationRow) -> Status {
    match migrate::view(app, row.clone()).status {
        MigrationStatus::Queued => Status::Queued,
        MigrationStatus::Preparing => Status::Preparing,
        MigrationStatus::Running | MigrationStatus::Cancelling => Status::Running,
        MigrationStatus::Verifying | MigrationStatus::Completed => Status::Completed,
        MigrationStatus::Cancelled => Status::Cancelled,
        MigrationStatus::Failed => Status::Failed,
    }
}
