//! What every test of the road begins with: a lab of its own that goes with the test.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use whimbrel_lab::{
    Lab, LabOptions,
    lab::{Place, Site},
    wait,
};

const ACTIVE_TIME_MAX: Duration = Duration::from_secs(30);
static TURN: Mutex<()> = Mutex::new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// One test at a time, however many threads the test runner has. A test that failed does not keep the others from running.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
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
