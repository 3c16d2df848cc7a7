//! What every part of a running agent shares.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;
use whimbrel_api::client::ControllerClient;
use whimbrel_core::id::HostName;
use whimbrel_daemon::{
    pki::{CaCert, Identity},
    tcp::TcpOptions,
    tls::{Connector, Protocol},
};

use crate::{
    config::AgentConfig, hold::Holds, hypervisor::Hypervisor, instances::Instances, migrate::comparisons::Comparisons,
    paths::Paths, storage::ImageStore,
};

pub struct Context {
    pub config: AgentConfig,
    pub paths: Paths,
    pub hypervisor: Arc<Hypervisor>,
    pub instances: Arc<Instances>,
    pub images: Arc<ImageStore>,
    pub identity: Arc<Identity>,
    pub ca: CaCert,
    pub controller: ControllerClient,
    pub comparisons: Comparisons,
    /// None but in tests.
    pub holds: Holds,
    /// Ends every task of the agent; guests go on.
    pub shutdown: CancellationToken,
}

impl Context {
    pub fn host(&self) -> &HostName {
        &self.config.name
    }

    /// This host on the migration network.
    pub fn data_address(&self) -> SocketAddr {
        self.config.data_listen
    }

    /// For connections to other agents' data listeners; they leave by the migration network.
    pub fn data_connector(&self) -> Connector {
        Connector {
            identity: self.identity.clone(),
            ca: self.ca.clone(),
            protocol: Protocol::Data,
            options: TcpOptions { local: Some(self.config.data_listen.ip()), bbr: false },
        }
    }

    /// Hands a file of the agent to the user as which QEMU runs.
    pub fn give_to_qemu(&self, path: &Path) -> io::Result<()> {
        self.paths.give_to_qemu(path)
    }
}
