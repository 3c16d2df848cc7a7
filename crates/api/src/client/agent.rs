//! Client of an agent's API, for the controller; see the table in [`crate::agent`].

use std::time::Duration;

use reqwest::Method;
use whimbrel_core::{
    failure::Failure,
    host::HostFacts,
    id::{HostName, InstanceId, MigrationId},
    lease::{Fence, Work},
};

use super::transport::{CALL_TIME_MAX, Transport};
use crate::agent::{
    ConsoleOutput, GiveUp, InstanceAsk, InstanceReport, MigrationReport, MoveFacts, ReceiveAsk, Relay, RetainedReport,
    SendAsk,
};

/// The first ask of an instance may have to fetch its base image; the agent answers when the instance is as asked.
const INSTANCE_TIME_MAX: Duration = Duration::from_secs(600);
/// Reports and facts come from memory, or from a QEMU that answers.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
const NO_BODY: Option<&()> = None;

/// Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct AgentClient {
    transport: Transport,
}

impl AgentClient {
    /// `http` comes from [`super::http_client`] over a TLS config that holds the controller's certificate and expects `host`.
    pub fn new(control_url: &str, host: &HostName, http: reqwest::Client) -> Result<Self, Failure> {
        let hint =
            format!("is `whimbrel agent` running on host '{host}', and is the network between controller and host up?");
        let transport = Transport::new(http, control_url, format!("the agent of host '{host}'"), hint)?;
        Ok(AgentClient { transport })
    }

    /// As the holder of that work: an agent that a later holder has asked refuses this one.
    pub fn under(self, work: Work, fence: Fence) -> Self {
        AgentClient { transport: self.transport.with_fence(work, fence) }
    }

    pub fn url(&self) -> &str {
        self.transport.url()
    }

    pub async fn facts(&self) -> Result<HostFacts, Failure> {
        self.look("/v1/facts").await
    }

    pub async fn put_instance(&self, ask: &InstanceAsk) -> Result<InstanceReport, Failure> {
        let path = format!("/v1/instances/{}", ask.spec.id);
        self.transport.call(Method::PUT, &path, Some(ask), INSTANCE_TIME_MAX).await
    }

    pub async fn instances(&self) -> Result<Vec<InstanceReport>, Failure> {
        self.look("/v1/instances").await
    }

    pub async fn instance(&self, id: InstanceId) -> Result<InstanceReport, Failure> {
        self.look(&format!("/v1/instances/{id}")).await
    }

    /// The last `lines` of its console, or all that is kept.
    pub async fn console(&self, id: InstanceId, lines: Option<u32>) -> Result<ConsoleOutput, Failure> {
        let query = lines.map(|lines| format!("?lines={lines}")).unwrap_or_default();
        self.look(&format!("/v1/instances/{id}/console{query}")).await
    }

    pub async fn delete_instance(&self, id: InstanceId) -> Result<(), Failure> {
        self.transport.delete(&format!("/v1/instances/{id}")).await
    }

    pub async fn move_facts(&self, id: InstanceId) -> Result<MoveFacts, Failure> {
        self.look(&format!("/v1/instances/{id}/move-facts")).await
    }

    pub async fn retained(&self, id: InstanceId) -> Result<RetainedReport, Failure> {
        self.look(&format!("/v1/retained/{id}")).await
    }

    pub async fn receive(&self, ask: &ReceiveAsk) -> Result<MigrationReport, Failure> {
        let path = format!("/v1/migrations/{}/receive", ask.migration);
        self.transport.call(Method::PUT, &path, Some(ask), CALL_TIME_MAX).await
    }

    pub async fn send(&self, ask: &SendAsk) -> Result<MigrationReport, Failure> {
        let path = format!("/v1/migrations/{}/send", ask.migration);
        self.transport.call(Method::PUT, &path, Some(ask), CALL_TIME_MAX).await
    }

    /// Asked of the source.
    pub async fn cancel(&self, id: MigrationId, give_up: &GiveUp) -> Result<MigrationReport, Failure> {
        let path = format!("/v1/migrations/{id}/cancel");
        self.transport.post(&path, Some(give_up)).await
    }

    /// Asked of the target.
    pub async fn discard(&self, id: MigrationId, give_up: &GiveUp) -> Result<MigrationReport, Failure> {
        let path = format!("/v1/migrations/{id}/discard");
        self.transport.post(&path, Some(give_up)).await
    }

    /// Asked of the source: the end now, with whatever pause that takes.
    pub async fn force(&self, id: MigrationId) -> Result<MigrationReport, Failure> {
        self.transport.post(&format!("/v1/migrations/{id}/force"), NO_BODY).await
    }

    pub async fn relay(&self, id: MigrationId, relay: &Relay) -> Result<MigrationReport, Failure> {
        let path = format!("/v1/migrations/{id}/relay");
        self.transport.post(&path, Some(relay)).await
    }

    /// `NotFound` if it never heard of it.
    pub async fn migration(&self, id: MigrationId) -> Result<MigrationReport, Failure> {
        self.look(&format!("/v1/migrations/{id}")).await
    }

    async fn look<A: serde::de::DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        self.transport.call(Method::GET, path, NO_BODY, LOOK_TIME_MAX).await
    }
}
