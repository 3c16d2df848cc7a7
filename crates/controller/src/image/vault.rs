//! Where image content is kept: `blobs/<digest>`, written once.
//!
//! ```text
//! body -> blobs/.incoming-<controller>@<uuid> (hashed as it comes) -> fsync -> inspected -> renamed to its digest -> fsync of the directory
//! ```
//!
//! Ground rules: content is never whole in memory; a body that stalls or breaks leaves nothing behind; what a crash leaves
//! is removed at the next start; a blob that nobody names is collected once it is old enough not to be on its way to a name.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::{
    fs,
    io::{AsyncWriteExt, BufWriter},
    time::timeout,
};
use uuid::Uuid;
use whimbrel_core::{
    disk::DiskFormat,
    failure::{Failure, FailureCode},
    id::{HostName, ImageDigest},
};
use whimbrel_daemon::durable;

use super::{
    format::{self, DiskContent, Kind, Unfit},
    sums::{Summing, Sums},
};

const DIRECTORY: &str = "blobs";
const INCOMING: &str = ".incoming-";
/// In no controller's name.
const OF: char = '@';
/// What comes in is in pieces of a frame; each write to a file is a call on another thread.
const WRITE_BYTES: usize = 1 << 20;
const BODY_STALL_MAX: Duration = Duration::from_secs(60);
/// 16 TiB: no file system of today takes a larger file.
const CONTENT_BYTES_MAX: u64 = 16 << 40;
/// An upload by digest happens in two calls; in between nobody names the blob.
const UNNAMED_TIME_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub digest: ImageDigest,
    pub file_bytes: u64,
    /// Of a disk.
    pub disk: Option<DiskContent>,
}

/// What is said of content before it comes. It is refused if it turns out to be something else.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    pub kind: Kind,
    /// Of a disk.
    pub format: Option<DiskFormat>,
    pub bytes: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("no byte of the content came for {} s", BODY_STALL_MAX.as_secs())]
    Stalled,
    #[error("the content broke off after {bytes} bytes: {reason}")]
    BrokeOff { bytes: u64, reason: String },
    #[error("the content is larger than {CONTENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the content has {bytes} bytes where {announced} were announced")]
    OtherSize { announced: u64, bytes: u64 },
    #[error("the content is refused: {what}")]
    Unfit { what: String, hint: String },
    #[error("no content with digest {digest} is stored")]
    Missing { digest: ImageDigest },
}

