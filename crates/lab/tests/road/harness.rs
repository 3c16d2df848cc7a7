//! What every test of the road begins with: a lab of its own that goes with the test.

use std::{
    fs::File,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use whimbrel_lab::{
    Lab, LabOptions,
    lab::{Place, Site},
    wait,
};

const ACTIVE_TIME_MAX: Duration = Duration::from_secs(30);
const TURN_FILE: &str = "turn";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The machine is this test's until it drops.
#[must_use]
pub struct Turn(#[expect(dead_code, reason = "held, never read")] Flock<File>);

/// One test at a time, however many threads the test runner has and however many runners the machine. The kernel gives the
/// turn on when a test fails or is killed.
pub fn turn() -> Turn {
    std::fs::create_dir_all(base()).unwrap();
    let file = File::options().create(true).append(true).open(base().join(TURN_FILE)).unwrap();
    Turn(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap())
}

pub fn base() -> PathBuf {
    std::env::var_os("WHIMBREL_LAB_DIR").map_or_else(|| whimbrel_lab::lab::BASE_DEFAULT.into(), PathBuf::from)
}

/// A lab with `hosts` hosts and agents and the guest's image.
pub fn options(hosts: u8) -> LabOptions {
    let options = LabOptions::transient(&base(), "test", hosts).unwrap();
    // More than one lab in one test must not share a place.
    let name = format!("{}-{}", options.place.name, NEXT.fetch_add(1, Ordering::Relaxed));
    LabOptions { place: Place::new(&base(), &name).unwrap(), ..options }
}

/// Hosts that are only places in the network: quick, and without any daemon.
pub fn bare(hosts: u8) -> LabOptions {
    let mut options = options(hosts);
    options.image = false;
    for host in &mut options.hosts {
        host.agent = false;
    }
    options
}

pub async fn up(options: LabOptions) -> Lab {
    Lab::up(options).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Names of all namespaces, links and folders that could be a lab's.
pub fn traces(site: &Site) -> Vec<String> {
    let namespaces = site.hosts.iter().map(|host| host.namespace.clone()).chain([site.fabric.clone()]);
    let namespaces = namespaces.map(|name| format!("/run/netns/{name}"));
    let link = format!("/sys/class/net/{}", site.root_link);
    let files = [site.dir.clone(), site.run_dir.clone(), site.dir.with_extension("json")];
    let all = namespaces.chain([link]).chain(files.map(|path| path.display().to_string()));
    all.filter(|path| std::path::Path::new(path).exists()).collect()
}

/// Waits until the controller says that the server is active on that host.
pub async fn guest_runs_at(lab: &Lab, server: &str, host: &str) {
    let there = async || {
        let shown = lab.cli(&["server", "show", server, "--json"]).await?.expect_json()?;
        Ok((shown["status"] == "active" && shown["host"] == host).then_some(()))
    };
    let waited = wait::until_async(&format!("server '{server}' active on host '{host}'"), ACTIVE_TIME_MAX, there).await;
    waited.unwrap_or_else(|error| panic!("{error:#}"));
}
