//! Crashes of the lab itself: whatever was killed, and whenever, the next `down` or `up` finds all that is left.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use whimbrel_lab::{
    Lab, binary,
    lab::{Place, QemuKind, Site},
    process::{self, ProcessId},
    wait,
};

use crate::harness::{bare, base, options, traces, turn, up};

const COME_UP_TIME_MAX: Duration = Duration::from_secs(60);

fn processes(site: &Site) -> Vec<ProcessId> {
    let hosts = site.hosts.iter().map(|host| &host.namespace).chain([&site.fabric]);
    hosts.flat_map(|namespace| process::within(namespace).unwrap()).collect()
}

/// An owner that ended long ago.
fn nobody() -> ProcessId {
    ProcessId { pid: 1, start_ticks: u64::MAX }
}

#[tokio::test]
async fn the_next_lab_takes_down_one_whose_owner_is_gone() {
    let _turn = turn();
    let mut orphan = bare(2);
    orphan.owner = Some(nobody());
    let lab = up(orphan).await;
    let site = lab.site().clone();
    // Its own process does not count as the owner, so this leaves it as a crash would.
    drop(lab);
    assert_ne!(traces(&site), Vec::<String>::new());
    let next = up(bare(1)).await;
    assert_eq!(traces(&site), Vec::<String>::new());
    assert_ne!(traces(next.site()), Vec::<String>::new());
}

#[tokio::test]
async fn down_after_the_daemons_were_killed_leaves_nothing() {
    let _turn = turn();
    let mut options = options(2);
    options.image = false;
    let lab = up(options).await;
    let site = lab.site().clone();
    let running = processes(&site);
    assert!(running.len() >= 3, "controller and two agents: {running:?}");
    assert!(lab.qemus("h1", QemuKind::System).unwrap().is_empty());
    for process in &running {
        process.end().unwrap();
    }
    lab.down().unwrap();
    assert_eq!(traces(&site), Vec::<String>::new());
}

#[tokio::test]
async fn down_ends_the_daemons_that_run() {
    let _turn = turn();
    let mut options = options(1);
    options.image = false;
    let lab = up(options).await;
    let (site, running) = (lab.site().clone(), processes(lab.site()));
    assert!(running.len() >= 2, "{running:?}");
    lab.down().unwrap();
    assert_eq!(running.into_iter().filter(|process| process.alive()).collect::<Vec<_>>(), []);
    assert_eq!(traces(&site), Vec::<String>::new());
}

/// Kills `whimbrel lab up` while it works, at the moment at which the given level is reached.
fn killed_when(name: &str, reached: impl Fn(&Site) -> bool) {
    let place = Place::new(&base(), name).unwrap();
    let lab = |verb: &str| {
        let mut command = Command::new(binary::path().unwrap());
        command.args(["lab", verb, "--dir"]).arg(&place.base).args(["--name", name]).stdin(Stdio::null());
        command
    };
    let mut child = lab("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let site = || Lab::open(&place).ok().map(|lab| lab.site().clone());
    let level = || Ok(site().filter(|site| reached(site)));
    let site = wait::until("the level to be killed at", COME_UP_TIME_MAX, level).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(traces(&site), Vec::<String>::new());
    assert!(lab("down").stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(traces(&site), Vec::<String>::new());
    assert!(lab("down").stdout(Stdio::null()).status().unwrap().success(), "a second time is no error");
}

#[tokio::test]
async fn down_after_up_was_killed_leaves_nothing() {
    let _turn = turn();
    let exists = |name: &str| Path::new("/run/netns").join(name).exists();
    killed_when("test-killed-1", |site| exists(&site.fabric));
    killed_when("test-killed-2", |site| exists(&site.hosts[1].namespace));
    killed_when("test-killed-3", |site| !process::within(&site.fabric).unwrap().is_empty());
    killed_when("test-killed-4", |site| !process::within(&site.hosts[0].namespace).unwrap().is_empty());
}
