//! The life of an instance on one host and its two hand-overs, with a real QEMU where one is needed.

use std::sync::Arc;

use uuid::Uuid;
use whimbrel_core::{
    id::Epoch,
    instance::{InstanceSpec, PowerState},
};

use super::*;
use crate::{
    owner::OwnerState,
    process::ProcessId,
    trial::{QEMU_VARIABLES, Trial, small_spec, until},
};

async fn load(trial: &Trial) -> Arc<Instances> {
    Instances::load(trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone()).await.unwrap()
}

fn ask(spec: &InstanceSpec, epoch: u64, desired: Desired) -> InstanceAsk {
    InstanceAsk { spec: spec.clone(), epoch: Epoch(epoch), desired, reboot: None, taken_from: None }
}

async fn refused(instances: &Arc<Instances>, ask: InstanceAsk, part: &str) {
    let failure = instances.ensure(ask).await.unwrap_err();
    assert!(failure.code == FailureCode::Conflict && failure.detail.contains(part), "{failure:?} lacks {part}");
}

fn migration(number: u128) -> MigrationId {
    MigrationId(Uuid::from_u128(number))
}

/// An agent that lives and dies: its tasks end with its runtime, as they do with a process.
fn one_life<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcome = tokio::task::block_in_place(|| runtime.block_on(life));
    runtime.shutdown_background();
    outcome
}

#[tokio::test]
async fn made_once_at_the_first_epoch_and_removed_whole() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    refused(&instances, ask(&spec, 2, Desired::Stopped), "another host had it").await;
    let report = instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
    assert_eq!((report.owned_epoch, report.power), (Some(Epoch(1)), PowerState::Stopped));
    assert!(instances.get(spec.id).unwrap().allocated_bytes(&spec.disks[0].name).await.unwrap() > 0);

    refused(&instances, ask(&spec, 2, Desired::Stopped), "epoch 1 and not at epoch 2").await;
    let larger = InstanceSpec { ram_mb: 64, ..spec.clone() };
    refused(&instances, ask(&larger, 1, Desired::Stopped), "other hardware").await;
    instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();

    instances.delete(spec.id).await.unwrap();
    instances.delete(spec.id).await.unwrap();
    assert!(instances.get(spec.id).is_none() && !trial.paths.instance(spec.id).exists());
    assert!(trial.paths.half_done().unwrap().is_empty());
}

#[tokio::test]
async fn half_an_instance_is_never_found() {
    let trial = Trial::new();
    let (instances, mut spec) = (load(&trial).await, small_spec());
    let missing = whimbrel_core::disk::BaseImage {
        digest: "f".repeat(64).parse().unwrap(),
        format: whimbrel_core::disk::DiskFormat::Raw,
        file_bytes: 1,
    };
    spec.disks[0].base = Some(missing);
    let failure = instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NotFound, "{failure}");
    assert!(instances.get(spec.id).is_none() && !trial.paths.instance(spec.id).exists());
    // As a death in the middle of making would leave it.
    trial.paths.make_dir(&trial.paths.being_made(spec.id)).unwrap();
    let instances = load(&trial).await;
    assert!(instances.all().is_empty() && trial.paths.half_done().unwrap().is_empty());
}

