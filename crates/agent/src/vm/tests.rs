//! With both real QEMUs: guests that do not run, so no kernel is needed.

use std::time::Duration;

use whimbrel_core::failure::FailureCode;
use whimbrel_qmp::RunState;

use super::*;
use crate::{
    config::QemuUser,
    paths::disk_file,
    process::{Exit, ProcessId},
    storage::{DaemonDisk, StorageDaemon},
    trial::{QEMU_VARIABLES, TIME_MAX, Trial, small_spec},
};

async fn start_spec(trial: &Trial, incoming: bool) -> StartSpec {
    let spec = small_spec();
    let dir = trial.paths.instance(spec.id);
    trial.paths.make_dir(&dir).unwrap();
    let mut disks = Vec::new();
    for disk in &spec.disks {
        let path = dir.join(disk_file(&disk.name, disk.format));
        trial.images.create_disk(&path, disk).await.unwrap();
        disks.push((disk.name.clone(), path, disk.format));
    }
    let (run_dir, images_dir) = (trial.paths.run_dir(spec.id), trial.paths.images());
    StartSpec { spec, dir, run_dir, images_dir, incoming, dormant: false, disks, taps: Vec::new() }
}

#[tokio::test]
async fn a_guest_outlives_its_handle_is_found_again_and_ends() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let start = start_spec(&trial, false).await;
        let vm = Vm::start(&trial.hypervisor, start.clone()).await.unwrap();
        assert_eq!(vm.qmp().query_status().await.unwrap(), RunState::Prelaunch, "the guest ran unasked");
        assert_eq!(vm.features().has_blockdev_set_active, vm.qmp().version().at_least(10, 0));
        vm.oob().migrate_pause().await.expect_err("there is no migration to pause");
        let pid = vm.pid();
        drop(vm);

        let refused = Vm::start(&trial.hypervisor, start.clone()).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::Conflict, "a second QEMU was started: {refused}");
        let vm = Vm::attach(&start.run_dir).await.unwrap().expect("it lives");
        assert_eq!((vm.pid(), vm.id(), vm.has_exited()), (pid, start.spec.id, None));
        vm.qmp().cont().await.unwrap();
        assert!(vm.is_running().await.unwrap());

        vm.quit(TIME_MAX).await.unwrap();
        assert!(ProcessId::of(pid).is_none(), "QEMU is still there");
        assert!(vm.was_switched_off() && !start.run_dir.exists());
        assert!(Vm::attach(&start.run_dir).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_start_that_fails_tells_qemus_own_words_and_leaves_nothing() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let mut start = start_spec(&trial, false).await;
        start.disks[0].1 = trial.dir.path().join("nowhere.qcow2");
        let failure = Vm::start(&trial.hypervisor, start.clone()).await.unwrap_err();
        assert!(failure.code == FailureCode::QemuFailed && failure.detail.contains("nowhere.qcow2"), "{failure}");
        assert!(!start.run_dir.exists() && !start.run_dir.with_extension("vm.json").exists());
    }
}

#[tokio::test]
async fn an_end_is_told_with_its_kind() {
    let trial = Trial::new();
    let start = start_spec(&trial, true).await;
    let vm = Vm::start(&trial.hypervisor, start.clone()).await.unwrap();
    assert_eq!(vm.qmp().query_status().await.unwrap(), RunState::Inmigrate);
    ProcessId::of(vm.pid()).unwrap().kill().await.unwrap();
    let exit = tokio::time::timeout(TIME_MAX, vm.exited()).await.unwrap();
    assert_eq!(exit, Exit::Signal(9));
    assert!(!vm.was_switched_off());
    let death = vm.death(exit);
    assert!(death.detail.contains("signal 9") && death.detail.contains(&vm.id().to_string()), "{death}");
    vm.quit(Duration::from_secs(1)).await.unwrap();
    assert!(!start.run_dir.exists());
}

#[tokio::test]
async fn a_storage_daemon_fences_a_guest_until_it_lets_go() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let start = start_spec(&trial, false).await;
        let (name, path, format) = start.disks[0].clone();
        let disk = DaemonDisk { name, path, format, writable: true };
        let run_dir = trial.dir.path().join("r/m1");
        let daemon = StorageDaemon::start(&trial.hypervisor, &run_dir, &[disk]).await.unwrap();
        assert!(daemon.nbd_path().exists());
        let refused = Vm::start(&trial.hypervisor, start.clone()).await.unwrap_err();
        assert!(refused.detail.contains("lock"), "{refused}");
        // A target's QEMU may wait beside it: its disks are inactive.
        let waiting = Vm::start(&trial.hypervisor, StartSpec { incoming: true, ..start.clone() }).await.unwrap();
        waiting.quit(TIME_MAX).await.unwrap();

        daemon.release().await.unwrap();
        assert!(ProcessId::of(daemon.pid()).is_some(), "release ended the daemon");
        let vm = Vm::start(&trial.hypervisor, start).await.unwrap();
        daemon.quit(TIME_MAX).await.unwrap();
        assert!(ProcessId::of(daemon.pid()).is_none() && !run_dir.exists());
        vm.quit(TIME_MAX).await.unwrap();
    }
}

#[tokio::test]
async fn qemu_runs_as_its_own_user_and_cannot_touch_the_agents_records() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let nobody = QemuUser { uid: 65534, gid: 65534 };
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, Some(nobody));
        let start = start_spec(&trial, false).await;
        let vm = Vm::start(&trial.hypervisor, start.clone()).await.unwrap();
        let status = fs_err::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap();
        let line = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        assert_eq!(line("Uid:").split_ascii_whitespace().nth(1), Some("65534"), "{status}");
        assert_eq!(line("Groups:").trim_end(), "Groups:", "{status}");
        assert_eq!(line("Seccomp:").split_ascii_whitespace().nth(1), Some("2"), "{status}");
        vm.qmp().cont().await.unwrap();
        assert!(vm.is_running().await.unwrap());
        use std::os::unix::fs::MetadataExt;
        for ours in [start.dir.clone(), start.run_dir.with_extension("vm.json")] {
            assert_eq!(fs_err::metadata(&ours).unwrap().uid(), 0, "{}", ours.display());
        }
        vm.quit(TIME_MAX).await.unwrap();
    }
}
