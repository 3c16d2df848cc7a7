//! Guests that sleep, are copied, and outlive their host: by OpenStack's own clients, with a guest that knows what it wrote.

use std::time::Duration;

use whimbrel_api::native::NewServer;
use whimbrel_lab::{Lab, image::BootLine, lab::QemuKind, net::GUEST_BRIDGE, peer::Rates, wait};

use crate::{
    clients::Shell,
    harness::{guest_runs_at, options, turn, up},
};

const GUEST: &str = "guest";
const COPY: &str = "copy";
const PREFIX: u8 = 24;
const VERIFY_TIME_MAX: Duration = Duration::from_secs(120);
const BACK_TIME_MAX: Duration = Duration::from_secs(60);
const IMAGE_TIME_MAX: Duration = Duration::from_secs(300);

fn line(name: &str) -> BootLine {
    let rates = Rates { write_bps: 4_000_000, fsync_hz: 20, ram_bps: 1_000_000 };
    BootLine { name: name.into(), rates, ..BootLine::default() }
}

async fn check_guest(lab: &Lab, name: &str) {
    let verdict = lab.peer_of(name).await.unwrap().verify(VERIFY_TIME_MAX, true).await.unwrap();
    assert!(verdict.sound(), "{verdict:?}");
    assert!(verdict.acked_writes > 0 && verdict.ram_pages_checked > 0, "nothing was checked: {verdict:?}");
}

async fn id_of(lab: &Lab, name: &str) -> String {
    let shown = lab.cli(&["server", "show", name, "--json"]).await.unwrap().expect_json().unwrap();
    shown["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sleeps_through_a_restart_and_wakes_with_all_that_it_knew() {
    let _turn = turn();
    let mut lab = up(options(2).host_with_next_qemu("h2").unwrap()).await;
    for host in ["h1", "h2"] {
        lab.boot_guest(Some(host), line(GUEST)).await.unwrap();
        let id = id_of(&lab, GUEST).await;
        let shell = Shell::of(&lab);
        shell.check(&format!("openstack server suspend {id}"), &[]).await;
        shell.server_is(&id, "SUSPENDED", Some(host)).await;
        shell.refused(&format!("openstack server start {id}"), "409").await;
        shell.refused(&format!("openstack server migrate --live-migration {id}"), "409").await;
        assert_eq!(lab.qemus(host, QemuKind::System).unwrap().len(), 0, "its QEMU is still there");
        lab.restart_agent(host).await.unwrap();
        let shell = Shell::of(&lab);
        shell.server_is(&id, "SUSPENDED", Some(host)).await;
        shell.check(&format!("openstack server resume {id}"), &[]).await;
        shell.server_is(&id, "ACTIVE", Some(host)).await;
        check_guest(&lab, GUEST).await;
        assert!(lab.cli(&["server", "delete", GUEST]).await.unwrap().ok);
        let gone = async || Ok((!lab.cli(&["server", "show", GUEST]).await?.ok).then_some(()));
        wait::until_async("the end of the server", BACK_TIME_MAX, gone).await.unwrap();
        lab.stop_peer(GUEST).unwrap();
    }
    lab.down().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_guest_that_writes_boots_with_a_journal_that_is_sound() {
    let _turn = turn();
    let mut lab = up(options(2)).await;
    lab.boot_guest(Some("h1"), line(GUEST)).await.unwrap();
    let id = id_of(&lab, GUEST).await;
    let shell = Shell::of(&lab);
    shell.check(&format!("openstack server image create --name shot {id}"), &["shot"]).await;
    let active = async || {
        Ok(shell
            .run("openstack image show -f value -c status shot")
            .await
            .is_ok_and(|said| said.trim() == "active")
            .then_some(()))
    };
    wait::until_async("the image", IMAGE_TIME_MAX, active).await.unwrap();
    shell.server_is(&id, "ACTIVE", Some("h1")).await;
    shell.check("openstack image show shot", &["snapshot", &id, "qcow2"]).await;
    check_guest(&lab, GUEST).await;

    let guest = lab.start_peer(COPY).await.unwrap();
    let line = BootLine { ip: Some((guest.address, PREFIX)), peer: Some(guest.peer), ..line(COPY) };
    let new = NewServer {
        name: COPY.into(),
        flavor: "med".into(),
        image: "shot".into(),
        host: Some("h2".into()),
        networks: vec![GUEST_BRIDGE.into()],
        os_command_line: Some(line.to_string()),
        iothreads: false,
        machine: None,
        config_drive: false,
        user_data: None,
    };
    lab.boot(&new, &guest).await.unwrap();
    // It goes on with the journal that it finds on its disk: what the copy lacks, or has too early, breaks the chain.
    check_guest(&lab, COPY).await;
    lab.down().unwrap();
}

/// First its guest goes on until the host hears that it is not its own, then it dies with its host.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_a_lost_host_is_made_anew_and_never_runs_twice() {
    let _turn = turn();
    let mut lab = up(options(2)).await;
    lab.boot_guest(Some("h1"), line(GUEST)).await.unwrap();
    let id = id_of(&lab, GUEST).await;
    let retired = lab.site().host("h1").unwrap().dir.join("state/retired");
    for dies in [false, true] {
        lab.kill_agent("h1").unwrap();
        if dies {
            lab.kill_qemu("h1", QemuKind::System).unwrap();
        }
        let shell = Shell::of(&lab);
        shell.check("openstack compute service set --down h1 nova-compute", &[]).await;
        shell.check(&format!("nova evacuate {id} h2"), &[]).await;
        shell.server_is(&id, "SHUTOFF", Some("h2")).await;
        shell.check("nova migration-list", &["evacuation", "done"]).await;
        let left = lab.qemus("h1", QemuKind::System).unwrap().len();
        assert_eq!(left, usize::from(!dies), "nobody could have ended it");

        lab.start_agent("h1").await.unwrap();
        let let_go = async || {
            let put_away = fs_err::read_dir(&retired)?.count() == 1;
            Ok((put_away && lab.qemus("h1", QemuKind::System)?.is_empty()).then_some(()))
        };
        wait::until_async("the end of the old guest", BACK_TIME_MAX, let_go).await.unwrap();
        let shell = Shell::of(&lab);
        shell.check("openstack compute service set --up h1 nova-compute", &[]).await;
        shell.check(&format!("openstack server start {id}"), &[]).await;
        shell.server_is(&id, "ACTIVE", Some("h2")).await;
        assert_eq!(lab.qemus("h1", QemuKind::System).unwrap().len(), 0, "it runs twice");
        // The lost host works again: the server moves back to where it was.
        lab.cli(&["move", GUEST, "h1", "--json"]).await.unwrap().expect_json().unwrap();
        guest_runs_at(&lab, GUEST, "h1").await;
    }
    lab.down().unwrap();
}
