//! A thousand hosts that are only told of: each joins with a certificate of its own and says every second what runs on it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{task::JoinSet, time};
use whimbrel_api::{
    agent::{HEARTBEAT_MS, Heartbeat, InstanceReport},
    client::ControllerClient,
    host::{CpuInfo, HostFacts},
    id::{Epoch, HostName, InstanceId},
    instance::PowerState,
    native::{HostState, Join, NewJoinToken},
};

use super::{calls::trusting, cloud::Cloud, filling::Server};
use crate::wait;

const JOINS_AT_ONCE: usize = 16;
const UP_TIME_MAX: Duration = Duration::from_secs(120);
const VCPUS: u32 = 64;
const MEMORY_MB: u64 = 512 << 10;
const DISK_BYTES: u64 = 8 << 40;

pub(super) struct Crowd {
    names: Vec<HostName>,
    clients: Vec<ControllerClient>,
    told: HashMap<HostName, Vec<InstanceReport>>,
    beats: Arc<AtomicU64>,
    hosts: JoinSet<()>,
}

impl Crowd {
    pub(super) async fn join(cloud: &Cloud, hosts: usize) -> Result<Crowd> {
        let names = (0..hosts).map(|number| format!("h{number:04}").parse()).collect::<Result<Vec<HostName>, _>>()?;
        let mut clients = Vec::with_capacity(hosts);
        for some in names.chunks(JOINS_AT_ONCE) {
            let joining = some.iter().map(|name| {
                let (client, name) = (cloud.client.clone(), name.clone());
                let (url, ca_pem) = (cloud.url.clone(), cloud.ca_pem.clone());
                tokio::spawn(async move { join(&client, &url, &ca_pem, &name).await })
            });
            for one in joining.collect::<Vec<_>>() {
                clients.push(one.await??);
            }
        }
        Ok(Crowd { names, clients, told: HashMap::new(), beats: Arc::default(), hosts: JoinSet::new() })
    }

    pub(super) fn names(&self) -> &[HostName] {
        &self.names
    }

    pub(super) fn tell_of(&mut self, servers: &[Server]) {
        for server in servers {
            self.told.entry(server.host.clone()).or_default().push(InstanceReport {
                id: InstanceId(server.id),
                name: server.name.clone(),
                owned_epoch: Some(Epoch(1)),
                power: PowerState::Running,
                migration: None,
                failure: None,
                write_bps: 1_000_000,
                qemu_version: Some("7.2.22".to_owned()),
                qemu_pid: Some(4711),
            });
        }
    }

    /// Spread over a heartbeat's time, as hosts that were not started at once are.
    pub(super) fn begin(&mut self) {
        let every = Duration::from_millis(HEARTBEAT_MS);
        for (number, (name, client)) in self.names.iter().zip(&self.clients).enumerate() {
            let after = every * u32::try_from(number).unwrap_or(0) / u32::try_from(self.names.len()).unwrap_or(1);
            let (client, beats) = (client.clone(), self.beats.clone());
            let instances = self.told.remove(name).unwrap_or_default();
            let mut heartbeat =
                Heartbeat { facts: facts(name), control_url: "https://127.0.0.1:9".to_owned(), instances };
            self.hosts.spawn(async move {
                let mut ticks = time::interval_at(time::Instant::now() + after, every);
                ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
                for beat in 0_u64.. {
                    ticks.tick().await;
                    change(&mut heartbeat, beat);
                    if client.heartbeat(&heartbeat.facts.name, &heartbeat).await.is_ok() {
                        beats.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }

    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    pub(super) async fn all_up(&self, cloud: &Cloud) -> Result<()> {
        let up = async || {
            let hosts = cloud.client.hosts().await?;
            let up = hosts.iter().filter(|host| host.state == HostState::Up).count();
            Ok((up == self.names.len()).then_some(()))
        };
        wait::until_async("all hosts up", UP_TIME_MAX, up).await
    }

    /// They are still up: nobody was lost meanwhile.
    pub(super) async fn end(mut self, cloud: &Cloud) -> Result<()> {
        let hosts = cloud.client.hosts().await?;
        self.hosts.abort_all();
        let down = hosts.iter().filter(|host| host.state == HostState::Down).count();
        ensure!(down == 0, "{down} hosts counted as down at the end: the controller did not keep up");
        Ok(())
    }
}

async fn join(client: &ControllerClient, url: &str, ca_pem: &str, name: &HostName) -> Result<ControllerClient> {
    let token = client.create_join_token(&NewJoinToken { host: name.clone() }).await?.token;
    // whimbrel-join:<CA fingerprint>:<secret>
    let secret = token.rsplit(':').next().context("a join token without a secret")?.to_owned();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr_pem = CertificateParams::default().serialize_request(&key)?.pem()?;
    let joined = client.join(&Join { secret, host: name.clone(), csr_pem }).await?;
    let chain = CertificateDer::pem_slice_iter(joined.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let tls = trusting(ca_pem)?.with_client_auth_cert(chain, key)?;
    Ok(ControllerClient::from_tls(url, tls)?)
}

/// What is another one each time on a real host.
fn change(heartbeat: &mut Heartbeat, beat: u64) {
    heartbeat.facts.disk_free_bytes = DISK_BYTES / 2 - (beat << 20);
    heartbeat.facts.memory_mb_used = MEMORY_MB / 2 + beat % 100;
}

fn facts(name: &HostName) -> HostFacts {
    HostFacts {
        name: name.clone(),
        qemu_version: "7.2.22".to_owned(),
        machines: (0..40).map(|number| format!("pc-q35-{}.{}", number / 10, number % 10)).collect(),
        cpu_models: (0..80).map(|number| format!("Model-{number}-v1")).collect(),
        accel: "kvm".to_owned(),
        vcpus: VCPUS,
        memory_mb: MEMORY_MB,
        memory_mb_used: MEMORY_MB / 2,
        reserved_memory_mb: 512,
        ram_allocation_ratio: 1.0,
        disk_total_bytes: DISK_BYTES,
        disk_free_bytes: DISK_BYTES / 2,
        disk_committed_bytes: DISK_BYTES / 2,
        bridges: vec!["br0".to_owned()],
        images: Vec::new(),
        migration_address: "192.0.2.1:8772".to_owned(),
        iothreads_safe: false,
        link_bps: Some(10_000_000_000),
        disk_bps: Some(1_000_000_000),
        cpu_info: Some(CpuInfo { vendor: "AMD".to_owned(), arch: "x86_64".to_owned(), ..CpuInfo::default() }),
        uptime: Some(" 12:00:00 up 1 day,  3:04,  2 users,  load average: 0.01, 0.05, 0.10".to_owned()),
    }
}
