//! A server group as the scheduler sees it: where its servers are.

use std::collections::BTreeMap;

use whimbrel_core::{
    id::{HostName, InstanceId},
    schedule::{self, Group},
};
use whimbrel_store::{GroupPolicy, ServerGroupRow, StoreError};

use crate::app::App;

/// `but`: the server in question, which is no neighbour of itself.
pub(crate) async fn group_of(app: &App, row: &ServerGroupRow, but: Option<InstanceId>) -> Result<Group, StoreError> {
    let mut others: BTreeMap<HostName, u32> = BTreeMap::new();
    for member in row.members.iter().filter(|member| Some(**member) != but) {
        match app.store.server(*member).await {
            Ok(server) => *others.entry(server.host).or_default() += 1,
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        // One that is on its way counts where it will be, too.
        if let Some(migration) = app.store.unfinished_migration_of(*member).await? {
            *others.entry(migration.target).or_default() += 1;
        }
    }
    Ok(Group {
        name: row.name.clone(),
        policy: match row.policy {
            GroupPolicy::Affinity => schedule::GroupPolicy::Affinity,
            GroupPolicy::AntiAffinity => {
                schedule::GroupPolicy::AntiAffinity { max_server_per_host: row.rules.max_server_per_host.unwrap_or(1) }
            }
            GroupPolicy::SoftAffinity => schedule::GroupPolicy::SoftAffinity,
            GroupPolicy::SoftAntiAffinity => schedule::GroupPolicy::SoftAntiAffinity,
        },
        others,
    })
}
