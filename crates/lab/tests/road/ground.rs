//! The ground that the road lies on: labs come up, go without a trace, and their links have the rates they are said to have.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use whimbrel_lab::{
    Lab,
    net::{self, LinkChange, LinkRate, MIGRATION_DEVICE, Network},
    process::{self, ProcessId},
};

use crate::harness::{bare, traces, turn, up};

const PORT: u16 = 9000;

/// Runs in a thread of that namespace.
fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    let path = format!("/run/netns/{namespace}");
    thread::spawn(move || {
        let file = std::fs::File::open(&path).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Sends for `length` from one host's migration address to another's; gives bits per second as received.
fn measure_bps(lab: &Lab, from: &str, to: &str, length: Duration) -> f64 {
    let (from, to) = (lab.site().host(from).unwrap(), lab.site().host(to).unwrap());
    let address = lab.site().networks.migration.host(to.index);
    let listener = inside(&to.namespace, move || TcpListener::bind((address, PORT)).unwrap()).join().unwrap();
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut buffer, mut bytes, began) = (vec![0; 1 << 20], 0_u64, Instant::now());
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return bytes as f64 * 8.0 / began.elapsed().as_secs_f64(),
                received => bytes += received as u64,
            }
        }
    });
    let sender = inside(&from.namespace, move || {
        let mut stream = TcpStream::connect((address, PORT)).unwrap();
        let (data, began) = (vec![1; 1 << 16], Instant::now());
        while began.elapsed() < length {
            stream.write_all(&data).unwrap();
        }
    });
    sender.join().unwrap();
    receiver.join().unwrap()
}

fn can_connect(lab: &Lab, from: &str, address: Ipv4Addr) -> bool {
    let namespace = lab.site().host(from).unwrap().namespace.clone();
    let attempt = move || {
        // Refused means that somebody is there.
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        let connected = TcpStream::connect_timeout(&(address, PORT).into(), Duration::from_millis(500));
        connected.as_ref().map_or_else(refused, |_| true)
    };
    inside(&namespace, attempt).join().unwrap()
}

#[tokio::test]
async fn a_lab_goes_without_a_trace() {
    let _turn = turn();
    let lab = up(bare(3)).await;
    let site = lab.site().clone();
    assert_eq!(site.hosts.len(), 3);
    assert!(traces(&site).len() >= 4 + 1 + 3, "it was up: {:?}", traces(&site));
    let address = site.networks.migration.host(1);
    assert!(can_connect(&lab, "h1", address));
    lab.down().unwrap();
    assert_eq!(traces(&site), Vec::<String>::new());
}

#[tokio::test]
async fn dropping_a_lab_takes_it_down() {
    let _turn = turn();
    let lab = up(bare(1)).await;
    let site = lab.site().clone();
    drop(lab);
    assert_eq!(traces(&site), Vec::<String>::new());
}

#[tokio::test]
async fn two_labs_do_not_meet() {
    let _turn = turn();
    let (one, other) = (up(bare(1)).await, up(bare(1)).await);
    assert_ne!(one.site().networks, other.site().networks);
    assert_ne!(one.site().fabric, other.site().fabric);
    let kept = traces(other.site());
    one.down().unwrap();
    assert_eq!(traces(other.site()), kept, "taking down one touches nothing of the other");
    assert!(!can_connect(&other, "h1", other.site().networks.migration.host(7)));
}

/// A process in a namespace that the lab did not start is no business of its.
#[tokio::test]
async fn a_stranger_in_a_namespace_lives_on() {
    let _turn = turn();
    let lab = up(bare(1)).await;
    let namespace = lab.site().hosts[0].namespace.clone();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace, "sleep", "60"]).stdin(Stdio::null());
    let mut stranger = command.spawn().unwrap();
    let id = ProcessId::of(stranger.id().try_into().unwrap()).unwrap();
    let there = || Ok(process::within(&namespace)?.contains(&id).then_some(()));
    whimbrel_lab::wait::until("the stranger in the namespace", Duration::from_secs(5), there).unwrap();
    lab.down().unwrap();
    assert!(id.alive());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn links_have_the_rates_they_are_given() {
    let _turn = turn();
    let mut options = bare(2);
    options.link = "200mbit".parse().unwrap();
    let mut lab = up(options).await;
    let length = Duration::from_millis(1500);
    let check = |lab: &Lab, from: &str, to: &str, mbit: (f64, f64)| {
        let found = measure_bps(lab, from, to, length) / 1e6;
        assert!((mbit.0..=mbit.1).contains(&found), "{from} to {to}: {found} Mbit/s, wanted {mbit:?}");
    };
    check(&lab, "h1", "h2", (160.0, 215.0));
    check(&lab, "h2", "h1", (160.0, 215.0));
    lab.link(Some("h1"), Network::Migration, LinkChange::Rate("50mbit".parse().unwrap())).unwrap();
    check(&lab, "h1", "h2", (35.0, 60.0));
    check(&lab, "h2", "h1", (160.0, 215.0));
    lab.shape(LinkRate::UNSHAPED).unwrap();
    let before = net::counters(&lab.site().hosts[1].namespace, MIGRATION_DEVICE).unwrap();
    check(&lab, "h1", "h2", (1000.0, f64::MAX));
    let after = net::counters(&lab.site().hosts[1].namespace, MIGRATION_DEVICE).unwrap();
    assert!(after.received_bytes - before.received_bytes > 100_000_000, "{before:?} {after:?}");
    assert!(lab.site().link == LinkRate::UNSHAPED);
}

#[tokio::test]
async fn a_cut_link_carries_nothing_until_it_is_healed() {
    let _turn = turn();
    let mut lab = up(bare(2)).await;
    let (migration, control) = (lab.site().networks.migration.host(1), lab.site().networks.control.host(1));
    assert!(can_connect(&lab, "h1", migration));
    lab.link(Some("h2"), Network::Migration, LinkChange::Cut).unwrap();
    assert!(!can_connect(&lab, "h1", migration));
    assert!(can_connect(&lab, "h1", control), "only the link that was cut");
    lab.link(Some("h2"), Network::Migration, LinkChange::Heal).unwrap();
    let healed = || Ok(can_connect(&lab, "h1", migration).then_some(()));
    whimbrel_lab::wait::until("the healed link", Duration::from_secs(5), healed).unwrap();
}
