//! Two images behind two storage daemons, and the streams between their sides.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use tempfile::TempDir;
use tokio::io::{BufStream, duplex};
use whimbrel_core::disk::DiskName;
use whimbrel_transfer::{
    Buffer, NbdPool, TransferError,
    extent::{CONTEXT_ALLOCATION, CONTEXT_DEPTH},
    link::Stream,
    receive::{Receiver, Sink, TargetDisk},
    send::{DiskRound, Due, Origin, Sender, Zeros},
};

use crate::qemu::{Daemon, Version, text};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
/// No multiple of a chunk, a block or a cluster.
pub const DISK_BYTES: u64 = 40 * MIB + 68 * KIB + 1536;
pub const STREAMS: usize = 3;
pub const IDLE: Duration = Duration::from_secs(20);
const SOCKET_BYTES: usize = 200 << 10;

/// Content that differs at every place and for every seed, and is never zero.
pub fn content(seed: u8, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let mut noise = blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof();
    noise.set_position(offset);
    noise.fill(&mut bytes);
    bytes.iter_mut().for_each(|byte| *byte |= 1);
    bytes
}

/// A directory with images; the model is what the source disk holds.
pub struct Images {
    pub dir: TempDir,
    pub model: Vec<u8>,
}

impl Images {
    /// A source image with data in several places, written zeros within, and holes.
    pub fn new(version: Version) -> Result<Images> {
        let mut images = Images { dir: tempfile::tempdir()?, model: vec![0; DISK_BYTES as usize] };
        for (offset, len) in
            [(0, 3 * MIB), (5 * MIB + 64 * KIB, 128 * KIB), (20 * MIB, 6 * MIB), (DISK_BYTES - 1536, 1536)]
        {
            images.put(offset, &content(1, offset, len));
        }
        images.put(21 * MIB + 128 * KIB, &[0; 192 << 10]);
        images.put(24 * MIB, &[0; 1 << 20]);
        images.write_image(version, "source")?;
        Ok(images)
    }

    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.model[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Makes an image that holds the model.
    pub fn write_image(&self, version: Version, name: &str) -> Result<()> {
        let raw = self.path("model.raw");
        std::fs::write(&raw, &self.model)?;
        // Shorter runs of zeros stay allocated data, as a guest leaves them.
        version.img(&["convert", "-S", "512k", "-O", "qcow2", text(&raw), text(&self.image(name))])?;
        Ok(())
    }

    pub fn fresh(&self, version: Version, name: &str) -> Result<()> {
        let size = DISK_BYTES.to_string();
        version.img(&["create", "-q", "-f", "qcow2", text(&self.image(name)), &size]).map(|_| ())
    }

    pub fn overlay(&self, version: Version, name: &str, base: &str) -> Result<()> {
        let (image, base) = (self.image(name), self.image(base));
        version.img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", text(&base), text(&image)]).map(|_| ())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn image(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.qcow2"))
    }

    /// Fails unless the image holds the model.
    pub fn check(&self, version: Version, name: &str) -> Result<()> {
        let raw = self.path("model.raw");
        std::fs::write(&raw, &self.model)?;
        version.img(&["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&self.image(name))]).map(|_| ())
    }
}

pub async fn serve(version: Version, image: &Path, writable: bool) -> Result<Daemon> {
    Daemon::start(version, image, writable, "cache.direct=off", "driver=qcow2").await
}

pub fn name() -> DiskName {
    "root".parse().expect("a good name")
}

/// Streams that hold back what is not flushed, as TLS does.
pub fn streams() -> (Vec<Stream>, Vec<Stream>) {
    let hold_back = |half| Box::new(BufStream::with_capacity(8 << 10, 128 << 10, half)) as Stream;
    let pairs = (0..STREAMS).map(|_| duplex(SOCKET_BYTES));
    pairs.map(|(near, far)| (hold_back(near), hold_back(far))).unzip()
}

/// Both sides of a running copy of one disk.
pub struct Pair {
    pub from: Daemon,
    pub to: Daemon,
    pub pool: NbdPool,
    pub sender: Sender,
    pub receiver: Receiver,
}

impl Pair {
    pub async fn start(
        versions: (Version, Version),
        images: &Images,
        source: &str,
        target: &str,
        writable: bool,
    ) -> Result<Pair> {
        let from = serve(versions.0, &images.image(source), writable).await?;
        let to = serve(versions.1, &images.image(target), true).await?;
        let contexts: &[&str] = if writable { &[CONTEXT_ALLOCATION] } else { &[CONTEXT_ALLOCATION, CONTEXT_DEPTH] };
        let pool = from.pool(3, contexts).await?;
        let (near, far) = streams();
        let receiver =
            Receiver::start(far, vec![TargetDisk { name: name(), sink: Sink::Export(to.pool(2, &[]).await?) }]);
        Ok(Pair { from, to, pool, sender: Sender::start(near, vec![name()]), receiver })
    }

    pub fn part(&self, due: Due, zeros: Zeros) -> Vec<DiskRound> {
        vec![DiskRound { disk: 0, origin: Origin::Export(self.pool.clone()), due, zeros }]
    }

    /// One round, confirmed.
    pub async fn round(&mut self, round: u32, due: Due, zeros: Zeros) -> Result<(), TransferError> {
        let part = self.part(due, zeros);
        let totals = self.sender.round(round, part).await?;
        self.receiver.await_round(round, &totals, IDLE).await
    }

    /// Ends in order; the images are whole then.
    pub async fn finish(self) -> Result<()> {
        let Pair { from, to, pool, sender, receiver } = self;
        let (sent, received) = tokio::join!(sender.finish(), receiver.finish());
        sent?;
        received?;
        pool.disconnect().await;
        to.quit().await?;
        from.quit().await
    }
}

/// Waits for a level, not for an edge.
pub async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let mut poll = tokio::time::interval(Duration::from_millis(2));
    let waited = tokio::time::timeout(IDLE, async {
        while !holds() {
            poll.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "waited {IDLE:?} for {what}");
}

/// Writes to a disk as its guest would, and to the model.
pub async fn guest_writes(pool: &NbdPool, images: &mut Images, offset: u64, bytes: Vec<u8>) -> Result<()> {
    images.put(offset, &bytes);
    Ok(pool.write(offset, Buffer::from(bytes)).await?)
}

pub async fn guest_zeros(pool: &NbdPool, images: &mut Images, offset: u64, len: u64) -> Result<()> {
    images.put(offset, &vec![0; len as usize]);
    Ok(pool.write_zeroes(offset, len, false).await?)
}
