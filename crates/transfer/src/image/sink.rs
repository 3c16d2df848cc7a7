//! The file on the target that becomes the image.
//!
//! It is written past the page cache (O_DIRECT): an image is large, the host's guests do not read it through the cache, and
//! what is not cached needs no memory to be found for it.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Leaf, Leaves, leaf, writer::Writer};
use crate::{
    buffer::{Buffer, CHUNK_BYTES},
    error::TransferError,
    frame::{Digest, Header},
};

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

#[derive(Debug)]
pub struct ImageSink {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    leaves: Mutex<Leaves>,
    writer: Writer,
}

impl ImageSink {
    /// `file` is open for writing, with O_DIRECT where the file system has it, and reads as zeros. `bytes` is the length of
    /// the image. Fails where no thread can be started.
    pub fn new(path: PathBuf, file: File, bytes: u64) -> io::Result<ImageSink> {
        let writer = Writer::start(file.try_clone()?)?;
        Ok(ImageSink { path, file: Arc::new(file), bytes, leaves: Mutex::new(Leaves::new(bytes)), writer })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the frame is a whole chunk at a chunk's place, or the end of the file.
    pub(crate) fn fits(&self, header: &Header) -> bool {
        let (chunk, len) = (CHUNK_BYTES as u64, u64::from(header.len));
        header.offset.is_multiple_of(chunk) && len == chunk.min(self.bytes.saturating_sub(header.offset))
    }

    /// Writes a chunk. Whether it is the image's shows in [`ImageSink::digest`].
    pub(crate) async fn write(&self, offset: u64, buffer: Buffer) -> Result<(), TransferError> {
        let leaf = leaf(offset, &buffer);
        let written = self.writer.write(offset, buffer).await;
        written.map_err(|error| TransferError::image(&self.path, "writing", error))?;
        self.add(offset, leaf);
        Ok(())
    }

    /// A chunk of zeros: they are there already.
    pub(crate) fn leave_zeros(&self, offset: u64, len: usize) {
        self.add(offset, leaf(offset, &ZEROS[..len]));
    }

    fn add(&self, offset: u64, leaf: Leaf) {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).add(offset, leaf);
    }

    /// Cuts the file to the image's length and says the BLAKE3 of what came; `None` if it is not whole. Nothing of it need be
    /// durable yet.
    pub async fn digest(&self) -> Result<Option<Digest>, TransferError> {
        let (file, bytes) = (self.file.clone(), self.bytes);
        self.blocking("cutting", move || file.set_len(bytes)).await?;
        if self.bytes > CHUNK_BYTES as u64 {
            return Ok(self.leaves.lock().unwrap_or_else(PoisonError::into_inner).root());
        }
        let path = self.path.clone();
        self.blocking("reading back", move || Ok(Some(*blake3::hash(&std::fs::read(path)?).as_bytes()))).await
    }

    /// Returns when all of it is durable.
    pub async fn sync(&self) -> Result<(), TransferError> {
        let file = self.file.clone();
        self.blocking("making durable", move || file.sync_all()).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, TransferError> {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| TransferError::image(&self.path, doing, error))
    }
}
