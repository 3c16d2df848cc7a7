//! Makes the files of an instance's disks, at its creation and as the target of a migration.

use std::{path::Path, time::Duration};

use tokio::process::Command;
use whimbrel_core::{
    disk::{DiskFormat, DiskSpec},
    failure::{Failure, FailureCode},
};

use super::probe;
use crate::{hypervisor::Hypervisor, paths};

/// Metadata only.
const CREATE_TIME_MAX: Duration = Duration::from_secs(60);
/// A raw disk from a base is a copy of it.
const CONVERT_TIME_MAX: Duration = Duration::from_secs(3600);

/// The image below a disk that is made.
#[derive(Clone, Copy, Debug)]
pub struct Backing<'a> {
    /// On this host.
    pub path: &'a Path,
    /// In the disk's file, where a relative one begins at the disk.
    pub named: &'a Path,
}

/// Makes the file of a disk: an overlay on `backing` (its base image), or blank where there is
/// none. A raw file cannot be an overlay and becomes a copy.
pub async fn create(
    hypervisor: &Hypervisor,
    path: &Path,
    spec: &DiskSpec,
    backing: Option<Backing<'_>>,
) -> Result<(), Failure> {
    let base = match (&spec.base, backing) {
        (Some(base), Some(backing)) => {
            let probed = probe::probe(hypervisor, backing.path).await?;
            if probed.format != base.format {
                let (said, is) = (base.format.driver(), probed.format.driver());
                let detail =
                    format!("image {} of disk {} is {is} and not {said}, as its record says", base.digest, spec.name);
                return Err(Failure::new(FailureCode::BadImage, detail).hint("upload the image again"));
            }
            if probed.virtual_bytes > spec.virtual_bytes {
                let detail = format!(
                    "disk {} has {} bytes, less than the {} of its image {}",
                    spec.name, spec.virtual_bytes, probed.virtual_bytes, base.digest
                );
                return Err(Failure::new(FailureCode::BadRequest, detail).hint("take a flavor with a larger root disk"));
            }
            Some((backing, probed.format))
        }
        (None, Some(backing)) => {
            let detail = format!("disk {} has no base image to lie on {}", spec.name, backing.path.display());
            return Err(Failure::new(FailureCode::Internal, detail));
        }
        (_, None) => None,
    };
    paths::make_file(path, hypervisor.user)?;
    match (spec.format, base) {
        (DiskFormat::Qcow2, Some((backing, format))) => overlay(hypervisor, path, spec, backing.named, format).await,
        (DiskFormat::Raw, Some((backing, format))) => raw_copy(hypervisor, path, spec, backing.path, format).await,
        (DiskFormat::Qcow2 | DiskFormat::Raw, None) => blank(hypervisor, path, spec).await,
    }
    .map_err(|failure| Failure { detail: format!("cannot make disk {}: {}", spec.name, failure.detail), ..failure })
}

async fn blank(hypervisor: &Hypervisor, path: &Path, spec: &DiskSpec) -> Result<(), Failure> {
    let mut command = img(hypervisor, "create");
    command.args(["-f", spec.format.driver()]).arg(path).arg(spec.virtual_bytes.to_string());
    hypervisor.run(command, CREATE_TIME_MAX).await.map(drop)
}

async fn overlay(
    hypervisor: &Hypervisor,
    path: &Path,
    spec: &DiskSpec,
    backing: &Path,
    format: DiskFormat,
) -> Result<(), Failure> {
    let mut command = img(hypervisor, "create");
    command
        .args(["-f", "qcow2", "-F", format.driver(), "-b"])
        .arg(backing)
        .arg(path)
        .arg(spec.virtual_bytes.to_string());
    hypervisor.run(command, CREATE_TIME_MAX).await.map(drop)
}

async fn raw_copy(
    hypervisor: &Hypervisor,
    path: &Path,
    spec: &DiskSpec,
    backing: &Path,
    format: DiskFormat,
) -> Result<(), Failure> {
    let mut copy = img(hypervisor, "convert");
    copy.args(["-f", format.driver(), "-O", "raw"]).arg(backing).arg(path);
    hypervisor.run(copy, CONVERT_TIME_MAX).await?;
    let mut grow = img(hypervisor, "resize");
    grow.args(["-f", "raw"]).arg(path).arg(spec.virtual_bytes.to_string());
    hypervisor.run(grow, CREATE_TIME_MAX).await.map(drop)
}

fn img(hypervisor: &Hypervisor, verb: &str) -> Command {
    let mut command = Command::new(&hypervisor.img);
    command.arg(verb);
    if verb == "create" {
        command.arg("-q");
    }
    command
}
