//! Two hosts and one storage: whose an instance is, through moves, deaths and restarts, and who may touch its files.

use std::{path::Path, sync::Arc};

use uuid::Uuid;
use whimbrel_core::{
    id::{Epoch, HostName},
    instance::{InstanceSpec, PowerState},
};

use super::*;
use crate::{
    owner::Owner,
    trial::{Trial, small_spec},
};

const MIGRATION: MigrationId = MigrationId(Uuid::from_u128(7));
const OTHER: MigrationId = MigrationId(Uuid::from_u128(8));

struct Host {
    trial: Trial,
    instances: Arc<Instances>,
}

impl Host {
    async fn new(storage: &Path, name: &str) -> Self {
        let trial = Trial::sharing(storage, name);
        let instances = load(&trial).await;
        Host { trial, instances }
    }

    async fn knows_after_restart(&self, id: InstanceId) -> bool {
        load(&self.trial).await.get(id).is_some()
    }

    fn files(&self, id: InstanceId) -> bool {
        self.trial.paths.instance(id).join("root.qcow2").is_file()
    }
}

async fn load(trial: &Trial) -> Arc<Instances> {
    Instances::load(trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone()).await.unwrap()
}

async fn two_hosts() -> (tempfile::TempDir, Host, Host) {
    let storage = tempfile::tempdir().unwrap();
    let (h1, h2) = (Host::new(storage.path(), "h1").await, Host::new(storage.path(), "h2").await);
    (storage, h1, h2)
}

fn h(name: &str) -> HostName {
    name.parse().unwrap()
}

fn ask(spec: &InstanceSpec, epoch: u64, desired: Desired) -> InstanceAsk {
    InstanceAsk { spec: spec.clone(), epoch: Epoch(epoch), desired, reboot: None, taken_from: None }
}

fn taking(spec: &InstanceSpec, epoch: u64, from: &str, desired: Desired) -> InstanceAsk {
    InstanceAsk { taken_from: Some(h(from)), ..ask(spec, epoch, desired) }
}

async fn refused(host: &Host, ask: InstanceAsk, part: &str) {
    let failure = host.instances.ensure(ask).await.expect_err(part);
    assert!(failure.code == FailureCode::Conflict && failure.detail.contains(part), "{failure:?} lacks {part}");
}

fn named(host: &Host, id: InstanceId) -> (Option<HostName>, Epoch) {
    let owner = Owner::load(&host.trial.paths.instance(id)).unwrap().unwrap();
    (owner.host, owner.epoch)
}

#[tokio::test]
async fn what_one_host_made_is_no_other_hosts() {
    let (_storage, h1, h2) = two_hosts().await;
    let spec = small_spec();
    h1.instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(1)));
    assert!(h1.knows_after_restart(spec.id).await && !h2.knows_after_restart(spec.id).await);
    refused(&h2, ask(&spec, 1, Desired::Stopped), "is there").await;
    h2.instances.delete(spec.id).await.unwrap();
    assert!(h1.files(spec.id), "a host removed what is another's");
    let failure = h2.instances.refuse_copies_of_shared(spec.id).await.unwrap_err();
    assert!(failure.detail.contains("storage that this host sees too"), "{failure:?}");
    h1.instances.refuse_copies_of_shared(spec.id).await.unwrap();
    h1.instances.delete(spec.id).await.unwrap();
    assert!(!h1.files(spec.id) && !h1.knows_after_restart(spec.id).await);
}

#[tokio::test]
async fn an_offer_shows_that_the_files_are_the_same() {
    let (_storage, h1, h2) = two_hosts().await;
    let spec = small_spec();
    h1.instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
    // From here on only files are looked at: what is waited for is not slept through.
    tokio::time::pause();
    let sees = async |migration, source: &str, epoch| {
        h2.instances.sees_offer(spec.id, migration, &h(source), Epoch(epoch)).await.map_err(|failure| failure.detail)
    };
    assert!(sees(MIGRATION, "h1", 2).await.unwrap_err().contains("does not see what host h1 writes"));
    h1.instances.offer(spec.id, MIGRATION).await.unwrap();
    assert_eq!(sees(MIGRATION, "h1", 2).await, Ok(()));
    assert!(sees(OTHER, "h1", 2).await.unwrap_err().contains("does not see"), "an earlier offer was believed");
    assert!(sees(MIGRATION, "h1", 3).await.unwrap_err().contains("not host h1's to give"));
    assert!(sees(MIGRATION, "h3", 2).await.unwrap_err().contains("not host h3's to give"));
    h1.instances.withdraw(spec.id).await.unwrap();
    h1.instances.withdraw(spec.id).await.unwrap();
    assert!(sees(MIGRATION, "h1", 2).await.is_err());
}