#[tokio::test]
async fn a_migration_keeps_everyone_else_away() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
    instances.claim(spec.id, migration(1)).await.unwrap();
    instances.claim(spec.id, migration(1)).await.unwrap();
    let name = migration(1).to_string();
    refused(&instances, ask(&spec, 1, Desired::Stopped), &name).await;
    for failure in [instances.claim(spec.id, migration(2)).await, instances.delete(spec.id).await] {
        let failure = failure.unwrap_err();
        assert!(failure.code == FailureCode::Conflict && failure.detail.contains(&name), "{failure:?}");
    }
    instances.release(spec.id, migration(2)).await;
    assert_eq!(instances.claimed_by(spec.id), Some(migration(1)), "a stranger released it");
    instances.release(spec.id, migration(1)).await;
    instances.claim(spec.id, migration(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_runs_through_a_restart_of_the_agent_and_its_death_is_told() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let spec = small_spec();
        let life = async |trial: Trial, spec: InstanceSpec| {
            let instances = load(&trial).await;
            let report = instances.ensure(ask(&spec, 1, Desired::Running)).await.unwrap();
            assert_eq!(report.power, PowerState::Running);
            let again = instances.ensure(ask(&spec, 1, Desired::Running)).await.unwrap();
            assert_eq!(again.qemu_pid, report.qemu_pid, "a second QEMU was started");
            (trial, again)
        };
        let (trial, again) = one_life(life(trial, spec.clone()));
        let instances = load(&trial).await;
        let report = instances.report(&instances.get(spec.id).unwrap()).await;
        assert_eq!((report.power, report.qemu_pid), (PowerState::Running, again.qemu_pid));

        ProcessId::of(report.qemu_pid.unwrap()).unwrap().kill().await.unwrap();
        let instance = instances.get(spec.id).unwrap();
        until("the death is told", async || instance.power().await == PowerState::Crashed && instance.vm().is_none())
            .await;
        assert!(instance.failure().unwrap().detail.contains("ended with"));
        let report = instances.ensure(ask(&spec, 1, Desired::Running)).await.unwrap();
        assert_eq!((report.power, report.failure), (PowerState::Running, None));
        // Paused, since a guest without a system does not hear its power button and would be waited for.
        instance.vm().unwrap().qmp().stop().await.unwrap();
        assert_eq!(instance.power().await, PowerState::Paused);
        let report = instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
        assert_eq!((report.power, report.qemu_pid), (PowerState::Stopped, None));
        instances.delete(spec.id).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_handed_over_never_starts_and_comes_back_by_its_copy() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
    let to = "h2".parse().unwrap();
    for _repeated in 0..2 {
        instances.retire(spec.id, &to, Epoch(2)).await.unwrap();
    }
    let retired = trial.paths.retired(spec.id, Epoch(2));
    let readme = fs_err::read_to_string(retired.join("README.txt")).unwrap();
    assert!(readme.contains("will not boot") && readme.contains("'h2'"), "{readme}");

    // Also after a restart, and also at the epoch that it had or has now.
    for instances in [instances, load(&trial).await] {
        for epoch in 1..=3 {
            refused(&instances, ask(&spec, epoch, Desired::Running), "handed over to host h2 at epoch 2").await;
        }
        assert!(instances.reports().await.is_empty());
        let report = instances.report(&instances.get(spec.id).unwrap()).await;
        assert_eq!((report.owned_epoch, report.power), (None, PowerState::Stopped));
    }

    let instances = load(&trial).await;
    let found = instances.retained(spec.id).await.unwrap();
    assert_eq!((found.epoch, found.disks.len(), &found.dir), (Epoch(2), 1, &retired));
    // A move back that fails puts the copy back; one that succeeds makes it the instance again.
    for succeeds in [false, true] {
        let arriving = migration(7);
        instances.make_incoming(arriving).await.unwrap();
        let taken = instances.take_retained(&found, arriving).await.unwrap();
        assert!(!retired.exists() && taken.dir.join("root.qcow2").is_file());
        if succeeds {
            instances.adopt(spec.clone(), Epoch(3), arriving, None).await.unwrap();
        } else {
            instances.put_back_retained(spec.id, arriving).await.unwrap();
            instances.put_back_retained(spec.id, arriving).await.unwrap();
            instances.drop_incoming(arriving).await.unwrap();
            assert_eq!(instances.retained(spec.id).await, Some(found.clone()));
        }
        assert!(!taken.dir.exists());
    }
    assert_eq!(instances.retained(spec.id).await, None);
    let report = instances.ensure(ask(&spec, 3, Desired::Stopped)).await.unwrap();
    assert_eq!(report.owned_epoch, Some(Epoch(3)));
    let names: Vec<_> =
        fs_err::read_dir(trial.paths.instance(spec.id)).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| *name != "README.txt" && *name != "retained.json"), "{names:?}");
}

#[tokio::test]
async fn an_adoption_goes_on_after_a_restart_but_nothing_comes_back_from_the_dead() {
    let trial = Trial::new();
    let (instances, spec) = (load(&trial).await, small_spec());
    let arriving = migration(7);
    let again = async |instances: &Arc<Instances>, epoch: u64| {
        instances.adopt_after_restart(spec.clone(), Epoch(epoch), arriving).await.unwrap();
        instances.get(spec.id).and_then(|instance| instance.owned_epoch())
    };
    assert_eq!(again(&instances, 2).await, None, "a deleted instance came back");
    // A death before anything was moved, then one before the owner was written, then one before the end.
    instances.make_incoming(arriving).await.unwrap();
    let incoming = trial.paths.incoming_of(arriving);
    trial.images.create_disk(&incoming.join("root.qcow2"), &spec.disks[0]).await.unwrap();
    assert_eq!(again(&instances, 2).await, Some(Epoch(2)));
    assert!(!incoming.exists() && trial.paths.instance(spec.id).join("root.qcow2").is_file());
    let instances = load(&trial).await;
    fs_err::remove_file(trial.paths.owner(spec.id)).unwrap();
    instances.make_incoming(arriving).await.unwrap();
    let instances = load(&trial).await;
    assert!(instances.get(spec.id).is_none(), "it was taken in without an owner");
    assert_eq!(again(&instances, 2).await, Some(Epoch(2)));
    instances.make_incoming(arriving).await.unwrap();
    assert_eq!(again(&instances, 2).await, Some(Epoch(2)));
    assert!(!incoming.exists());

    // The journal of a hand-over that is long past says nothing any more.
    instances.retire(spec.id, &"h2".parse().unwrap(), Epoch(3)).await.unwrap();
    assert_eq!(again(&instances, 2).await, None);
    let owner = Owner::load(&trial.paths.instance(spec.id)).unwrap().unwrap();
    assert!(matches!(owner.state, OwnerState::HandedOver(gone) if gone.epoch == Epoch(3)));
}
