//! The host's images: immutable, named by their content, fetched once.
//!
//! Ground rules: a file under `images/` has been compared with its name before it got it, and is never written again;
//! several asks for one image wait for one download; an image that is here needs no controller.

use std::{
    collections::HashMap,
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Mutex as AsyncMutex;
use whimbrel_api::client::ControllerClient;
use whimbrel_core::{
    disk::DiskSpec,
    failure::Failure,
    id::ImageDigest,
    instance::{Boot, InstanceSpec},
};

use super::disk;
use crate::{fault, hypervisor::Hypervisor, paths::Paths};

/// QEMU's user reads them.
const IMAGE_MODE: u32 = 0o444;

/// Where an image comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    Controller(ControllerClient),
    /// Only what is here already.
    Nowhere,
}

#[derive(Debug)]
pub struct ImageStore {
    paths: Paths,
    hypervisor: Arc<Hypervisor>,
    origin: Origin,
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
            if digest_of(&entry).is_none() {
                fs_err::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Images that are here.
    pub fn list(&self) -> io::Result<Vec<ImageDigest>> {
        let entries = fs_err::read_dir(self.paths.images())?.collect::<io::Result<Vec<_>>>()?;
        let mut digests: Vec<_> = entries.iter().filter_map(digest_of).collect();
        digests.sort();
        Ok(digests)
    }

    pub fn has(&self, digest: &ImageDigest) -> bool {
        self.paths.image(digest).is_file()
    }

    /// The image's file, fetched from the controller if it is not here.
    pub async fn ensure(&self, digest: &ImageDigest) -> Result<PathBuf, Failure> {
        let path = self.paths.image(digest);
        let flight = self.flight(digest);
        let landed = flight.lock().await;
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
        drop(landed);
        self.flights().remove(digest);
        let bytes = fetched?;
        tracing::info!(image = %digest, bytes, "fetched");
        fs_err::set_permissions(&path, Permissions::from_mode(IMAGE_MODE))
            .map_err(|error| fault::of_file("make readable", &path, &error))?;
        Ok(path)
    }

    /// Everything that an instance boots from or lies on.
    pub async fn ensure_all(&self, spec: &InstanceSpec) -> Result<(), Failure> {
        for base in spec.disks.iter().filter_map(|disk| disk.base.as_ref()) {
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

    /// Makes the file of a new instance's disk at `path`, on its base image where it has one.
    pub async fn create_disk(&self, path: &std::path::Path, spec: &DiskSpec) -> Result<(), Failure> {
        let backing = match &spec.base {
            Some(base) => Some(self.ensure(&base.digest).await?),
            None => None,
        };
        disk::create(&self.hypervisor, path, spec, backing.as_deref()).await
    }

    /// Makes the file into which a disk arrives: on its base only if the base is here and `on_base` says so.
    pub async fn create_target_disk(
        &self,
        path: &std::path::Path,
        spec: &DiskSpec,
        on_base: bool,
    ) -> Result<(), Failure> {
        let backing = match (&spec.base, on_base) {
            (Some(base), true) => Some(self.ensure(&base.digest).await?),
            (Some(_), false) | (None, _) => None,
        };
        disk::create(&self.hypervisor, path, spec, backing.as_deref()).await
    }

    fn flight(&self, digest: &ImageDigest) -> Arc<AsyncMutex<()>> {
        self.flights().entry(digest.clone()).or_default().clone()
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<ImageDigest, Arc<AsyncMutex<()>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest_of(entry: &fs_err::DirEntry) -> Option<ImageDigest> {
    entry.file_name().to_str()?.parse().ok()
}
