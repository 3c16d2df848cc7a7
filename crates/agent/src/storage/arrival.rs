//! An image that comes from another host, and the reading of one that goes there.
//!
//! ```text
//! arrive ─▶ <digest>.<migration> ◀─ chunks ─▶ name: its BLAKE3 is <digest> ─▶ settle: durable
//!                                              <digest> -> <digest>.<migration>   <digest>
//! ```
//!
//! Ground rules: one arrival of an image at a time, whoever else wants it waits for its end; its whole length is taken from
//! the file system at the beginning, so that it does not run full in the middle; a file that is not the image never gets
//! its name. Until it is durable the name is a symbolic link: good enough for this move's own processes, for nobody else,
//! and swept away by an agent that finds it at its start. Dropped before it is durable, an arrival leaves nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fs_err::os::unix::fs::OpenOptionsExt;
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate},
};
use tokio::sync::OwnedMutexGuard;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::{ImageDigest, MigrationId},
};
use whimbrel_daemon::durable;
use whimbrel_transfer::image::{ImageSink, ImageSource};

use super::image::{IMAGE_MODE, ImageStore};
use crate::fault;

/// One image on its way here.
#[derive(Debug)]
pub struct Arrival {
    digest: ImageDigest,
    partial: PathBuf,
    path: PathBuf,
    sink: Arc<ImageSink>,
    /// The link of its name is this arrival's.
    named: bool,
    durable: bool,
    _alone: OwnedMutexGuard<()>,
}

impl ImageStore {
    /// Opens an image that is here, to be sent.
    pub fn open(&self, digest: &ImageDigest) -> Result<ImageSource, Failure> {
        let path = self.paths.image(digest);
        let open =
            |flag| fs_err::OpenOptions::new().read(true).custom_flags(flag).open(&path).map(fs_err::File::into_file);
        let source = open(0).and_then(|cached| ImageSource::new(path.clone(), cached, open(self.direct_flag())?));
        source.map_err(|error| fault::of_file("open", &path, &error))
    }

    /// Makes room for an image of `bytes`; `None` if it is here. Waits while another migration brings it.
    pub async fn arrive(
        &self,
        digest: &ImageDigest,
        bytes: u64,
        migration: MigrationId,
    ) -> Result<Option<Arrival>, Failure> {
        let alone = self.flight(digest).lock_owned().await;
        if self.has(digest) {
            return Ok(None);
        }
        let path = self.paths.image(digest);
        let partial = path.with_extension(migration.0.simple().to_string());
        let (digest, flag, making) = (digest.clone(), self.direct_flag(), partial.clone());
        // Whole when nobody waits any more: then it is dropped there, and leaves nothing.
        let made = tokio::task::spawn_blocking(move || {
            let file = make(&partial, bytes, flag)?;
            let sink = ImageSink::new(partial.clone(), file, bytes);
            let sink = sink.map(Arc::new).inspect_err(|_| {
                let _ = fs_err::remove_file(&partial);
            })?;
            Ok(Arrival { digest, partial, path, sink, named: false, durable: false, _alone: alone })
        });
        let made = made.await.map_err(io::Error::other).and_then(|made| made);
        made.map(Some).map_err(|error| no_room(&making, bytes, &error))
    }

    fn direct_flag(&self) -> i32 {
        match self.hypervisor.disk_io(&self.paths.images()).direct {
            true => OFlag::O_DIRECT.bits(),
            false => 0,
        }
    }
}

fn make(path: &Path, bytes: u64, flag: i32) -> io::Result<std::fs::File> {
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(IMAGE_MODE).custom_flags(flag);
    let file = options.open(path)?.into_file();
    let length = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let taken = match fallocate(&file, FallocateFlags::empty(), 0, length) {
        // A file system without it grows as it is written to.
        Ok(()) | Err(Errno::EOPNOTSUPP) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    };
    if taken.is_err() {
        let _ = fs_err::remove_file(path);
    }
    taken.map(|()| file)
}

fn no_room(path: &Path, bytes: u64, error: &io::Error) -> Failure {
    if error.kind() != io::ErrorKind::StorageFull {
        return fault::of_file("make", path, error);
    }
    let detail = format!("no room for a base image of {bytes} bytes: {} {error}", path.display());
    Failure::new(FailureCode::NoDisk, detail).hint("free space on the target, or move to another host")
}

impl Arrival {
    pub fn digest(&self) -> &ImageDigest {
        &self.digest
    }

    pub fn sink(&self) -> Arc<ImageSink> {
        self.sink.clone()
    }

    /// Where this move's disks find it below them, from `name` on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, if it is the image.
    pub async fn name(&mut self) -> Result<(), Failure> {
        let found = self.sink.digest().await.map_err(|error| error.failure())?;
        let same = found.is_some_and(|found| blake3::Hash::from_bytes(found).to_hex().as_str() == self.digest.as_str());
        if !same {
            let detail = format!("what came as image {} is not that image", self.digest);
            return Err(Failure::new(FailureCode::Corrupt, detail)
                .hint("compare the image's file on the source with its name (b3sum), then upload the image again"));
        }
        let linked = match fs_err::os::unix::fs::symlink(&self.partial, &self.path) {
            // On shared storage another host's arrival of the same image was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.path.is_file() => return Ok(()),
            linked => linked,
        };
        linked.map_err(|error| fault::of_file("name", &self.path, &error))?;
        self.named = true;
        Ok(())
    }

    /// Returns when the image is durable and everybody's.
    pub async fn settle(mut self) -> Result<(), Failure> {
        self.sink.sync().await.map_err(|error| error.failure())?;
        let (partial, path) = (self.partial.clone(), self.path.clone());
        let named = tokio::task::spawn_blocking(move || durable::rename(&partial, &path)).await;
        let named = named.unwrap_or_else(|error| Err(io::Error::other(error)));
        named.map_err(|error| fault::of_file("name", &self.path, &error))?;
        self.durable = true;
        tracing::info!(image = %self.digest, bytes = self.sink.bytes(), "arrived");
        Ok(())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.durable {
            return;
        }
        let link = Some(&self.path).filter(|_| self.named);
        for path in link.into_iter().chain([&self.partial]) {
            if let Err(error) = fs_err::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "part of an image stays until the agent's next start");
            }
        }
    }
}
