//! The host's images: immutable, named by their content, fetched once.
//!
//! Ground rules: a file under `images/` has been compared with its name before it got it, and is never written again;
//! several asks for one image wait for one download; an image that is here needs no controller.

use std::{
    collections::HashMap,
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as AsyncMutex;
use whimbrel_api::client::ControllerClient;
use whimbrel_core::{
    copy_mode,
    disk::DiskSpec,
    failure::Failure,
    id::ImageDigest,
    instance::{Boot, InstanceSpec},
};

use super::disk::{self, Backing};
use crate::{fault, hypervisor::Hypervisor, paths::Paths};

/// QEMU's user reads them.
pub(super) const IMAGE_MODE: u32 = 0o444;

/// On shared storage: no image takes longer to come.
const IN_MAKING_TIME_MAX: Duration = Duration::from_hours(24);

/// Where an image comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    Controller(ControllerClient),
    /// Only what is here already.
    Nowhere,
}

#[derive(Debug)]
pub struct ImageStore {
    pub(super) paths: Paths,
    pub(super) hypervisor: Arc<Hypervisor>,
    origin: Origin,
    /// One for each image that was ever wanted since the start: whoever waits and whoever comes later must meet at the same.
    flights: Mutex<HashMap<ImageDigest, Arc<AsyncMutex<()>>>>,
}

impl ImageStore {
    pub fn new(paths: Paths, hypervisor: Arc<Hypervisor>, origin: Origin) -> Self {
        ImageStore { paths, hypervisor, origin, flights: Mutex::default() }
    }

    /// Removes what interrupted downloads left. Once, before the first fetch.
    pub fn sweep(&self) -> io::Result<()> {
        for entry in fs_err::read_dir(self.paths.images())? {
            let entry = entry?;
            if !is_image(&entry)? && !self.may_be_anothers(&entry)? {
                fs_err::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What another host that has this storage is making just now is no leftover.
    fn may_be_anothers(&self, entry: &fs_err::DirEntry) -> io::Result<bool> {
        let changed = fs_err::symlink_metadata(entry.path())?.modified()?;
        Ok(self.paths.shared().is_some() && changed.elapsed().is_ok_and(|age| age < IN_MAKING_TIME_MAX))
    }

    /// Images that are here.
    pub fn list(&self) -> io::Result<Vec<ImageDigest>> {
        let entries = fs_err::read_dir(self.paths.images())?.collect::<io::Result<Vec<_>>>()?;
        let mut digests = Vec::new();
        for entry in &entries {
            digests.extend(digest_of(entry).filter(|_| is_image(entry).unwrap_or(false)));
        }
        digests.sort();
        Ok(digests)
    }

    pub fn has(&self, digest: &ImageDigest) -> bool {
        fs_err::symlink_metadata(self.paths.image(digest)).is_ok_and(|found| found.is_file())
    }

    /// The image's file, fetched from the controller if it is not here.
    pub async fn ensure(&self, digest: &ImageDigest) -> Result<PathBuf, Failure> {
        let path = self.paths.image(digest);
        let flight = self.flight(digest);
        let _alone = flight.lock().await;
        if self.has(digest) {
            return Ok(path);
        }
        let fetched = match &self.origin {
            Origin::Controller(controller) => {
                tracing::info!(image = %digest, "fetching");
                controller.download_blob(digest, &path).await
            }
            Origin::Nowhere => Err(whimbrel_core::failure::Failure::new(
                whimbrel_core::failure::FailureCode::NotFound,
                format!("image {digest} is not on this host"),
            )),
        };
        let bytes = fetched?;
        tracing::info!(image = %digest, bytes, "fetched");
        fs_err::set_permissions(&path, Permissions::from_mode(IMAGE_MODE))
            .map_err(|error| fault::of_file("make readable", &path, &error))?;
        Ok(path)
    }

    /// Everything that an instance boots from or lies on. A raw disk was made from its image and lies on nothing.
    pub async fn ensure_all(&self, spec: &InstanceSpec) -> Result<(), Failure> {
        for base in spec.disks.iter().filter_map(copy_mode::base) {
            self.ensure(&base.digest).await?;
        }
        self.ensure_boot(spec).await
    }

    /// Kernel and ramdisk.
    pub async fn ensure_boot(&self, spec: &InstanceSpec) -> Result<(), Failure> {
        let Boot::Kernel { kernel, ramdisk, .. } = &spec.boot else { return Ok(()) };
        self.ensure(kernel).await?;
        match ramdisk {
            Some(ramdisk) => self.ensure(ramdisk).await.map(drop),
            None => Ok(()),
        }
    }

    /// Makes the file of a new instance's disk at `path`, on its base image where it has one. An image that is this disk's
    /// alone goes: every heartbeat tells of those that are here, and what users put into one is nobody else's business.
    pub async fn create_disk(&self, path: &Path, spec: &DiskSpec) -> Result<(), Failure> {
        let backing = match &spec.base {
            Some(base) => Some(self.ensure(&base.digest).await?),
            None => None,
        };
        self.create_arriving(path, spec, backing.as_deref()).await?;
        match &spec.base {
            Some(base) if spec.read_only && copy_mode::base(spec).is_none() => self.forget(&base.digest).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn forget(&self, digest: &ImageDigest) -> Result<(), Failure> {
        let flight = self.flight(digest);
        let _alone = flight.lock().await;
        let path = self.paths.image(digest);
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault::of_file("remove", &path, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the file of a disk that arrives on its base image at `backing`, or on nothing.
    pub async fn create_arriving(&self, path: &Path, spec: &DiskSpec, backing: Option<&Path>) -> Result<(), Failure> {
        let named = backing.map(|backing| self.paths.backing_name(backing));
        let backing = backing.zip(named.as_deref()).map(|(path, named)| Backing { path, named });
        disk::create(&self.hypervisor, path, spec, backing).await
    }

    pub(super) fn flight(&self, digest: &ImageDigest) -> Arc<AsyncMutex<()>> {
        self.flights().entry(digest.clone()).or_default().clone()
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<ImageDigest, Arc<AsyncMutex<()>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link is an image that was not durable yet.
fn is_image(entry: &fs_err::DirEntry) -> io::Result<bool> {
    Ok(digest_of(entry).is_some() && entry.file_type()?.is_file())
}

fn digest_of(entry: &fs_err::DirEntry) -> Option<ImageDigest> {
    entry.file_name().to_str()?.parse().ok()
}
