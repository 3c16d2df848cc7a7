//! Three controllers, each a process of the real binary, on one PostgreSQL: they serve the same, and what one was doing when it was
//! killed is done by another. Guests are only told of.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whimbrel_api::{
    agent::Verification,
    client::ControllerClient,
    native::{
        HostState, MigrationStatus, NewFlavor, NewImage, NewJoinToken, NewMigration, NewServer, Server, ServerStatus,
    },
};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{Epoch, InstanceId},
    lease::Work,
    migration::source,
};
use whimbrel_daemon::pki::CaCert;
use whimbrel_store::Store;

use crate::{
    fake_agent::FakeAgent,
    moves::receipt,
    place::{join_at, name, until},
    postgres::Postgres,
};

const CONTROLLERS: usize = 3;
const HOSTS: [&str; 2] = ["h1", "h2"];

struct Fleet {
    dir: TempDir,
    postgres: Postgres,
    running: Vec<Option<Child>>,
    urls: Vec<String>,
    clients: Vec<ControllerClient>,
    /// To see who holds what; it writes nothing.
    store: Store,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for number in 0..CONTROLLERS {
            self.kill(number);
        }
    }
}

/// `WHIMBREL_BIN`, or what was built beside this test.
fn binary() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("whimbrel");
    let path = std::env::var_os("WHIMBREL_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "there is no {}: run `./x build`", path.display());
    path
}

fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn spawn(dir: &Path, number: usize, listen: &str, database: &str) -> Child {
    let config = dir.join(format!("c{number}.toml"));
    let text = format!(
        "name = 'c{number}'\nlisten = '{listen}'\nstate_dir = '{}'\nshared_dir = '{}'\ndatabase_url = '{database}'\n",
        dir.join(format!("c{number}")).display(),
        dir.join("shared").display(),
    );
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(dir.join(format!("c{number}.log"))).unwrap();
    let mut command = Command::new(binary());
    command.args(["controller", "--config"]).arg(&config).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Fleet {
    async fn new() -> Self {
        let postgres = Postgres::start();
        let database = postgres.database("fleet");
        let dir = tempfile::tempdir().unwrap();
        let addresses: Vec<String> = (0..CONTROLLERS).map(|_| address()).collect();
        // All at once, on an empty database.
        let running = (0..CONTROLLERS).map(|number| Some(spawn(dir.path(), number, &addresses[number], &database)));
        let running: Vec<_> = running.collect();
        let urls: Vec<String> = addresses.iter().map(|address| format!("https://{address}")).collect();
        let mut clients = Vec::new();
        for url in &urls {
            clients.push(until(&format!("{url} to answer"), async || client(dir.path(), url).await).await);
        }
        let store = Store::open(&database).await.unwrap();
        Fleet { dir, postgres, running, urls, clients, store }
    }

    /// As `kill -9` does it.
    fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.running[number].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    async fn start_again(&mut self, number: usize) {
        let database = self.postgres.url("fleet");
        let listen = self.urls[number].strip_prefix("https://").unwrap();
        self.running[number] = Some(spawn(self.dir.path(), number, listen, &database));
        let (dir, url) = (self.dir.path(), &self.urls[number]);
        until("it to answer again", async || client(dir, url).await).await;
    }

    /// A controller that is still there.
    fn any(&self) -> &ControllerClient {
        let alive = (0..CONTROLLERS).find(|number| self.running[*number].is_some()).unwrap();
        &self.clients[alive]
    }

    async fn host(&self, host: &str) -> Arc<FakeAgent> {
        let token = self.any().create_join_token(&NewJoinToken { host: name(host) }).await.unwrap();
        // Another one than that which made the token.
        let both = join_at(&self.urls[1], &token.token.parse().unwrap(), host).await.unwrap();
        let ca = CaCert::load(&self.dir.path().join("shared/ca.crt")).unwrap();
        FakeAgent::start(&name(host), &self.urls, &ca, &both, CancellationToken::new()).await
    }

    async fn holder(&self, server: InstanceId) -> Option<usize> {
        let leases = self.store.leases().await.unwrap();
        let lease = leases.into_iter().find(|lease| lease.work == Work::of(server)).unwrap();
        let now_us = self.store.now_us().await.unwrap();
        let holder = lease.holder.filter(|_| lease.ends_us > now_us)?;
        holder.name.strip_prefix('c')?.parse().ok()
    }

    /// All work is held, and nobody has more than a share.
    async fn shared_out(&self) {
        until("the work to be shared", async || {
            let leases = self.store.leases().await.unwrap();
            let of = |number: usize| {
                let is = |holder: &whimbrel_core::lease::Holder| holder.name == format!("c{number}");
                leases.iter().filter(|lease| lease.holder.as_ref().is_some_and(is)).count()
            };
            let counts: Vec<usize> = (0..CONTROLLERS).map(of).collect();
            (counts.iter().sum::<usize>() == leases.len() && counts.iter().all(|count| *count <= 6)).then_some(())
        })
        .await;
    }

    async fn create(&self, at: usize, server: &str) -> InstanceId {
        let new = NewServer {
            name: server.to_owned(),
            flavor: "small".to_owned(),
            image: "debian".to_owned(),
            host: Some("h1".to_owned()),
            networks: vec!["br0".to_owned()],
            os_command_line: None,
            iothreads: false,
            machine: None,
            config_drive: false,
            user_data: None,
        };
        self.clients[at].create_server(&new).await.unwrap().id
    }

    async fn is(&self, server: &str, status: ServerStatus) -> Server {
        until(&format!("server {server} to be {status:?}"), async || {
            self.any().server(server).await.ok().filter(|server| server.status == status)
        })
        .await
    }
}

async fn client(dir: &Path, url: &str) -> Option<ControllerClient> {
    let ca = std::fs::read_to_string(dir.join("shared/ca.crt")).ok()?;
    let token = std::fs::read_to_string(dir.join("shared/admin.token")).ok()?;
    let client = ControllerClient::new(url, &ca, token.trim()).ok()?;
    // It answers, and knows the token that one of them made.
    client.hosts().await.ok().map(|_| client)
}

async fn prepared() -> (Fleet, Arc<FakeAgent>, Arc<FakeAgent>) {
    let fleet = Fleet::new().await;
    let (h1, h2) = tokio::join!(fleet.host(HOSTS[0]), fleet.host(HOSTS[1]));
    let file = fleet.dir.path().join("upload");
    std::fs::write(&file, [0; 4096]).unwrap();
    let image = NewImage { name: "debian".to_owned(), os_command_line: None, disk: None, kernel: None, ramdisk: None };
    fleet.clients[0].create_image(&image).await.unwrap();
    fleet.clients[1].upload_image("debian", whimbrel_api::native::ImagePart::Disk, &file).await.unwrap();
    let flavor = NewFlavor {
        name: "small".to_owned(),
        flavorid: None,
        vcpus: 1,
        ram_mb: 256,
        disk_gb: 1,
        ephemeral_gb: 1,
        swap_mb: 64,
    };
    fleet.clients[2].create_flavor(&flavor).await.unwrap();
    for client in &fleet.clients {
        for host in HOSTS {
            until("hosts up at every controller", async || {
                client.host(host).await.ok().filter(|host| host.state == HostState::Up)
            })
            .await;
        }
    }
    fleet.shared_out().await;
    (fleet, h1, h2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_goes_on_when_its_controller_is_killed() {
    let (mut fleet, h1, h2) = prepared().await;
    let id = fleet.create(0, "s1").await;
    for client in &fleet.clients {
        until("the server at every controller", async || {
            client.server("s1").await.ok().filter(|server| server.status == ServerStatus::Active)
        })
        .await;
    }
    let driver = fleet.holder(id).await.unwrap();
    let asked = (driver + 1) % CONTROLLERS;
    let to = NewMigration { host: Some("h2".to_owned()), ..NewMigration::default() };
    let begun = fleet.clients[asked].migrate("s1", &to).await.unwrap();
    until("the source to be asked", async || h1.told().sends.first().cloned()).await;
    fleet.kill(driver);
    h1.source_is(begun.id, source::Phase::Committed);
    let after =
        until("another one to hold the work", async || fleet.holder(id).await.filter(|holder| *holder != driver)).await;
    until("COMMIT to be carried to the target", async || (!h2.told().relays.is_empty()).then_some(())).await;
    h2.owns(begun.id);
    h1.handed_over(begun.id, receipt(&begun, true), Verification::Equal);
    let ended = until("the move to end", async || {
        let migration = fleet.clients[after].migration(begun.id).await.ok()?;
        assert!(!migration.status.is_end() || migration.status == MigrationStatus::Completed, "{migration:?}");
        migration.status.is_end().then_some(migration)
    })
    .await;
    assert_eq!(ended.guest_at, Some(name("h2")));
    let moved = fleet.is("s1", ServerStatus::Active).await;
    assert_eq!((moved.host, moved.epoch), (Some(name("h2")), Epoch(2)));

    // It comes back, takes its share again, and tells the same.
    fleet.start_again(driver).await;
    fleet.shared_out().await;
    assert_eq!(fleet.clients[driver].migration(begun.id).await.unwrap().status, MigrationStatus::Completed);
    assert_eq!(fleet.clients[driver].hosts().await.unwrap().len(), HOSTS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_controller_was_making_or_deleting_is_made_and_deleted() {
    let (mut fleet, h1, _h2) = prepared().await;
    // Hosts that do not let it come to an end.
    let later = Failure::new(FailureCode::HostDown, "not now");
    h1.told().refuse_instances = Some(later.clone());
    let id = fleet.create(1, "s1").await;
    until("the host to be asked", async || (h1.told().asked > 0).then_some(())).await;
    let driver = fleet.holder(id).await.unwrap();
    fleet.kill(driver);
    h1.told().refuse_instances = None;
    let server = fleet.is("s1", ServerStatus::Active).await;
    assert_eq!((server.host, server.epoch), (Some(name("h1")), Epoch(1)));
    assert_eq!(h1.told().guests.len(), 1, "it was made twice");
    fleet.start_again(driver).await;
    fleet.shared_out().await;

    let asked = h1.told().asked;
    h1.told().refuse_deletes = Some(later);
    fleet.any().delete_server("s1").await.unwrap();
    until("the host to be asked", async || (h1.told().asked > asked).then_some(())).await;
    let driver = fleet.holder(id).await.unwrap();
    fleet.kill(driver);
    h1.told().refuse_deletes = None;
    until("the server to be gone", async || {
        matches!(fleet.any().server("s1").await, Err(failure) if failure.code == FailureCode::NotFound).then_some(())
    })
    .await;
    assert!(h1.told().guests.is_empty(), "its guest was left behind");
    let host = fleet.any().host("h1").await.unwrap();
    assert_eq!(host.servers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_controllers_that_race_for_a_server_one_wins() {
    let (fleet, h1, _h2) = prepared().await;
    fleet.create(0, "s1").await;
    fleet.is("s1", ServerStatus::Active).await;
    let to = NewMigration { host: Some("h2".to_owned()), ..NewMigration::default() };
    let (one, other, third) = tokio::join!(
        fleet.clients[0].migrate("s1", &to),
        fleet.clients[1].migrate("s1", &to),
        fleet.clients[2].stop_server("s1"),
    );
    let begun = [one.is_ok(), other.is_ok(), third.is_ok()];
    assert_eq!(begun.iter().filter(|won| **won).count(), 1, "{begun:?}");
    for lost in [one.err(), other.err(), third.err()].into_iter().flatten() {
        assert_eq!(lost.code, FailureCode::Conflict, "{lost}");
    }
    if begun[2] {
        fleet.is("s1", ServerStatus::Stopped).await;
        assert!(h1.told().sends.is_empty());
    } else {
        until("the source to be asked", async || h1.told().sends.first().cloned()).await;
        assert_eq!(fleet.any().server("s1").await.unwrap().status, ServerStatus::Migrating);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_a_directory_of_its_own_does_not_start() {
    let fleet = Fleet::new().await;
    let alone = tempfile::tempdir().unwrap();
    let database = fleet.postgres.url("fleet");
    let mut child = spawn(alone.path(), 9, &address(), &database);
    let status = until("it to end", async || child.try_wait().unwrap()).await;
    assert!(!status.success());
    let log = std::fs::read_to_string(alone.path().join("c9.log")).unwrap();
    assert!(log.contains("shared_dir") && log.contains("is missing"), "{log}");
    assert!(!alone.path().join("shared/ca.key").exists(), "it made a CA of its own");
    // Two that go by one name: the earlier one makes way.
    let again = spawn(fleet.dir.path(), 0, &address(), &database);
    let mut fleet = fleet;
    let mut before = fleet.running[0].replace(again).unwrap();
    until("the earlier one to end", async || before.try_wait().unwrap()).await;
    let log = std::fs::read_to_string(fleet.dir.path().join("c0.log")).unwrap();
    assert!(log.contains("was started a second time"), "{log}");
    tokio::time::timeout(Duration::from_secs(30), fleet.shared_out()).await.unwrap();
}
