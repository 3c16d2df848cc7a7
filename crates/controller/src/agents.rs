//! Clients of all agents, each over TLS that expects that host and no other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use whimbrel_api::client::{AgentClient, http_client};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::HostName,
};
use whimbrel_daemon::{
    pki::{CaCert, Identity, PeerIdentity},
    tls::{self, Expect, Protocol},
};
use whimbrel_store::HostRow;

#[derive(Debug)]
pub struct Agents {
    identity: Arc<Identity>,
    ca: CaCert,
    clients: Mutex<HashMap<HostName, AgentClient>>,
}

impl Agents {
    pub fn new(identity: Arc<Identity>, ca: CaCert) -> Self {
        Agents { identity, ca, clients: Mutex::new(HashMap::new()) }
    }

    /// The client for the address that the host told last.
    pub fn of(&self, host: &HostRow) -> Result<AgentClient, Failure> {
        let Some(url) = host.control_url.as_deref() else {
            let detail = format!("the agent of host '{}' has never reported", host.name);
            return Err(Failure::new(FailureCode::HostDown, detail).hint("start `whimbrel agent` on that host"));
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&host.name).filter(|client| client.url() == url.trim_end_matches('/')) {
            return Ok(client.clone());
        }
        let expect = Expect::Exactly(PeerIdentity::agent(host.name.clone()));
        let tls = tls::client_config(&self.identity, &self.ca, expect, Protocol::Http)
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()).hint(error.hint()))?;
        let client = AgentClient::new(url, &host.name, http_client(tls)?)?;
        clients.insert(host.name.clone(), client.clone());
        Ok(client)
    }
}