impl Announced {
    fn check_bytes(&self, bytes: u64, at_end: bool) -> Result<(), VaultError> {
        match self.bytes {
            Some(announced) if bytes > announced || (at_end && bytes < announced) => {
                Err(VaultError::OtherSize { announced, bytes })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_format(&self, stored: &Stored) -> Result<(), VaultError> {
        match (self.format, stored.disk) {
            (Some(said), Some(disk)) if said != disk.format => Err(VaultError::Unfit {
                what: format!("it is {}, not {} as was said of it", disk.format.driver(), said.driver()),
                hint: format!("say disk_format {}, or upload the other file", disk.format.driver()),
            }),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

impl VaultError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> VaultError {
        let path = path.to_owned();
        |source| VaultError::File { path, source }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Failure {
        let detail = error.to_string();
        match error {
            VaultError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Failure::new(FailureCode::NoDisk, format!("{detail}: the controller's disk is full"))
                    .hint("free space in the controller's state directory, or delete images")
            }
            VaultError::File { source, .. } => Failure::new(FailureCode::Internal, format!("{detail}: {source}"))
                .hint("see the controller's state directory and its log"),
            VaultError::Stalled | VaultError::BrokeOff { .. } | VaultError::OtherSize { .. } => {
                Failure::new(FailureCode::BadRequest, detail).hint("upload the file again")
            }
            VaultError::TooLarge => Failure::new(FailureCode::BadImage, detail).hint("was the right file uploaded?"),
            VaultError::Unfit { hint, .. } => Failure::new(FailureCode::BadImage, detail).hint(hint),
            VaultError::Missing { .. } => {
                Failure::new(FailureCode::NotFound, detail).hint("upload the file as content of an image")
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Vault {
    dir: PathBuf,
    /// What begins so is on its way in here, and not at another controller with the same directory.
    incoming: String,
}

impl Vault {
    /// `controller`: whose uploads of before were ended by its end.
    pub fn open(shared_dir: &Path, controller: &HostName) -> Result<Self, VaultError> {
        let dir = shared_dir.join(DIRECTORY);
        let incoming = format!("{INCOMING}{controller}{OF}");
        durable::make_dir(&dir).map_err(VaultError::file(&dir))?;
        for entry in fs_err::read_dir(&dir).map_err(VaultError::file(&dir))? {
            let entry = entry.map_err(VaultError::file(&dir))?;
            if entry.file_name().as_encoded_bytes().starts_with(incoming.as_bytes()) {
                fs_err::remove_file(entry.path()).map_err(VaultError::file(&entry.path()))?;
            }
        }
        Ok(Vault { dir, incoming })
    }

    /// Keeps `content` if it is fit to be a `kind`.
    pub async fn receive<S, E>(&self, kind: Kind, content: S) -> Result<Stored, VaultError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        self.receive_with(Announced { kind, format: None, bytes: None }, None, content).await
    }

    /// Keeps `content` if it is what was announced, and sums it while it comes.
    pub async fn receive_summed<S, E>(&self, announced: Announced, content: S) -> Result<(Stored, Sums), VaultError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let summing = Summing::start();
        let stored = self.receive_with(announced, Some(&summing), content).await?;
        let sums = summing.finish().await.map_err(VaultError::file(&self.dir))?;
        Ok((stored, sums))
    }

    async fn receive_with<S, E>(
        &self,
        announced: Announced,
        summing: Option<&Summing>,
        content: S,
    ) -> Result<Stored, VaultError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let incoming = self.dir.join(format!("{}{}", self.incoming, Uuid::now_v7()));
        let outcome = self.take_in(&incoming, announced, summing, content).await;
        if outcome.is_err()
            && let Err(error) = fs::remove_file(&incoming).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %incoming.display(), %error, "a refused upload could not be removed");
        }
        outcome
    }

    async fn take_in<S, E>(
        &self,
        incoming: &Path,
        announced: Announced,
        summing: Option<&Summing>,
        mut content: S,
    ) -> Result<Stored, VaultError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let file = fs::File::create_new(incoming).await.map_err(VaultError::file(incoming))?;
        let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        while let Some(chunk) = timeout(BODY_STALL_MAX, content.next()).await.map_err(|_| VaultError::Stalled)? {
            let chunk = chunk.map_err(|error| VaultError::BrokeOff { bytes, reason: error.to_string() })?;
            bytes += chunk.len() as u64;
            if bytes > CONTENT_BYTES_MAX {
                return Err(VaultError::TooLarge);
            }
            // What is too long is not taken to its end.
            announced.check_bytes(bytes, false)?;
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(VaultError::file(incoming))?;
            if let Some(summing) = summing {
                summing.add(chunk).await;
            }
        }
        announced.check_bytes(bytes, true)?;
        file.flush().await.map_err(VaultError::file(incoming))?;
        file.get_ref().sync_all().await.map_err(VaultError::file(incoming))?;
        let digest = digest_of(&hasher);
        let stored = inspect(incoming.to_owned(), digest.clone(), announced.kind).await?;
        announced.check_format(&stored)?;
        let (from, to) = (incoming.to_owned(), self.path(&digest));
        let renamed = tokio::task::spawn_blocking(move || durable::rename(&from, &to)).await;
        renamed.map_err(io::Error::other).flatten().map_err(VaultError::file(incoming))?;
        Ok(stored)
    }

    /// What stored content is, seen as a `kind`.
    pub async fn inspect(&self, digest: &ImageDigest, kind: Kind) -> Result<Stored, VaultError> {
        inspect(self.path(digest), digest.clone(), kind).await
    }

    /// To be read from its begin, with its size.
    pub async fn open_blob(&self, digest: &ImageDigest) -> Result<(fs::File, u64), VaultError> {
        let path = self.path(digest);
        let file = match fs::File::open(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VaultError::Missing { digest: digest.clone() });
            }
            opened => opened.map_err(VaultError::file(&path))?,
        };
        let bytes = file.metadata().await.map_err(VaultError::file(&path))?.len();
        Ok((file, bytes))
    }

    /// Removes content of which it is known that nobody names it any more. None there is as good.
    pub async fn remove(&self, digest: &ImageDigest) -> Result<(), VaultError> {
        let path = self.path(digest);
        match fs::remove_file(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(VaultError::file(&path)),
        }
    }

    /// Removes what nobody names any more; returns how many blobs went.
    pub async fn collect(&self, named: &HashSet<ImageDigest>) -> Result<usize, VaultError> {
        let mut removed = 0;
        let mut entries = fs::read_dir(&self.dir).await.map_err(VaultError::file(&self.dir))?;
        while let Some(entry) = entries.next_entry().await.map_err(VaultError::file(&self.dir))? {
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<ImageDigest>().ok());
            let Some(digest) = digest.filter(|digest| !named.contains(digest)) else { continue };
            let modified = entry.metadata().await.and_then(|metadata| metadata.modified());
            let age = SystemTime::now().duration_since(modified.map_err(VaultError::file(&entry.path()))?);
            if age.is_ok_and(|age| age > UNNAMED_TIME_MAX) {
                fs::remove_file(entry.path()).await.map_err(VaultError::file(&entry.path()))?;
                tracing::info!(%digest, "image content that nobody names is removed");
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, digest: &ImageDigest) -> PathBuf {
        self.dir.join(digest.as_str())
    }
}

fn digest_of(hasher: &blake3::Hasher) -> ImageDigest {
    let hex = hasher.finalize().to_hex();
    hex.as_str().parse().unwrap_or_else(|error| unreachable!("BLAKE3 in hex is a digest: {error}"))
}

async fn inspect(path: PathBuf, digest: ImageDigest, kind: Kind) -> Result<Stored, VaultError> {
    let read = move || {
        let mut file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(VaultError::Missing { digest }),
            opened => opened.map_err(VaultError::file(&path))?,
        };
        let file_bytes = file.metadata().map_err(VaultError::file(&path))?.len();
        match format::inspect(&mut file, kind).map_err(VaultError::file(&path))? {
            Ok(disk) => Ok(Stored { digest, file_bytes, disk }),
            Err(Unfit { what, hint }) => Err(VaultError::Unfit { what, hint }),
        }
    };
    let joined = tokio::task::spawn_blocking(read).await;
    joined.map_err(|error| VaultError::File { path: PathBuf::from(DIRECTORY), source: io::Error::other(error) })?
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    type Chunk = Result<Bytes, &'static str>;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir.join(DIRECTORY)).unwrap().count()
    }

