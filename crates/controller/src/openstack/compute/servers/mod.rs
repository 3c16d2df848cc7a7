//! Servers: made, listed, changed, acted upon, moved.
//!
//! | file | holds |
//! |---|---|
//! | `record` | a stored server as the API's record |
//! | `list`, `wanted` | lists and their filters |
//! | `create` | a new server: flavor, image, networks, keys into hardware and details |
//! | `drive` | what a new server is told of itself |
//! | `groups` | a server group as the scheduler sees it |
//! | `change` | name, description, metadata, tags, deletion |
//! | `action`, `power` | what a server can be asked to do |
//! | `live` | the move of a running server |
//! | `migrations` | moves as the API shows and ends them |
//! | `interfaces` | its ports |
//! | `history` | what was done to a server |
//!
//! Ground rules: a server is found by its id alone (clients try names first, and want 404 for them); to who may not see it, it is
//! not there; what is asked for is stored before it is answered, and carried out by the reconciler or a migration's driver.
pub(super) mod action;
pub(super) mod change;
pub(super) mod create;
mod drive;
pub(crate) mod groups;
pub(crate) mod history;
pub(super) mod interfaces;
pub(super) mod list;
mod live;
pub(super) mod metadata;
pub(super) mod migrations;
mod power;
mod record;
mod wanted;

use whimbrel_api::openstack::fault::Fault;
use whimbrel_core::{
    id::{HostName, InstanceId},
    identity::policy::Operation,
};
use whimbrel_store::{InstanceRow, StoreError};

use super::{answer::Answer, ask::Ask};
use crate::app::App;

/// The server, if it is there for who asks and `operation` is allowed on it.
async fn find(app: &App, ask: &Ask, id: &str, operation: Operation) -> Answer<InstanceRow> {
    let row = seen(app, ask, id).await?;
    ask.may_in(operation, row.owner.project.as_ref())?;
    Ok(row)
}

/// The server, if it is there for who asks.
async fn seen(app: &App, ask: &Ask, id: &str) -> Answer<InstanceRow> {
    let missing = || Fault::new(404, format!("Instance {id} could not be found."));
    let parsed: InstanceId = id.parse().map_err(|_| missing())?;
    let row = match app.store.server(parsed).await {
        Err(StoreError::NotFound { .. }) => return Err(missing().into()),
        other => other?,
    };
    if ask.may_in(Operation::ReadServers, row.owner.project.as_ref()).is_err() {
        return Err(missing().into());
    }
    Ok(row)
}

/// An operator who names a host that is not there made a mistake: 400 and not 404.
async fn known_host(app: &App, host: &str) -> Answer<()> {
    let missing = || Fault::new(400, format!("Compute host {host} could not be found."));
    let name: HostName = host.parse().map_err(|_| missing())?;
    match app.store.host(&name).await {
        Err(StoreError::NotFound { .. }) => Err(missing().into()),
        other => other.map(drop).map_err(Into::into),
    }
}
