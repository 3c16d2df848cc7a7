//! Disks copied for images, with both real QEMUs: at one moment, whole, and without a trace where it comes to nothing.

use std::{path::Path, sync::Arc};

use tokio::{io::AsyncReadExt, process::Command};
use uuid::Uuid;
use whimbrel_api::agent::{CopyAsk, CopyState};
use whimbrel_core::{
    disk::{BaseImage, DiskFormat},
    id::{Epoch, ImageDigest},
};

use whimbrel_core::instance::InstanceSpec;

use super::*;
use crate::{
    trial::{QEMU_VARIABLES, Trial, small_spec, until},
    vm::spec::disk_backend,
};

const MIB: usize = 1 << 20;

async fn load(trial: &Trial) -> Arc<Instances> {
    Instances::load(trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone()).await.unwrap()
}

fn ask(spec: &InstanceSpec, desired: Desired) -> InstanceAsk {
    InstanceAsk { spec: spec.clone(), epoch: Epoch(1), desired, reboot: None, anew: false }
}

fn image(number: u128) -> ImageId {
    ImageId(Uuid::from_u128(number))
}

fn root() -> CopyAsk {
    CopyAsk { epoch: Epoch(1), disk: "root".parse().unwrap() }
}

/// On a raw image with a pattern in its second half.
fn on_an_image(trial: &Trial) -> InstanceSpec {
    let mut spec = small_spec();
    let mut content = vec![0; 8 * MIB];
    content[4 * MIB..].fill(0xba);
    let digest: ImageDigest = "b".repeat(64).parse().unwrap();
    fs_err::write(trial.paths.image(&digest), &content).unwrap();
    spec.disks[0].base = Some(BaseImage { digest, format: DiskFormat::Raw, file_bytes: content.len() as u64 });
    spec
}

/// As the guest would, into the disk of a QEMU that runs.
async fn write(instance: &Instance, pattern: u8, mib: std::ops::Range<usize>) {
    let vm = instance.vm().unwrap();
    let length = mib.len();
    let disk = disk_backend(&"root".parse().unwrap());
    let line = format!("qemu-io -d {disk} \"write -P {pattern:#x} {}M {length}M\"", mib.start);
    let said = vm.qmp().human_monitor_command(&line).await.unwrap();
    assert_eq!(said, "", "it was not written");
}

async fn ready(instances: &Arc<Instances>, spec: &InstanceSpec, image: ImageId) -> ImageDigest {
    let mut digest = None;
    until("the copy", async || match instances.copy_disk(spec.id, image, root()).unwrap().state {
        CopyState::Copying => false,
        CopyState::Ready { digest: told, .. } => {
            digest = Some(told);
            true
        }
        CopyState::Failed { failure } => panic!("{failure:?}"),
    })
    .await;
    digest.unwrap()
}

/// What a guest would read of the copy; that it stands alone.
async fn content(trial: &Trial, instances: &Arc<Instances>, spec: &InstanceSpec, image: ImageId) -> Vec<u8> {
    let (mut file, bytes) = instances.copied(spec.id, image).await.unwrap();
    let mut copied = Vec::new();
    file.read_to_end(&mut copied).await.unwrap();
    assert_eq!(copied.len() as u64, bytes);
    let (path, raw) = (trial.dir.path().join("copied.qcow2"), trial.dir.path().join("copied.raw"));
    fs_err::write(&path, &copied).unwrap();
    let probed = crate::storage::probe::probe(&trial.hypervisor, &path).await.unwrap();
    assert_eq!((probed.format, probed.virtual_bytes), (DiskFormat::Qcow2, spec.disks[0].virtual_bytes));
    convert(trial, &path, &raw).await;
    fs_err::read(raw).unwrap()
}

async fn convert(trial: &Trial, from: &Path, to: &Path) {
    let mut command = Command::new(&trial.hypervisor.img);
    command.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(from).arg(to);
    trial.hypervisor.run(command, crate::trial::TIME_MAX).await.unwrap();
}

fn assert_all(content: &[u8], mib: std::ops::Range<usize>, pattern: u8, what: &str) {
    let part = &content[mib.start * MIB..mib.end * MIB];
    let other = part.iter().position(|byte| *byte != pattern);
    assert!(
        other.is_none(),
        "{what}: {mib:?} MiB is not all {pattern:#x}, but {:#x} at {other:?}",
        part[other.unwrap()]
    );
}

