//! A guest put to sleep and woken, with both real QEMUs: over restarts, with damaged memories and changed disks. That its memory
//! is the same is tested with a guest that knows what is in it, in the lab.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use tokio::{io::AsyncReadExt, net::UnixListener};
use whimbrel_api::agent::{RebootAsk, RebootHow};
use whimbrel_core::{
    id::Epoch,
    instance::{InstanceSpec, PowerState},
};
use whimbrel_qmp::{MigrationStatus, RunState};

use super::{
    saved::{self, Phase, Saved},
    *,
};
use crate::trial::{QEMU_VARIABLES, TIME_MAX, Trial, small_spec};

async fn load(trial: &Trial) -> Arc<Instances> {
    Instances::load(trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone()).await.unwrap()
}

fn ask(spec: &InstanceSpec, desired: Desired) -> InstanceAsk {
    InstanceAsk { spec: spec.clone(), epoch: Epoch(1), desired, reboot: None, anew: false }
}

/// Runs, then sleeps.
async fn asleep(trial: &Trial, spec: &InstanceSpec) -> (Arc<Instances>, Arc<Instance>) {
    let instances = load(trial).await;
    instances.ensure(ask(spec, Desired::Running)).await.unwrap();
    let report = instances.ensure(ask(spec, Desired::Suspended)).await.unwrap();
    assert_eq!((report.power, report.qemu_pid, report.failure), (PowerState::Suspended, None, None));
    let instance = instances.get(spec.id).unwrap();
    (instances, instance)
}

/// How this QEMU's guest began: with a memory, or by booting.
async fn was_woken(instance: &Instance) -> bool {
    let status = instance.vm().unwrap().qmp().query_migrate().await.unwrap().status;
    match status {
        MigrationStatus::Completed => true,
        MigrationStatus::None => false,
        other => panic!("{other}"),
    }
}

fn files(trial: &Trial, spec: &InstanceSpec) -> Vec<String> {
    let names = fs_err::read_dir(trial.paths.instance(spec.id)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("suspended")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_guest_sleeps_through_restarts_of_the_agent_and_is_woken_once() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let spec = small_spec();
        let (_, instance) = asleep(&trial, &spec).await;
        assert_eq!(files(&trial, &spec), ["suspended.json", "suspended.ram"]);
        let memory = fs_err::metadata(saved::memory(instance.dir())).unwrap();
        assert_eq!(memory.permissions().mode() & 0o777, 0o600, "others may read the guest's memory");
        assert!(!trial.paths.run_dir(spec.id).exists(), "its QEMU is still there");

        let instances = load(&trial).await;
        let instance = instances.get(spec.id).unwrap();
        assert_eq!(instances.report(&instance).await.power, PowerState::Suspended);
        instances.ensure(ask(&spec, Desired::Suspended)).await.unwrap();
        let failure = instances.ensure(ask(&spec, Desired::Paused)).await.unwrap_err();
        assert!(failure.code == FailureCode::Conflict && failure.detail.contains("suspended"), "{failure}");

        let failure = instances.claim(spec.id, MigrationId(uuid::Uuid::nil())).await.unwrap_err();
        assert!(failure.detail.contains("is suspended"), "a migration took it: {failure}");
        let report = instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
        assert_eq!((report.power, report.failure), (PowerState::Running, None));
        assert!(was_woken(&instance).await, "{variable}: it was booted");
        assert_eq!(files(&trial, &spec), [""; 0]);
        // Again, in the same QEMU that was woken: what a move may have set of its migration does not stick.
        let vm = instance.vm().unwrap();
        vm.qmp().migrate_set_capabilities(&[("return-path", true), ("pause-before-switchover", true)]).await.unwrap();
        instances.ensure(ask(&spec, Desired::Suspended)).await.unwrap();
        instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
        assert!(was_woken(&instance).await);
        instances.delete(spec.id).await.unwrap();
    }
}

#[tokio::test]
async fn who_switches_it_off_or_restarts_it_throws_its_memory_away() {
    let trial = Trial::new();
    let spec = small_spec();
    let (instances, instance) = asleep(&trial, &spec).await;
    let reboot = Some(RebootAsk { number: 1, how: RebootHow::Hard });
    let report = instances.ensure(InstanceAsk { reboot, ..ask(&spec, Desired::Running) }).await.unwrap();
    assert_eq!((report.power, was_woken(&instance).await), (PowerState::Running, false));
    assert_eq!(files(&trial, &spec), [""; 0]);
    instances.ensure(ask(&spec, Desired::Suspended)).await.unwrap();
    let report = instances.ensure(ask(&spec, Desired::Stopped)).await.unwrap();
    assert_eq!(report.power, PowerState::Stopped);
    assert_eq!(files(&trial, &spec), [""; 0]);
    let failure = instances.ensure(ask(&spec, Desired::Suspended)).await.unwrap_err();
    assert!(failure.detail.contains("nothing to suspend"), "{failure}");
    instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
    instances.ensure(ask(&spec, Desired::Suspended)).await.unwrap();
    instances.delete(spec.id).await.unwrap();
    assert!(!trial.paths.instance(spec.id).exists());
}

