//! The file of an image on the source.
//!
//! An image that has just come here, or from which a guest just booted, is often in the page cache as a whole: then it is
//! taken from there. Any other is read past the cache (O_DIRECT): a move shall not push out what the host works with.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use rustix::io::{ReadWriteFlags, preadv2};

use super::{aligned, courtesy::Courtesy};
use crate::{buffer::Buffer, error::TransferError};

/// Places of the file that are looked for in the page cache; if each is there, so is the rest.
const SAMPLES: u64 = 32;

#[derive(Debug)]
pub struct ImageSource {
    path: PathBuf,
    file: Arc<File>,
    cached: bool,
    bytes: u64,
    courtesy: Arc<Courtesy>,
}

impl ImageSource {
    /// Both are open for reading, `direct` with O_DIRECT where the file system has it; nobody writes to the file.
    pub fn new(path: PathBuf, cached: File, direct: File) -> io::Result<ImageSource> {
        let bytes = cached.metadata()?.len();
        let step = (bytes / SAMPLES).max(1);
        let found = (0..bytes)
            .step_by(usize::try_from(step).unwrap_or(usize::MAX))
            .all(|at| read_at_once(&cached, at, &mut [0]));
        let file = Arc::new(if found { cached } else { direct });
        Ok(ImageSource { path, file, cached: found, bytes, courtesy: Arc::default() })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills the whole buffer from `offset`.
    pub(crate) async fn read(&self, offset: u64, mut buffer: Buffer) -> Result<Buffer, TransferError> {
        if self.cached && read_at_once(&self.file, offset, &mut buffer) {
            return Ok(buffer);
        }
        let (file, courtesy) = (self.file.clone(), self.courtesy.clone());
        let read = move || courtesy.after_others(|| read_aligned(&file, offset, buffer));
        let read = tokio::task::spawn_blocking(read);
        let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error| TransferError::image(&self.path, "reading", error))
    }
}

/// Whether the page cache held all of it. Never waits for the disk; any difficulty is left to a read that does.
fn read_at_once(file: &File, offset: u64, buffer: &mut [u8]) -> bool {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset + filled as u64;
        match preadv2(file, &mut [IoSliceMut::new(&mut buffer[filled..])], at, ReadWriteFlags::NOWAIT) {
            Ok(more) if more > 0 => filled += more,
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

fn read_aligned(file: &File, offset: u64, mut buffer: Buffer) -> io::Result<Buffer> {
    let len = buffer.len();
    buffer.set_len(aligned(len));
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
    }
    buffer.set_len(len);
    Ok(buffer)
}