#[tokio::test]
async fn a_name_on_the_storage_permits_and_a_refusal_gives_it_back() {
    let (_storage, h1, h2) = two_hosts().await;
    let spec = small_spec();
    h1.instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();

    // Nothing was taken: there is nothing to give back.
    h2.instances.give_back_shared(spec.id, Epoch(2), &h("h1")).await.unwrap();
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(1)));
    h2.instances.own_shared(spec.id, Epoch(2)).await.unwrap();
    refused(&h1, ask(&spec, 1, Desired::Running), "handed over to host h2 at epoch 2").await;
    assert!(!h1.knows_after_restart(spec.id).await && h2.knows_after_restart(spec.id).await);
    let found = h1.instances.find_of_another(spec.id).await.unwrap().unwrap();
    assert_eq!((found.owned_epoch(), found.epoch()), (None, Epoch(1)));

    h2.instances.give_back_shared(spec.id, Epoch(2), &h("h1")).await.unwrap();
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(1)));
    assert!(h1.knows_after_restart(spec.id).await && !h2.knows_after_restart(spec.id).await);
    h1.instances.adopt(spec.clone(), Epoch(3), MIGRATION, None).await.unwrap();
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(3)));
    // Late, and about an epoch that is nobody's any more.
    h2.instances.give_back_shared(spec.id, Epoch(2), &h("h1")).await.unwrap();
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(3)));
}

#[tokio::test]
async fn a_hand_over_moves_no_file_and_leaves_no_copy() {
    let (_storage, h1, h2) = two_hosts().await;
    let spec = small_spec();
    h1.instances.ensure(ask(&spec, 1, Desired::Stopped)).await.unwrap();
    h2.instances.make_incoming(MIGRATION).await.unwrap();
    h2.instances.own_shared(spec.id, Epoch(2)).await.unwrap();
    h2.instances.adopt(spec.clone(), Epoch(2), MIGRATION, None).await.unwrap();
    assert!(h2.files(spec.id) && !h2.trial.paths.incoming_of(MIGRATION).exists());
    h1.instances.leave_shared(spec.id, Epoch(2)).await.unwrap();
    h1.instances.leave_shared(spec.id, Epoch(2)).await.unwrap();
    assert!(h1.instances.get(spec.id).is_none() && h1.instances.retained(spec.id).await.is_none());
    h1.instances.delete(spec.id).await.unwrap();
    assert!(h2.files(spec.id), "who left it removed it");

    // Back, and the journal of the first hand-over is read once more.
    h1.instances.own_shared(spec.id, Epoch(3)).await.unwrap();
    h1.instances.adopt(spec.clone(), Epoch(3), OTHER, None).await.unwrap();
    h2.instances.leave_shared(spec.id, Epoch(3)).await.unwrap();
    h2.instances.adopt_after_restart(spec.clone(), Epoch(2), MIGRATION).await.unwrap();
    assert!(h2.instances.get(spec.id).is_none(), "an old journal took it back");
    h1.instances.leave_shared(spec.id, Epoch(2)).await.unwrap();
    assert!(h1.instances.get(spec.id).is_some(), "a word of an earlier move took it away");
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(3)));
}

#[tokio::test]
async fn a_dead_hosts_server_is_taken_over_on_its_files() {
    let (_storage, h1, h2) = two_hosts().await;
    let spec = small_spec();
    h1.instances.ensure(ask(&spec, 1, Desired::Running)).await.unwrap();
    // Its guest runs: the host did not die, whatever the controller believes.
    refused(&h2, taking(&spec, 2, "h1", Desired::Running), "is in use").await;
    assert_eq!(named(&h1, spec.id), (Some(h("h1")), Epoch(1)));
    h1.instances.get(spec.id).unwrap().vm().unwrap().quit(std::time::Duration::from_secs(10)).await.unwrap();

    refused(&h2, taking(&spec, 2, "h3", Desired::Running), "host h3 does not own it").await;
    refused(&h2, taking(&spec, 1, "h1", Desired::Running), "does not own it before epoch 1").await;
    let report = h2.instances.ensure(taking(&spec, 2, "h1", Desired::Running)).await.unwrap();
    assert_eq!((report.owned_epoch, report.power), (Some(Epoch(2)), PowerState::Running));
    h2.instances.ensure(taking(&spec, 2, "h1", Desired::Running)).await.unwrap();
    // The dead host comes back, with what it remembers and without.
    refused(&h1, ask(&spec, 1, Desired::Running), "handed over to host h2 at epoch 2").await;
    assert!(!h1.knows_after_restart(spec.id).await);
    h1.instances.delete(spec.id).await.unwrap();
    assert!(h2.files(spec.id), "the dead removed what is another's now");
    h2.instances.delete(spec.id).await.unwrap();

    let alone = Trial::new();
    let failure = load(&alone).await.ensure(taking(&small_spec(), 2, "h1", Desired::Stopped)).await.unwrap_err();
    assert!(failure.detail.contains("on no storage that this host sees") && failure.hint.is_some(), "{failure:?}");
}
