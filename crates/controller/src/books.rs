//! Facts of a host as the controller's own books have them.
//!
//! What an agent reports is up to a heartbeat old; claims are never. RAM in use is therefore what is claimed. Disk space
//! that may still be written is what the agent reckons for the disks it knows, and the whole size of those it has not
//! reported yet.

use std::collections::HashMap;

use whimbrel_core::{
    failure::{Failure, FailureCode},
    host::HostFacts,
    id::{HostName, InstanceId},
    instance::InstanceSpec,
};
use whimbrel_store::{HostLoad, HostRow, HostState, PageAsk, StoreError, every};

use crate::app::App;

#[derive(Clone, Debug)]
pub struct Books {
    reported: HostFacts,
    /// Size of the disks that `reported` knows of.
    reported_disk_bytes: u64,
}

impl Books {
    pub fn with(&self, load: &HostLoad) -> HostFacts {
        let unreported = load.disk_bytes.saturating_sub(self.reported_disk_bytes);
        HostFacts {
            memory_mb_used: load.ram_mb,
            disk_committed_bytes: self.reported.disk_committed_bytes.saturating_add(unreported),
            ..self.reported.clone()
        }
    }
}

pub fn virtual_bytes(spec: &InstanceSpec) -> u64 {
    spec.disks.iter().map(|disk| disk.virtual_bytes).sum()
}

impl App {
    /// The books of a host that is up; else why it cannot be used.
    pub async fn books(&self, host: &HostRow) -> Result<Result<Books, Failure>, StoreError> {
        let reported = match usable(host) {
            Ok(facts) => facts.clone(),
            Err(failure) => return Ok(Err(failure)),
        };
        let mut known = self.sizes_at(&host.name).await?;
        let mut reported_disk_bytes = 0_u64;
        for report in &host.reported {
            let bytes = match known.remove(&report.id) {
                Some(bytes) => bytes,
                None => match self.store.instance(&report.id.to_string()).await {
                    Ok(instance) if report.migrating => virtual_bytes(&instance.spec),
                    Ok(_) | Err(StoreError::NotFound { .. }) => 0,
                    Err(error) => return Err(error),
                },
            };
            reported_disk_bytes = reported_disk_bytes.saturating_add(bytes);
        }
        Ok(Ok(Books { reported, reported_disk_bytes }))
    }

    async fn sizes_at(&self, host: &HostName) -> Result<HashMap<InstanceId, u64>, StoreError> {
        let mut sizes = HashMap::new();
        let mut ask = PageAsk::default();
        loop {
            let page = self.store.list_instances(Some(host), &ask).await?;
            sizes.extend(page.items.iter().map(|instance| (instance.id, virtual_bytes(&instance.spec))));
            ask.marker = page.next;
            if ask.marker.is_none() {
                return Ok(sizes);
            }
        }
    }

    /// All hosts.
    pub async fn all_hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        every(|ask| async move { self.store.list_hosts(&ask).await }).await
    }
}

/// The facts of a host that is up and has reported.
pub fn usable(host: &HostRow) -> Result<&HostFacts, Failure> {
    let down = |why: &str| {
        Failure::new(FailureCode::HostDown, format!("host '{}' {why}", host.name))
            .hint(format!("is `whimbrel agent` running on '{}', and does it reach the controller?", host.name))
    };
    match (host.state, &host.facts) {
        (HostState::Up, Some(facts)) => Ok(facts),
        (HostState::Up | HostState::Down, None) => Err(down("has joined but never reported")),
        (HostState::Down, Some(_)) => Err(down("is down: its agent does not report any more")),
    }
}