#[tokio::test]
async fn a_damaged_memory_is_kept_and_never_runs() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let spec = small_spec();
        let (instances, instance) = asleep(&trial, &spec).await;
        let path = saved::memory(instance.dir());
        let good = fs_err::read(&path).unwrap();
        let refused = async |bytes: &[u8], code: FailureCode| {
            fs_err::write(&path, bytes).unwrap();
            let failure = instances.ensure(ask(&spec, Desired::Running)).await.unwrap_err();
            assert!(failure.code == code && failure.detail.contains("its memory is kept"), "{variable}: {failure:?}");
            let report = instances.report(&instance).await;
            assert_eq!((report.power, report.qemu_pid), (PowerState::Suspended, None));
            assert!(!trial.paths.run_dir(spec.id).exists(), "a QEMU was left");
        };
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        refused(&flipped, FailureCode::Corrupt).await;
        refused(&good[..good.len() - 1], FailureCode::Corrupt).await;
        // What QEMU itself refuses is told in its own words.
        let mut strange = good.clone();
        strange[..4].copy_from_slice(b"none");
        refused(&strange, FailureCode::QemuFailed).await;

        fs_err::write(&path, &good).unwrap();
        instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
        assert!(was_woken(&instance).await);
    }
}

#[tokio::test]
async fn a_guest_is_not_woken_on_disks_that_were_changed() {
    let trial = Trial::new();
    let spec = small_spec();
    let (instances, instance) = asleep(&trial, &spec).await;
    let (_, disk, _) = instance.disk_files().remove(0);
    let before = fs_err::read(&disk).unwrap();
    fs_err::write(&disk, &before).unwrap();
    let failure = instances.ensure(ask(&spec, Desired::Running)).await.unwrap_err();
    assert!(failure.code == FailureCode::Conflict && failure.detail.contains("disk root"), "{failure}");
    assert_eq!(instances.report(&instance).await.power, PowerState::Suspended);
    assert_eq!(files(&trial, &spec), ["suspended.json", "suspended.ram"]);
    let reboot = Some(RebootAsk { number: 1, how: RebootHow::Hard });
    instances.ensure(InstanceAsk { reboot, ..ask(&spec, Desired::Running) }).await.unwrap();
    assert!(!was_woken(&instance).await);
}

#[tokio::test]
async fn a_memory_whose_guest_may_have_run_is_never_used_again() {
    let trial = Trial::new();
    let spec = small_spec();
    let (_, instance) = asleep(&trial, &spec).await;
    let waking = Saved { phase: Phase::Waking, ..instance.saved().unwrap() };
    // As the host's death just before or just after the first instruction would leave it.
    waking.store(instance.dir()).unwrap();
    let instances = load(&trial).await;
    let report = instances.report(&instances.get(spec.id).unwrap()).await;
    assert_eq!(report.power, PowerState::Crashed);
    assert!(report.failure.unwrap().detail.contains("was being resumed"));
    assert_eq!(files(&trial, &spec), [""; 0]);
    instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
    assert!(!was_woken(&instances.get(spec.id).unwrap()).await);
}

#[tokio::test]
async fn an_attempt_whose_agent_died_is_swept_and_made_again() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let spec = small_spec();
        let instances = load(&trial).await;
        instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
        let instance = instances.get(spec.id).unwrap();
        let vm = instance.vm().unwrap();
        // Its stream was sent, nobody noted it.
        vm.qmp().stop().await.unwrap();
        let socket = trial.dir.path().join("lost.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        vm.qmp().migrate(&format!("unix:{}", socket.display())).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).await.unwrap();
        vm.qmp().wait_run_state(|state| *state == RunState::Postmigrate, TIME_MAX).await.unwrap();
        fs_err::write(saved::memory_part(instance.dir()), &sent).unwrap();

        let report = instances.ensure(ask(&spec, Desired::Suspended)).await.unwrap();
        assert_eq!(report.power, PowerState::Suspended);
        instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
        fs_err::write(saved::memory_part(instance.dir()), &sent).unwrap();
        load(&trial).await;
        assert_eq!(files(&trial, &spec), [""; 0], "half a memory was left");
    }
}

#[test]
fn there_must_be_room_for_all_of_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let spec = InstanceSpec { ram_mb: 1 << 40, ..small_spec() };
    let owner = Owner::owned(spec.id, Epoch(1));
    let failure = suspend::room_for_memory(&Instance::new(dir.path(), spec, owner)).unwrap_err();
    assert!(failure.code == FailureCode::NoDisk && failure.hint.is_some(), "{failure:?}");
}
