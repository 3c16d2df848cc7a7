//! What every part of the controller shares.

use std::{path::Path, sync::Arc};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::HostName,
};
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{Authority, Identity, KeyAndChain, Names, PeerIdentity},
};
use whimbrel_store::{HostRow, PageAsk, Store};

use crate::{
    agents::Agents,
    answer::failure_of,
    heartbeat::Heartbeats,
    image::Vault,
    migrate::Drivers,
    openstack::identity::{Passwords, SiteKeystone},
};

/// Names listed in one error.
const NAMES_MAX: u32 = 10;
const IDENTITY_FILE: &str = "controller.pem";

pub type Shared = Arc<App>;

pub struct App {
    pub store: Store,
    pub vault: Vault,
    pub authority: Authority,
    pub identity: Arc<Identity>,
    pub agents: Agents,
    pub heartbeats: Heartbeats,
    pub drivers: Drivers,
    pub passwords: Passwords,
    /// The site's own, which vouches for OpenStack's tokens in the place of the database.
    pub keystone: Option<SiteKeystone>,
    /// Something about a server changed: the reconciler need not wait for its next look.
    pub servers_changed: Notify,
    pub tasks: TaskTracker,
    pub shutdown: CancellationToken,
}

impl App {
    pub fn now_us() -> i64 {
        Timestamp::now().0
    }

    /// A host by name; an unknown one is told with those that are known.
    pub async fn host(&self, name: &str) -> Result<HostRow, Failure> {
        let parsed = name.parse::<HostName>();
        let Ok(parsed) = parsed else { return Err(self.no_host(name).await) };
        match self.store.host(&parsed).await {
            Err(whimbrel_store::StoreError::NotFound { .. }) => Err(self.no_host(name).await),
            other => other.map_err(failure_of),
        }
    }

    async fn no_host(&self, name: &str) -> Failure {
        let known = self.store.list_hosts(&names_ask()).await;
        let names = known.map(|page| page.items.iter().map(|host| host.name.to_string()).collect());
        unknown("host", name, names.unwrap_or_default())
    }
}

pub fn names_ask() -> PageAsk {
    PageAsk { limit: Some(NAMES_MAX), marker: None }
}

/// `no host 'h9'; hosts are h1, h2`
pub fn unknown(object: &str, id: &str, mut known: Vec<String>) -> Failure {
    let detail = if known.is_empty() {
        format!("no {object} '{id}'; there are no {object}s yet")
    } else {
        known.sort();
        let more = if known.len() >= NAMES_MAX as usize { ", …" } else { "" };
        format!("no {object} '{id}'; {object}s are {}{more}", known.join(", "))
    };
    Failure::new(FailureCode::NotFound, detail).hint(format!("see `whimbrel {object} list`"))
}

/// The controller's own certificate, made anew at each start: the CA is at hand.
pub fn own_identity(
    authority: &Authority,
    state_dir: &Path,
    name: &HostName,
    names: &Names,
) -> anyhow::Result<Arc<Identity>> {
    let both: KeyAndChain = authority.issue(&PeerIdentity::controller(name.clone()), names, Timestamp::now())?;
    both.save(&identity_path(state_dir))?;
    Ok(Identity::new(&both)?)
}

pub fn identity_path(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join(IDENTITY_FILE)
}