#[tokio::test]
async fn a_running_guests_disk_is_copied_as_it_was_when_it_began() {
    for variable in QEMU_VARIABLES {
        for iothreads in [false, true] {
            let trial = Trial::on(variable, None);
            let mut spec = on_an_image(&trial);
            spec.iothreads = iothreads;
            let instances = load(&trial).await;
            instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
            let instance = instances.get(spec.id).unwrap();
            write(&instance, 0x11, 0..2).await;
            let id = image(1);
            instances.copy_disk(spec.id, id, root()).unwrap();
            let vm = instance.vm().unwrap();
            until("the copy to have begun", async || {
                let begun = vm.qmp().query_jobs().await.unwrap().iter().any(|job| job.id == "whimbrel-image");
                begun || !matches!(instances.copy_disk(spec.id, id, root()).unwrap().state, CopyState::Copying)
            })
            .await;
            write(&instance, 0x22, 0..16).await;
            let digest = ready(&instances, &spec, id).await;
            let copied = content(&trial, &instances, &spec, id).await;
            let file = fs_err::read(trial.dir.path().join("copied.qcow2")).unwrap();
            assert_eq!(digest.as_str(), blake3::hash(&file).to_hex().as_str());
            assert_all(&copied, 0..2, 0x11, variable);
            assert_all(&copied, 2..4, 0, variable);
            assert_all(&copied, 4..8, 0xba, variable);
            assert_all(&copied, 8..16, 0, variable);
            let nodes = vm.qmp().query_named_block_nodes().await.unwrap();
            let left = nodes.iter().any(|node| node.node_name.as_deref().unwrap_or_default().starts_with("whimbrel"));
            assert!(!left && vm.qmp().query_jobs().await.unwrap().is_empty(), "something is left in QEMU");
            assert!(vm.is_running().await.unwrap());
            instances.drop_copy(spec.id, id).await.unwrap();
            instances.drop_copy(spec.id, id).await.unwrap();
            assert!(trial.paths.half_done().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_guest_that_is_off_or_sleeps_is_copied_too() {
    let trial = Trial::new();
    let spec = on_an_image(&trial);
    let instances = load(&trial).await;
    instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
    write(&instances.get(spec.id).unwrap(), 0x11, 0..2).await;
    for (number, desired) in [(1, Desired::Suspended), (2, Desired::Stopped)] {
        instances.ensure(ask(&spec, desired)).await.unwrap();
        let id = image(number);
        ready(&instances, &spec, id).await;
        let copied = content(&trial, &instances, &spec, id).await;
        assert_all(&copied, 0..2, 0x11, "off");
        assert_all(&copied, 4..8, 0xba, "off");
    }
    // It could still have been woken.
    assert_eq!(instances.report(&instances.get(spec.id).unwrap()).await.failure, None);
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_nothing_and_hinders_nobody() {
    let trial = Trial::new();
    let spec = on_an_image(&trial);
    let instances = load(&trial).await;
    let nobody = instances.copy_disk(spec.id, image(1), root()).unwrap_err();
    assert_eq!(nobody.code, FailureCode::NotFound);
    instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
    let other_epoch = instances.copy_disk(spec.id, image(1), CopyAsk { epoch: Epoch(2), ..root() }).unwrap_err();
    assert_eq!(other_epoch.code, FailureCode::Conflict);
    let no_disk = CopyAsk { disk: "data".parse().unwrap(), ..root() };
    assert_eq!(instances.copy_disk(spec.id, image(1), no_disk).unwrap_err().code, FailureCode::NotFound);

    instances.copy_disk(spec.id, image(1), root()).unwrap();
    instances.delete(spec.id).await.unwrap();
    until("the copy's end", async || trial.paths.half_done().unwrap().is_empty()).await;
    assert!(instances.copied(spec.id, image(1)).await.is_err());
}

#[tokio::test]
async fn a_job_whose_agent_died_is_ended_when_its_guest_is_found_again() {
    let trial = Trial::new();
    let spec = on_an_image(&trial);
    let instances = load(&trial).await;
    instances.ensure(ask(&spec, Desired::Running)).await.unwrap();
    let vm = instances.get(spec.id).unwrap().vm().unwrap();
    let node = serde_json::json!({"driver": "null-co", "node-name": "whimbrel-image-file", "size": 16 << 20});
    vm.qmp().blockdev_add(node).await.unwrap();
    let node = serde_json::json!({"driver": "raw", "node-name": "whimbrel-image", "file": "whimbrel-image-file"});
    vm.qmp().blockdev_add(node).await.unwrap();
    let job = serde_json::json!({
        "job-id": "whimbrel-image", "device": "disk-root", "target": "whimbrel-image", "sync": "full",
        "auto-dismiss": false, "speed": 1,
    });
    vm.qmp().execute("blockdev-backup", job).await.unwrap();
    super::copy::end_left_over(&vm).await;
    assert!(vm.qmp().query_jobs().await.unwrap().is_empty());
    let nodes = vm.qmp().query_named_block_nodes().await.unwrap();
    assert!(nodes.iter().all(|node| !node.node_name.as_deref().unwrap_or_default().starts_with("whimbrel-image")));
}
