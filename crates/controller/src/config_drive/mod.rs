//! Config drives: made once, when a server is, and carried like any other disk of it from then on.
//!
//! ```text
//! record --api: files--> iso --> vault (blob, named by the server's spec) --by digest--> the first host makes the raw disk of it
//!                                                                  a move --blocks, as of every disk--> the next host
//! ```
//!
//! Ground rules: the drive is the server's last disk, so that it takes no other's place; what is on it is the user's own, so its
//! blob goes with the server and not some day later.

mod iso;
mod native;

use bytes::Bytes;
use futures_util::stream;
use whimbrel_api::openstack::config_drive::{self, ConfigDrive, RANDOM_SEED_BYTES};
use whimbrel_core::{
    disk::{BaseImage, DiskFormat, DiskSpec},
    failure::{Failure, FailureCode},
    instance::InstanceSpec,
};
use whimbrel_daemon::tls;

pub use native::of_new_server;

use crate::{
    app::App,
    image::{Kind, VaultError},
};

const NAME: &str = "config";
/// Room for all versions of the largest user data and for files that users put into their servers.
const DRIVE_BYTES_MAX: usize = 16 << 20;
/// Disks of guests have whole MiB.
const DISK_UNIT_BYTES: u64 = 1 << 20;

/// Makes the drive and keeps it; the disk is to become the last of the server's spec.
pub async fn build(app: &App, drive: &ConfigDrive) -> Result<DiskSpec, Failure> {
    let mut seed = [0; RANDOM_SEED_BYTES];
    tls::fill_random(&mut seed).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
    let files = config_drive::files(drive, &seed);
    let held: usize = files.iter().map(|file| file.content.len()).sum();
    if held > DRIVE_BYTES_MAX {
        let detail = format!(
            "the config drive of server '{}' would hold {held} bytes, at most {DRIVE_BYTES_MAX} fit",
            drive.name
        );
        return Err(Failure::new(FailureCode::BadRequest, detail)
            .hint("give it less user data and fewer files: they can be fetched from elsewhere at its first start"));
    }
    let made = tokio::task::spawn_blocking(move || iso::image(files, config_drive::LABEL)).await;
    let image = made.map_err(|error| internal(drive, &error))?.map_err(|error| internal(drive, &error))?;
    let content = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(image))]);
    let stored = app.vault.receive(Kind::Disk, content).await?;
    Ok(DiskSpec {
        name: NAME.parse().unwrap_or_else(|error| unreachable!("a constant: {error}")),
        format: DiskFormat::Raw,
        virtual_bytes: stored.file_bytes.next_multiple_of(DISK_UNIT_BYTES),
        base: Some(BaseImage { digest: stored.digest, format: DiskFormat::Raw, file_bytes: stored.file_bytes }),
        read_only: true,
    })
}

fn internal(drive: &ConfigDrive, error: &dyn std::error::Error) -> Failure {
    let detail = format!("cannot make the config drive of server '{}': {error}", drive.name);
    Failure::new(FailureCode::Internal, detail).hint("see the controller's log")
}

/// Removes the drive of a server that is gone. Nothing else names it: its random seed makes it one of its kind.
pub async fn forget(app: &App, spec: &InstanceSpec) -> Result<(), VaultError> {
    for disk in spec.disks.iter().filter(|disk| disk.read_only) {
        if let Some(base) = &disk.base {
            app.vault.remove(&base.digest).await?;
        }
    }
    Ok(())
}
