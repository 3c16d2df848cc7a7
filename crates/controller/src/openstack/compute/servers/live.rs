//! `os-migrateLive`: the move of a running server, in each of the three ways in which clients learn that it is refused.
//!
//! ```text
//! until 2.29  a named host is taken as it is; prechecks before the answer -> 400
//! 2.30 - 2.33 the scheduler is asked about a named host too; prechecks before the answer -> 400
//! from 2.34   202; a refusal is told in the server's actions
//! ```
//!
//! `block_migration` is held against what both hosts say of their storage: `true` wants the disks copied, `false` wants them left
//! where they are, and what does not fit is refused.
//!
//! Ground rules: the same prechecks at every version, and the room is claimed in the transaction that begins the move; an unknown
//! host and a server that is busy are told at once at every version, as Nova does it.

use whimbrel_api::{
    native::NewMigration,
    openstack::{
        compute::action::live::{BlockMigration, LiveMigration, Prechecks},
        fault::Fault,
    },
};
use whimbrel_core::{
    disk::Storage,
    failure::{Failure, FailureCode},
    schedule,
};
use whimbrel_store::{HostRow, InstanceRow, MOVE_EVENT, MigrationKind};

use super::{
    super::{
        answer::{Answer, Refused},
        ask::Ask,
    },
    history, known_host,
};
use crate::{
    app::Shared,
    migrate::{self, Wish},
    shared::sees_disks_of,
};

const ACTION: &str = "live-migration";
const PLAN_EVENT: &str = "conductor_live_migrate_instance";

pub(super) async fn migrate(app: &Shared, ask: &Ask, row: InstanceRow, wish: LiveMigration) -> Answer<()> {
    if let Some(host) = &wish.host {
        known_host(app, host).await?;
    }
    history::begun(app, ask, row.id, ACTION).await?;
    history::started(app, ask, row.id, PLAN_EVENT, &row.host).await?;
    let refused = match begin(app, ask, &row, &wish).await {
        Ok(()) => return history::ended(app, ask, row.id, PLAN_EVENT, None).await,
        Err(refused) => refused,
    };
    history::ended(app, ask, row.id, PLAN_EVENT, Some(refused.message())).await?;
    match wish.prechecks {
        // Somebody else was faster, or the cloud itself is at fault: that is no precheck.
        _ if refused.status() == 409 || refused.status() == 500 => Err(refused),
        Prechecks::BeforeAnswer => Err(Fault::new(400, refused.message()).into()),
        Prechecks::AfterAnswer => {
            tracing::info!(server = %row.id, why = refused.message(), "a move was refused");
            Ok(())
        }
    }
}

async fn begin(app: &Shared, ask: &Ask, row: &InstanceRow, wish: &LiveMigration) -> Answer<()> {
    if wish.host.as_deref() == Some(row.host.as_str()) {
        let why = format!("Unable to migrate instance ({}) to current host ({}).", row.id, row.host);
        return Err(Fault::new(400, why).into());
    }
    let storage = match wish.block_migration {
        BlockMigration::Yes => Some(Storage::Local),
        BlockMigration::No => Some(Storage::Shared),
        BlockMigration::Auto => None,
    };
    if let Some(why) = unlike_storage(app, row, wish, storage).await? {
        return Err(Fault::new(400, why.detail).into());
    }
    let new = NewMigration { host: wish.host.clone(), ..NewMigration::default() };
    let wish = Wish {
        kind: MigrationKind::Live,
        asked_by: ask.ownership(),
        request_id: Some(ask.request_id.clone()),
        disk_over_commit: wish.disk_over_commit.unwrap_or(false),
        storage,
        scheduled: !wish.forced,
    };
    // Before the move begins, or its end could come first.
    history::started(app, ask, row.id, MOVE_EVENT, &row.host).await?;
    match migrate::create(app, row, &new, wish).await {
        Ok(migration) => {
            tracing::info!(server = %row.id, migration = %migration.id, target = %migration.target, "live migration");
            Ok(())
        }
        Err(error) => {
            let failure = error.failure();
            history::ended(app, ask, row.id, MOVE_EVENT, Some(&failure.detail)).await?;
            let refused = Refused::from(failure.clone());
            match failure.code {
                FailureCode::Conflict => Err(refused),
                _ if refused.status() == 500 => Err(refused),
                _ => Err(Fault::new(400, refused.message()).into()),
            }
        }
    }
}

/// In Nova's words alone, where none of the hosts in question can move it as asked.
async fn unlike_storage(
    app: &Shared,
    row: &InstanceRow,
    wish: &LiveMigration,
    storage: Option<Storage>,
) -> Answer<Option<Failure>> {
    let Some(wished) = storage else { return Ok(None) };
    let home = app.store.host(&row.host).await?;
    let asked = |host: &HostRow| match &wish.host {
        Some(named) => host.name.as_str() == named,
        None => host.name != home.name && host.facts.is_some(),
    };
    let hosts: Vec<HostRow> = app.all_hosts().await?.into_iter().filter(asked).collect();
    let fits = hosts.iter().any(|host| sees_disks_of(host, &home) == wished.is_shared());
    Ok((!fits && !hosts.is_empty()).then(|| schedule::unlike_storage(&home.name, wished)))
}
