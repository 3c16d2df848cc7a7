//! What an agent needs of memory: the same for disks of any size.

use std::time::Duration;

use whimbrel_api::native::{NewFlavor, NewServer};
use whimbrel_lab::{Lab, image::BootLine, lab::vast, net::GUEST_BRIDGE, peer::Rates};

use crate::harness::{guest_runs_at, options, traces, turn, up};

const GUEST: &str = "guest";
const FLAVOR: &str = "vast";
const GIB: u64 = 1 << 30;
const ROOT_GB: u64 = 200;
const EPHEMERAL_GB: u64 = 1024;
const PREFIX: u8 = 24;
const RSS_BYTES_MAX: u64 = 256 << 20;
/// No process that does anything has less: the measure is one.
const RSS_BYTES_MIN: u64 = 4 << 20;
const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_needs_little_memory_however_large_the_disks() {
    let _turn = turn();
    let mut options = options(2);
    options.vast = true;
    let mut lab = up(options).await;
    boot(&mut lab).await;
    let agents = ["h1", "h2"].map(|host| lab.agent(host).unwrap());
    agents.iter().for_each(|agent| agent.forget_rss_max().unwrap());

    let receipt = lab.cli(&["move", GUEST, "h2", "--json"]).await.unwrap().expect_json().unwrap();
    assert_eq!(receipt["mode"], "full", "{receipt}");
    let disks = receipt["disks"].as_array().unwrap();
    let sum = |field: &str| disks.iter().map(|disk| disk[field].as_u64().unwrap()).sum::<u64>();
    assert!(sum("virtual_bytes") > (ROOT_GB + EPHEMERAL_GB) * GIB, "{receipt}");
    assert!(sum("sent_bytes") > GIB, "too little travelled to say anything: {receipt}");
    assert!(disks.iter().all(|disk| disk["verified"] == true), "{receipt}");
    for agent in agents {
        let rss = agent.rss_bytes_max().expect("an agent that lives has one");
        println!("agent {}: at most {} MiB", agent.pid, rss >> 20);
        assert!((RSS_BYTES_MIN..RSS_BYTES_MAX).contains(&rss), "agent {} had {rss} bytes resident", agent.pid);
    }

    guest_runs_at(&lab, GUEST, "h2").await;
    let verdict = lab.peer_of(GUEST).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    let site = lab.site().clone();
    let below = || vast::mounts().unwrap().into_iter().filter(|mounted| mounted.starts_with(&site.dir)).count();
    assert_eq!(below(), 2);
    lab.down().unwrap();
    assert_eq!((traces(&site), below()), (Vec::new(), 0));
}

async fn boot(lab: &mut Lab) {
    let flavor = NewFlavor {
        name: FLAVOR.into(),
        flavorid: None,
        vcpus: 1,
        ram_mb: 512,
        disk_gb: ROOT_GB,
        ephemeral_gb: EPHEMERAL_GB,
        swap_mb: 512,
    };
    lab.site().client().unwrap().create_flavor(&flavor).await.unwrap();
    let guest = lab.start_peer(GUEST).await.unwrap();
    let line = BootLine {
        name: GUEST.into(),
        ip: Some((guest.address, PREFIX)),
        peer: Some(guest.peer),
        rates: Rates { write_bps: 4_000_000, fsync_hz: 10, ram_bps: 1_000_000 },
        ..BootLine::default()
    };
    let new = NewServer {
        name: GUEST.into(),
        flavor: FLAVOR.into(),
        image: "guest".into(),
        host: Some("h1".into()),
        networks: vec![GUEST_BRIDGE.into()],
        os_command_line: Some(line.to_string()),
        iothreads: false,
        machine: None,
        config_drive: false,
        user_data: None,
    };
    lab.boot(&new, &guest).await.unwrap();
}
