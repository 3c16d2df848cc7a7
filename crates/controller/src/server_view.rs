//! A server as clients see it.

use whimbrel_api::native::{Server, ServerStatus};
use whimbrel_core::instance::PowerState;
use whimbrel_store::{HostState, InstanceRow, StoreError, TaskState};

use crate::app::App;

pub async fn view(app: &App, row: InstanceRow, host: HostState) -> Result<Server, StoreError> {
    let migration = match row.task {
        Some(TaskState::Migrating) => app.store.unfinished_migration_of(row.id).await?.map(|migration| migration.id),
        Some(TaskState::Building | TaskState::Starting | TaskState::Stopping | TaskState::Deleting) | None => None,
    };
    Ok(Server {
        id: row.id,
        status: status(&row, host),
        name: row.name,
        host: Some(row.host),
        epoch: row.epoch,
        power: row.power,
        spec: row.spec,
        migration,
        failure: row.failure,
        write_bps: row.write_bps,
        created_us: row.created_us,
    })
}

fn status(row: &InstanceRow, host: HostState) -> ServerStatus {
    match row.task {
        Some(TaskState::Deleting) => return ServerStatus::Deleting,
        Some(TaskState::Migrating) => return ServerStatus::Migrating,
        Some(TaskState::Building | TaskState::Starting | TaskState::Stopping) | None => {}
    }
    if host == HostState::Down {
        return ServerStatus::Unknown;
    }
    match row.power {
        Some(PowerState::Running) => ServerStatus::Active,
        Some(PowerState::Paused) => ServerStatus::Paused,
        Some(PowerState::Crashed) => ServerStatus::Error,
        Some(PowerState::Stopped) | None if row.failure.is_some() => ServerStatus::Error,
        Some(PowerState::Stopped) | None if row.task == Some(TaskState::Building) => ServerStatus::Building,
        Some(PowerState::Stopped) => ServerStatus::Stopped,
        // It never was anywhere, and nobody brings it there any more.
        None => ServerStatus::Error,
    }
}
