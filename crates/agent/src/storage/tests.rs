//! With the real qemu-img and storage daemon.

use std::path::Path;

use tokio::process::Command;
use whimbrel_core::{
    disk::{BaseImage, DiskFormat, DiskSpec},
    failure::FailureCode,
    id::ImageDigest,
};

use super::{
    DaemonDisk, StorageDaemon,
    daemon::{kill_all_stale, kill_stale},
    probe::{PROBE_TIME_MAX, probe},
};
use crate::{
    process::ProcessId,
    trial::{QEMU_VARIABLES, Trial, blank_disk},
};

async fn img(trial: &Trial, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(&trial.hypervisor.img);
    command.args(args).current_dir(trial.dir.path());
    trial.hypervisor.run(command, PROBE_TIME_MAX).await.unwrap()
}

/// An image of `megabytes` in the store, under a digest that only names it.
async fn base(trial: &Trial, format: DiskFormat, megabytes: u64) -> BaseImage {
    let digest: ImageDigest = format!("{megabytes:064x}").parse().unwrap();
    let path = trial.paths.image(&digest);
    img(trial, &["create", "-q", "-f", format.driver(), path.to_str().unwrap(), &format!("{megabytes}M")]).await;
    let file_bytes = fs_err::metadata(&path).unwrap().len();
    BaseImage { digest, format, file_bytes }
}

#[tokio::test]
async fn disks_are_made_as_asked() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        for base_format in [DiskFormat::Qcow2, DiskFormat::Raw] {
            let base = base(&trial, base_format, 8).await;
            for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
                for base in [None, Some(base.clone())] {
                    let path = trial.dir.path().join("disk");
                    let backed = base.is_some() && format == DiskFormat::Qcow2;
                    let spec = DiskSpec { base, ..blank_disk("root", format) };
                    trial.images.create_disk(&path, &spec).await.unwrap();
                    let info = img(&trial, &["info", "--output=json", "-f", format.driver(), "disk"]).await;
                    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
                    assert_eq!(info["virtual-size"].as_u64(), Some(spec.virtual_bytes), "{info}");
                    if backed {
                        let base = spec.base.unwrap();
                        let path = trial.paths.image(&base.digest);
                        assert_eq!(info["backing-filename"].as_str().map(Path::new), Some(path.as_path()));
                        assert_eq!(info["backing-filename-format"].as_str(), Some(base.format.driver()));
                    } else {
                        assert!(info.get("backing-filename").is_none(), "{info}");
                    }
                    fs_err::remove_file(&path).unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_disk_that_cannot_be_is_refused() {
    let trial = Trial::new();
    let path = trial.dir.path().join("disk");
    let check = async |base: BaseImage, code: FailureCode, part: &str| {
        let spec = DiskSpec { base: Some(base), ..blank_disk("root", DiskFormat::Qcow2) };
        let failure = trial.images.create_disk(&path, &spec).await.unwrap_err();
        assert!(failure.code == code && failure.detail.contains(part), "{failure:?}");
    };
    check(base(&trial, DiskFormat::Qcow2, 17).await, FailureCode::BadRequest, "17825792").await;
    let mislabelled = BaseImage { format: DiskFormat::Raw, ..base(&trial, DiskFormat::Qcow2, 3).await };
    check(mislabelled, FailureCode::BadImage, "is qcow2 and not raw").await;
    let digest = "f".repeat(64).parse().unwrap();
    let missing = BaseImage { digest, format: DiskFormat::Raw, file_bytes: 1 };
    check(missing, FailureCode::NotFound, "not on this host").await;
}

#[tokio::test]
async fn images_that_reach_outside_are_refused() {
    for variable in QEMU_VARIABLES {
        let trial = Trial::on(variable, None);
        img(&trial, &["create", "-q", "-f", "qcow2", "good", "1M"]).await;
        img(&trial, &["create", "-q", "-f", "qcow2", "-b", "good", "-F", "qcow2", "overlay"]).await;
        img(&trial, &["create", "-q", "-f", "qcow2", "-o", "data_file=data", "outside", "1M"]).await;
        img(&trial, &["create", "-q", "-f", "vmdk", "other", "1M"]).await;
        fs_err::write(trial.dir.path().join("short"), &fs_err::read(trial.dir.path().join("good")).unwrap()[..100])
            .unwrap();
        let check = async |name: &str, want: Result<DiskFormat, &str>| match (
            probe(&trial.hypervisor, &trial.dir.path().join(name)).await,
            want,
        ) {
            (Ok(probed), Ok(format)) => assert_eq!((probed.format, probed.virtual_bytes), (format, 1 << 20)),
            (Err(failure), Err(part)) => {
                assert!(failure.code == FailureCode::BadImage && failure.detail.contains(part), "{failure:?}");
            }
            (got, want) => panic!("{name}: {got:?} where {want:?} was due"),
        };
        check("good", Ok(DiskFormat::Qcow2)).await;
        check("overlay", Err("good")).await;
        check("outside", Err("another file, data")).await;
        check("other", Err("vmdk")).await;
        check("short", Err("short")).await;
        check("missing", Err("missing")).await;
    }
}

#[tokio::test]
async fn leftovers_of_a_download_go_and_images_stay() {
    let trial = Trial::new();
    let image = base(&trial, DiskFormat::Raw, 1).await;
    let part = trial.paths.images().join(format!("{}.part-1-2", image.digest));
    fs_err::write(&part, "half").unwrap();
    assert_eq!(trial.images.list().unwrap(), std::slice::from_ref(&image.digest));
    trial.images.sweep().unwrap();
    assert!(!part.exists() && trial.images.has(&image.digest));
    let found = trial.images.ensure(&image.digest).await.unwrap();
    assert_eq!(found, trial.paths.image(&image.digest));
}

#[tokio::test]
async fn a_daemon_that_was_left_behind_is_ended_by_its_record() {
    let trial = Trial::new();
    let disk = blank_disk("root", DiskFormat::Raw);
    let path = trial.dir.path().join("root.raw");
    trial.images.create_disk(&path, &disk).await.unwrap();
    let disk = DaemonDisk { name: disk.name, path, format: disk.format, writable: false };
    let run_dir = trial.dir.path().join("r/m1");
    for sweep_all in [false, true] {
        let daemon = StorageDaemon::start(&trial.hypervisor, &run_dir, std::slice::from_ref(&disk)).await.unwrap();
        let pid = daemon.pid();
        drop(daemon);
        assert!(ProcessId::of(pid).is_some(), "it did not outlive its handle");
        match sweep_all {
            true => kill_all_stale(trial.paths.run_root()).await.unwrap(),
            false => kill_stale(&run_dir).await.unwrap(),
        }
        assert!(ProcessId::of(pid).is_none() && !run_dir.exists());
    }
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_why_and_leaves_nothing() {
    let trial = Trial::new();
    let path = trial.dir.path().join("nowhere.qcow2");
    let disk = DaemonDisk { name: "root".parse().unwrap(), path, format: DiskFormat::Qcow2, writable: true };
    let run_dir = trial.dir.path().join("r/m1");
    let failure = StorageDaemon::start(&trial.hypervisor, &run_dir, &[disk]).await.unwrap_err();
    assert!(failure.detail.contains("nowhere.qcow2"), "{failure}");
    assert!(!run_dir.exists() && !run_dir.with_extension("sd.json").exists());
}
