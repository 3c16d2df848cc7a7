//! A server as clients see it.

use whimbrel_api::native::{Server, ServerStatus};
use whimbrel_core::instance::PowerState;
use whimbrel_store::{HostState, InstanceRow, StoreError, TaskState};

use crate::app::App;

pub async fn view(app: &App, row: InstanceRow, host: HostState) -> Result<Server, StoreError> {
    let migration = match row.task == Some(TaskState::Migrating) {
        true => app.store.unfinished_migration_of(row.id).await?.map(|migration| migration.id),
        false => None,
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

/// While something is being done with it, a server is what it was before: what its guest does already is in `power`.
fn status(row: &InstanceRow, host: HostState) -> ServerStatus {
    match (row.task, host) {
        (Some(TaskState::Deleting), _) => ServerStatus::Deleting,
        (Some(TaskState::Migrating | TaskState::Resizing), _) => ServerStatus::Migrating,
        (_, HostState::Down) => ServerStatus::Unknown,
        (Some(TaskState::Building), HostState::Up) => ServerStatus::Building,
        (Some(TaskState::Starting), HostState::Up) => ServerStatus::Stopped,
        (Some(TaskState::Unpausing), HostState::Up) => ServerStatus::Paused,
        (
            Some(
                TaskState::Stopping
                | TaskState::Pausing
                | TaskState::Suspending
                | TaskState::Rebooting
                | TaskState::RebootingHard,
            ),
            HostState::Up,
        ) => ServerStatus::Active,
        (Some(TaskState::Rebuilding), HostState::Up) => ServerStatus::Building,
        (None | Some(TaskState::Resuming | TaskState::Imaging | TaskState::ImageUploading), HostState::Up) => {
            match row.power {
                Some(PowerState::Running) => ServerStatus::Active,
                Some(PowerState::Paused) => ServerStatus::Paused,
                // Of the words of this API the one that says that it does not run.
                Some(PowerState::Suspended) => ServerStatus::Stopped,
                Some(PowerState::Stopped) if row.failure.is_none() => ServerStatus::Stopped,
                // Without a power state it never was anywhere, and nobody brings it there any more.
                Some(PowerState::Stopped | PowerState::Crashed) | None => ServerStatus::Error,
            }
        }
    }
}
