//! An agent of its own for tests of migrations: real disks and QEMUs, certificates of its own CA, and nobody at the other end.

use std::sync::Arc;

use uuid::Uuid;
use whimbrel_api::{
    agent::{Desired, InstanceAsk, MoveOptions, ReceiveAsk, SendAsk},
    client::ControllerClient,
};
use whimbrel_core::{
    disk::{DiskFormat, Storage},
    id::{Epoch, MigrationId},
    instance::InstanceSpec,
};
use whimbrel_daemon::{
    clock::Timestamp,
    pki::{Authority, Identity, Names, PeerIdentity, Role},
    tls::{self, Expect, Protocol},
};

use super::{comparisons::Comparisons, journal::Journal};
use crate::{
    context::Context,
    hold::Holds,
    instances::{Instance, Instances},
    trial::{Trial, blank_disk, small_spec},
};

pub const HERE: &str = "h1";
pub const THERE: &str = "h2";
pub const MIGRATION: MigrationId = MigrationId(Uuid::from_u128(7));
const CREDENTIAL: &str = "secret";

pub struct Ground {
    pub trial: Trial,
    pub authority: Authority,
    pub context: Arc<Context>,
}

impl Ground {
    pub async fn new(trial: Trial) -> Self {
        let authority = Authority::open(&trial.dir.path().join("ca"), Timestamp::now()).unwrap();
        let identity = identity(&authority, HERE);
        let ca = authority.certificate().clone();
        let config = format!(
            "name = '{HERE}'\ncontrol_listen = '127.0.0.1:0'\ndata_listen = '127.0.0.1:0'\n\
             controller_url = 'https://127.0.0.1:1'"
        );
        let config: crate::config::AgentConfig = toml::from_str(&config).unwrap();
        let http = tls::client_config(&identity, &ca, Expect::Any(Role::Controller), Protocol::Http).unwrap();
        let controller = ControllerClient::from_tls(&config.controller_url, http).unwrap();
        let (paths, hypervisor, images) = (trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone());
        let instances = Instances::load(paths.clone(), hypervisor.clone(), images.clone()).await.unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let context = Context {
            comparisons: Comparisons::default(),
            holds: Holds::of(paths.state_dir()),
            config,
            paths,
            hypervisor,
            instances,
            images,
            identity,
            ca,
            controller,
            shutdown,
        };
        Ground { trial, authority, context: Arc::new(context) }
    }

    /// A guest with two disks that runs and is claimed by the migration.
    pub async fn guest(&self) -> Arc<Instance> {
        let spec = spec();
        let ask = InstanceAsk {
            spec: spec.clone(),
            epoch: Epoch(1),
            desired: Desired::Running,
            reboot: None,
            taken_from: None,
        };
        self.context.instances.ensure(ask).await.unwrap();
        self.context.instances.claim(spec.id, MIGRATION).await.unwrap();
        self.context.instances.get(spec.id).unwrap()
    }

    /// A journal whose directory is not there until the test makes it.
    pub fn journal_away(&self) -> (Journal, std::path::PathBuf) {
        let dir = self.trial.dir.path().join("away");
        (Journal::new(&dir), dir)
    }

    pub fn identity_there(&self) -> Arc<Identity> {
        identity(&self.authority, THERE)
    }
}

fn identity(authority: &Authority, host: &str) -> Arc<Identity> {
    let identity = PeerIdentity::agent(host.parse().unwrap());
    Identity::new(&authority.issue(&identity, &Names::default(), Timestamp::now()).unwrap()).unwrap()
}

pub fn spec() -> InstanceSpec {
    let disks = vec![blank_disk("root", DiskFormat::Qcow2), blank_disk("data", DiskFormat::Raw)];
    InstanceSpec { disks, ..small_spec() }
}

pub fn send_ask(instance: &Instance) -> SendAsk {
    SendAsk {
        migration: MIGRATION,
        instance: instance.id(),
        epoch: Epoch(2),
        target: THERE.parse().unwrap(),
        // Nobody listens there.
        target_address: "127.0.0.1:1".to_owned(),
        credential: CREDENTIAL.to_owned(),
        options: MoveOptions { verify: false, ..MoveOptions::default() },
        storage: Storage::Local,
    }
}

pub fn receive_ask() -> ReceiveAsk {
    let (source, credential) = (HERE.parse().unwrap(), CREDENTIAL.to_owned());
    ReceiveAsk { migration: MIGRATION, spec: spec(), epoch: Epoch(2), source, credential, storage: Storage::Local }
}
