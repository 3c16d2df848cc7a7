//! An agent of its own, with its real listeners and a real storage daemon, and a CA that the test holds.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use whimbrel_agent::{AgentConfig, paths::Paths};
use whimbrel_api::{
    agent::{MigrationReport, ReceiveAsk},
    client::{AgentClient, http_client},
};
use whimbrel_core::{
    disk::{DiskFormat, DiskSpec, Storage},
    id::{Epoch, InstanceId, MigrationId},
    instance::{Boot, InstanceSpec},
};
use whimbrel_daemon::{
    clock::Timestamp,
    config,
    pki::{Authority, Identity, KeyAndChain, Names, PeerIdentity, Role},
    tls::{self, Expect, Protocol},
};

/// Far more than any step here takes; only a hang reaches it.
pub const TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Its storage daemon is that of the older QEMU: what comes in is read before it.
const QEMU_VARIABLE: &str = "WHIMBREL_QEMU_72";
pub const NAME: &str = "h2";
pub const SOURCE: &str = "h1";
pub const CREDENTIAL: &str = "0123456789abcdef";
pub const DISK_BYTES: u64 = 16 << 20;
pub const OWNED_BY_SOURCE: Epoch = Epoch(1);

pub struct Ca {
    pub authority: Authority,
    _dir: TempDir,
}

impl Ca {
    pub fn new() -> Ca {
        let dir = tempfile::tempdir().unwrap();
        Ca { authority: Authority::open(dir.path(), Timestamp::now()).unwrap(), _dir: dir }
    }

    fn issue(&self, role: Role, name: &str, at: Timestamp) -> KeyAndChain {
        let who = PeerIdentity { role, name: name.parse().unwrap() };
        self.authority.issue(&who, &Names::default(), at).unwrap()
    }

    pub fn identity(&self, role: Role, name: &str) -> Arc<Identity> {
        self.identity_made(role, name, Timestamp::now())
    }

    pub fn identity_made(&self, role: Role, name: &str, at: Timestamp) -> Arc<Identity> {
        Identity::new(&self.issue(role, name, at)).unwrap()
    }
}

pub struct Agent {
    pub ca: Ca,
    pub data: SocketAddr,
    pub client: AgentClient,
    pub spec: InstanceSpec,
    dir: TempDir,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Agent {
    pub async fn start() -> Agent {
        log();
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let (state, run) = (dir.path().join("s"), dir.path().join("r"));
        let (control, data) = (free(), free());
        // It joined long ago, and its controller is away.
        let paths = Paths::new(&state, &run, None).unwrap();
        paths.make().unwrap();
        ca.issue(Role::Agent, NAME, Timestamp::now()).save(&paths.identity()).unwrap();
        ca.authority.certificate().save(&paths.ca()).unwrap();
        let qemu = std::env::var(QEMU_VARIABLE).expect("QEMU's folder: run `eval \"$(./x env)\"`");
        let text = format!(
            "name = '{NAME}'\nstate_dir = '{}'\nrun_dir = '{}'\ncontrol_listen = '{control}'\ndata_listen = '{data}'\n\
             controller_url = 'https://{}'\nqemu_dir = '{qemu}'\naccel = 'tcg'\n",
            state.display(),
            run.display(),
            free()
        );
        let config: AgentConfig = config::parse(&dir.path().join("agent.toml"), &text).unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(whimbrel_agent::start::run_until(config, shutdown.clone()));
        let expect = Expect::Exactly(PeerIdentity { role: Role::Agent, name: NAME.parse().unwrap() });
        let controller = ca.identity(Role::Controller, "c1");
        let tls = tls::client_config(&controller, ca.authority.certificate(), expect, Protocol::Http).unwrap();
        let http = http_client(tls).unwrap();
        let client = AgentClient::new(&format!("https://{control}"), &NAME.parse().unwrap(), http).unwrap();
        let agent = Agent { ca, data, client, spec: spec(), dir, shutdown, served };
        agent.until("the agent's answer", async || agent.client.instances().await.is_ok()).await;
        agent
    }

    /// It must have lived until now, and ends in order.
    pub async fn stop(self) {
        assert!(!self.served.is_finished(), "the agent ended by itself");
        self.shutdown.cancel();
        tokio::time::timeout(TIME_MAX, self.served).await.unwrap().unwrap().unwrap();
    }

    /// Waits until it is so.
    pub async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !so().await {
            assert!(began.elapsed() < TIME_MAX, "{what}: not so in time: {}", log());
            assert!(!self.served.is_finished(), "{what}: the agent ended");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The controller announces a migration.
    pub async fn prepare(&self) -> MigrationReport {
        let ask = ReceiveAsk {
            migration: MigrationId(Uuid::now_v7()),
            spec: self.spec.clone(),
            epoch: OWNED_BY_SOURCE.next(),
            source: SOURCE.parse().unwrap(),
            credential: CREDENTIAL.to_owned(),
            storage: Storage::Local,
        };
        self.client.receive(&ask).await.unwrap()
    }

    /// What the migrations here hold: files that come in, and processes' sockets and records.
    pub fn held(&self) -> Vec<PathBuf> {
        let dirs = ["s/incoming", "r"].map(|name| self.dir.path().join(name));
        let mut held: Vec<_> =
            dirs.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path()).collect();
        held.sort();
        held
    }
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn spec() -> InstanceSpec {
    let disk = DiskSpec {
        name: "root".parse().unwrap(),
        format: DiskFormat::Qcow2,
        virtual_bytes: DISK_BYTES,
        base: None,
        read_only: false,
    };
    InstanceSpec {
        id: InstanceId(Uuid::now_v7()),
        name: "trial".into(),
        vcpus: 1,
        ram_mb: 32,
        machine: "pc-q35-7.2".into(),
        cpu_model: "qemu64".into(),
        disks: vec![disk],
        nics: Vec::new(),
        boot: Boot::Disk,
        iothreads: false,
    }
}

/// What the agents of this process have logged so far.
pub fn log() -> String {
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
        log
    });
    String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
