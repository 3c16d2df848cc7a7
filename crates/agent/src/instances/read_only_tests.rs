//! A disk that the guest can only read, on both real QEMUs: made of an image that is its alone, whole through stop and start.

use serde_json::json;
use whimbrel_core::{
    disk::{BaseImage, DiskFormat, DiskSpec},
    id::{Epoch, ImageDigest},
    instance::{InstanceSpec, PowerState},
};

use super::*;
use crate::trial::{QEMU_VARIABLES, Trial, blank_disk, small_spec};

const CONTENT_BYTES: usize = 5 * 2048;
const DISK_BYTES: usize = 1 << 20;

/// Puts the image where a fetched one would be, under a digest that only names it.
fn with_config(trial: &Trial, content: &[u8]) -> (InstanceSpec, ImageDigest) {
    let digest: ImageDigest = "c".repeat(64).parse().unwrap();
    fs_err::write(trial.paths.image(&digest), content).unwrap();
    let base = BaseImage { digest: digest.clone(), format: DiskFormat::Raw, file_bytes: content.len() as u64 };
    let config = DiskSpec {
        virtual_bytes: DISK_BYTES as u64,
        base: Some(base),
        read_only: true,
        ..blank_disk("config", DiskFormat::Raw)
    };
    let mut spec = small_spec();
    spec.disks.push(config);
    (spec, digest)
}

#[tokio::test]
async fn a_read_only_disk_is_made_of_its_image_and_lies_on_nothing() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        let mut content: Vec<u8> = (0..CONTENT_BYTES).map(|at| (at % 251) as u8).collect();
        let (spec, digest) = with_config(&trial, &content);
        content.resize(DISK_BYTES, 0);
        let (paths, hypervisor, images) = (trial.paths.clone(), trial.hypervisor.clone(), trial.images.clone());
        let instances = Instances::load(paths, hypervisor, images).await.unwrap();
        // The second time the image is nowhere to be had.
        for _start in 0..2 {
            let wanted =
                |desired| InstanceAsk { spec: spec.clone(), epoch: Epoch(1), desired, reboot: None, taken_from: None };
            let report = instances.ensure(wanted(Desired::Running)).await.unwrap();
            assert_eq!((report.power, report.failure), (PowerState::Running, None));
            assert!(!trial.images.has(&digest), "an image that nothing lies on is still here");
            let file = fs_err::read(trial.paths.instance(spec.id).join("config.raw")).unwrap();
            assert!(file == content, "{variable}: not the image's content and zeros");

            let vm = instances.get(spec.id).unwrap().vm().unwrap();
            let nodes = vm.qmp().execute("query-named-block-nodes", json!({"flat": true})).await.unwrap();
            let read_only = |name: &str| {
                let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == name).unwrap();
                node["ro"].as_bool().unwrap()
            };
            let names = ["file-config", "disk-config", "file-root", "disk-root"];
            assert_eq!(names.map(read_only), [true, true, false, false]);
            // Paused, since a guest without a system does not hear its power button and would be waited for.
            vm.qmp().stop().await.unwrap();
            instances.ensure(wanted(Desired::Stopped)).await.unwrap();
        }
    }
}
