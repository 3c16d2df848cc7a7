//! A host that was given up, and one that gets what another had, with a real QEMU.

use std::sync::Arc;

use whimbrel_api::agent::Disown;
use whimbrel_core::{
    id::Epoch,
    instance::{InstanceSpec, PowerState},
};

use super::*;
use crate::{
    process::ProcessId,
    trial::{Trial, small_spec},
};

async fn load(trial: &Trial) -> Arc<Instances> {
    Instances::load(trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone()).await.unwrap()
}

fn ask(spec: &InstanceSpec, epoch: u64, desired: Desired, anew: bool) -> InstanceAsk {
    InstanceAsk { spec: spec.clone(), epoch: Epoch(epoch), desired, reboot: None, anew }
}

fn to_h2(epoch: u64) -> Disown {
    Disown { to: "h2".parse().unwrap(), epoch: Epoch(epoch) }
}

#[tokio::test]
async fn a_host_that_was_given_up_kills_its_guest_and_never_starts_it_again() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    let report = instances.ensure(ask(&spec, 1, Desired::Running, false)).await.unwrap();
    let early = instances.disown(spec.id, to_h2(1)).await.unwrap_err();
    assert!(early.code == FailureCode::Conflict && early.hint.is_some(), "{early:?}");
    for _repeated in 0..2 {
        instances.disown(spec.id, to_h2(2)).await.unwrap();
    }
    assert!(ProcessId::of(report.qemu_pid.unwrap()).is_none(), "its guest still runs");
    assert!(trial.paths.retired(spec.id, Epoch(2)).join("root.qcow2").is_file(), "its disks are lost");
    for instances in [instances, load(&trial).await] {
        for epoch in 1..=3 {
            let failure = instances.ensure(ask(&spec, epoch, Desired::Running, false)).await.unwrap_err();
            assert!(failure.detail.contains("handed over to host h2 at epoch 2"), "{failure}");
        }
        assert!(instances.reports().await.is_empty());
    }
    // What this host never heard of is not its own either.
    let instances = load(&trial).await;
    instances.disown(small_spec().id, to_h2(2)).await.unwrap();
    // And what cannot be read may be anything.
    let strange = small_spec().id;
    trial.paths.make_dir(&trial.paths.instance(strange)).unwrap();
    assert_eq!(instances.disown(strange, to_h2(2)).await.unwrap_err().code, FailureCode::Internal);
}

#[tokio::test]
async fn a_suspended_guest_of_a_host_that_was_given_up_is_forgotten_too() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    instances.ensure(ask(&spec, 1, Desired::Running, false)).await.unwrap();
    instances.ensure(ask(&spec, 1, Desired::Suspended, false)).await.unwrap();
    instances.disown(spec.id, to_h2(2)).await.unwrap();
    let retired = trial.paths.retired(spec.id, Epoch(2));
    assert!(retired.join("root.qcow2").is_file() && !retired.join("suspended.ram").exists());
    assert!(!instances.get(spec.id).unwrap().is_suspended());
}

#[tokio::test]
async fn disks_of_a_lost_host_are_made_anew_once() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    let refused = instances.ensure(ask(&spec, 2, Desired::Stopped, false)).await.unwrap_err();
    assert!(refused.detail.contains("another host had it"), "{refused}");
    let report = instances.ensure(ask(&spec, 2, Desired::Stopped, true)).await.unwrap();
    assert_eq!((report.owned_epoch, report.power), (Some(Epoch(2)), PowerState::Stopped));
    use std::os::unix::fs::MetadataExt;
    let disk = instances.get(spec.id).unwrap().disk_files().remove(0).1;
    let made = fs_err::metadata(&disk).unwrap().ino();
    // Asked again it is no news, and an older or newer epoch is refused as ever.
    let report = instances.ensure(ask(&spec, 2, Desired::Running, true)).await.unwrap();
    assert_eq!(report.power, PowerState::Running);
    for epoch in [1, 3] {
        let failure = instances.ensure(ask(&spec, epoch, Desired::Running, true)).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::Conflict, "{failure}");
    }
    assert_eq!(fs_err::metadata(&disk).unwrap().ino(), made, "its disks were made twice");

    // It went on from here, and its new host is lost as well.
    let other = small_spec();
    instances.ensure(ask(&other, 1, Desired::Stopped, false)).await.unwrap();
    instances.retire(other.id, &"h2".parse().unwrap(), Epoch(2)).await.unwrap();
    let older = instances.ensure(ask(&other, 2, Desired::Stopped, true)).await.unwrap_err();
    assert!(older.detail.contains("handed over"), "{older}");
    let report = instances.ensure(ask(&other, 3, Desired::Stopped, true)).await.unwrap();
    assert_eq!(report.owned_epoch, Some(Epoch(3)));
    assert!(trial.paths.retired(other.id, Epoch(2)).exists(), "the copy of before is lost");
}