    #[tokio::test]
    async fn content_is_kept_under_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &name("c1")).unwrap();
        let chunks: Vec<Chunk> = vec![Ok(Bytes::from(vec![0; 512])), Ok(Bytes::from(vec![7; 512]))];
        let stored = vault.receive(Kind::Disk, stream::iter(chunks.clone())).await.unwrap();
        let whole = [vec![0; 512], vec![7; 512]].concat();
        assert_eq!(stored.digest.as_str(), blake3::hash(&whole).to_hex().as_str());
        assert_eq!(stored.disk.map(|disk| disk.virtual_bytes), Some(1024));
        assert_eq!(vault.receive(Kind::Disk, stream::iter(chunks)).await.unwrap(), stored, "twice is once");
        assert_eq!(vault.inspect(&stored.digest, Kind::Disk).await.unwrap(), stored);
        assert!(vault.inspect(&stored.digest, Kind::Kernel).await.is_err());
        assert_eq!(vault.open_blob(&stored.digest).await.unwrap().1, 1024);
        assert_eq!(files(dir.path()), 1);
        assert_eq!(vault.collect(&HashSet::new()).await.unwrap(), 0, "too young to be collected");
        let old = SystemTime::now() - 2 * UNNAMED_TIME_MAX;
        let path = vault.path(&stored.digest);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        assert_eq!(vault.collect(&HashSet::from([stored.digest.clone()])).await.unwrap(), 0, "it is named");
        assert_eq!(vault.collect(&HashSet::new()).await.unwrap(), 1);
        assert!(matches!(vault.open_blob(&stored.digest).await, Err(VaultError::Missing { .. })));
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &name("c1")).unwrap();
        let check = async |chunks: Vec<Chunk>, want: &str| {
            let error = vault.receive(Kind::Disk, stream::iter(chunks)).await.expect_err(want);
            let failure = Failure::from(error);
            assert!(failure.detail.contains(want), "{failure} lacks {want}");
            assert!(failure.hint.is_some());
            assert_eq!(files(dir.path()), 0);
        };
        check(vec![], "empty").await;
        check(vec![Ok(Bytes::from("hello, world"))], "text").await;
        check(vec![Ok(Bytes::from(vec![0; 512])), Err("connection reset")], "broke off after 512 bytes").await;
    }

    #[tokio::test]
    async fn content_that_is_not_what_was_announced_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), &name("c1")).unwrap();
        let check = async |format, bytes, want: Result<(), &str>| {
            let chunks: Vec<Chunk> = vec![Ok(Bytes::from(vec![0; 512])), Ok(Bytes::from(vec![7; 512]))];
            let announced = Announced { kind: Kind::Disk, format, bytes };
            let got = vault.receive_summed(announced, stream::iter(chunks)).await;
            match (want, got) {
                (Ok(()), Ok((stored, sums))) => {
                    assert_eq!((stored.file_bytes, sums.md5.len(), sums.sha512.len()), (1024, 32, 128));
                    std::fs::remove_file(vault.path(&stored.digest)).unwrap();
                }
                (Err(want), Err(error)) => {
                    let failure = Failure::from(error);
                    assert!(failure.detail.contains(want) && failure.hint.is_some(), "{failure} lacks {want}");
                }
                (want, got) => panic!("{want:?} expected, not {got:?}"),
            }
            assert_eq!(files(dir.path()), 0);
        };
        check(None, None, Ok(())).await;
        check(Some(DiskFormat::Raw), Some(1024), Ok(())).await;
        check(Some(DiskFormat::Qcow2), None, Err("it is raw, not qcow2")).await;
        check(None, Some(1023), Err("1024 bytes where 1023")).await;
        check(None, Some(100), Err("512 bytes where 100")).await;
        check(None, Some(1025), Err("1024 bytes where 1025")).await;
    }

    #[tokio::test]
    async fn a_start_removes_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        Vault::open(dir.path(), &name("c1")).unwrap();
        std::fs::write(dir.path().join(DIRECTORY).join(".incoming-c1@1"), "x").unwrap();
        Vault::open(dir.path(), &name("c11")).unwrap();
        assert_eq!(files(dir.path()), 1, "another controller's upload was ended");
        Vault::open(dir.path(), &name("c1")).unwrap();
        assert_eq!(files(dir.path()), 0);
    }
}
