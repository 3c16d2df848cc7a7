//! Digests of a disk's chunks, with holes left unread.

use std::sync::LazyLock;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::VerifyDisk;
use crate::{
    buffer::{Buffer, BufferPool, CHUNK_BYTES},
    error::TransferError,
    extent::{ALLOCATION_ZERO, CONTEXT_ALLOCATION, Extent},
    frame::{BLOCK_BYTES, Digest},
    nbd::Fault,
    rate::RateLimit,
    zeros::is_zero,
};

/// Reads in flight: background work leaves the disk to the guest.
const READS_IN_FLIGHT: usize = 4;

static ZERO_CHUNK_DIGEST: LazyLock<Digest> = LazyLock::new(|| *blake3::hash(&[0; CHUNK_BYTES]).as_bytes());

/// Reads one side's disks for comparison.
pub(super) struct Summer {
    buffers: BufferPool,
    rate: RateLimit,
}

impl Summer {
    pub(super) fn new(read_bps: Option<u64>) -> Self {
        Summer { buffers: BufferPool::new(READS_IN_FLIGHT), rate: RateLimit::new(read_bps) }
    }

    /// Digests of the 1 MiB chunks of a span, which begins at a chunk.
    pub(super) async fn chunk_digests(
        &self,
        disk: &VerifyDisk,
        offset: u64,
        len: u64,
    ) -> Result<Vec<Digest>, TransferError> {
        let zeros = zero_extents(disk, offset, len).await?;
        let end = offset + len;
        let digests = (offset..end).step_by(CHUNK_BYTES).map(|at| {
            let len = (end - at).min(CHUNK_BYTES as u64);
            let hole = zeros.iter().any(|zero| zero.offset <= at && at + len <= zero.end());
            async move { if hole { Ok(digest_of_zeros(len)) } else { self.chunk_digest(disk, at, len).await } }
        });
        stream::iter(digests).buffered(READS_IN_FLIGHT).try_collect().await
    }

    async fn chunk_digest(&self, disk: &VerifyDisk, offset: u64, len: u64) -> Result<Digest, TransferError> {
        let chunk = self.read(disk, offset, len).await?;
        Ok(if is_zero(&chunk) { digest_of_zeros(len) } else { *blake3::hash(&chunk).as_bytes() })
    }

    /// Digests of the 64 KiB blocks of one chunk, one after the other.
    pub(super) async fn block_digests(
        &self,
        disk: &VerifyDisk,
        offset: u64,
        len: u64,
    ) -> Result<Vec<u8>, TransferError> {
        let chunk = self.read(disk, offset, len).await?;
        Ok(chunk.chunks(BLOCK_BYTES as usize).flat_map(|block| *blake3::hash(block).as_bytes()).collect())
    }

    async fn read(&self, disk: &VerifyDisk, offset: u64, len: u64) -> Result<Buffer, TransferError> {
        self.rate.take(len).await;
        let buffer = self.buffers.take(len as usize).await;
        let read = disk.pool.read_data(offset, buffer).await;
        read.map_err(|source| TransferError::Disk { disk: disk.name.to_string(), doing: "reading", source })
    }
}

/// What of a span is known to read as zeros. An export that cannot say so (an inactivated disk of a newer QEMU) is read whole.
async fn zero_extents(disk: &VerifyDisk, offset: u64, len: u64) -> Result<Vec<Extent>, TransferError> {
    let mut zeros = Vec::new();
    if !disk.pool.has_context(CONTEXT_ALLOCATION) {
        return Ok(zeros);
    }
    let (mut at, end) = (offset, offset + len);
    while at < end {
        let extents = match disk.pool.block_status(CONTEXT_ALLOCATION, at, end - at).await {
            Ok(extents) => extents,
            Err(error) if matches!(error.fault, Fault::Failed { .. }) => return Ok(Vec::new()),
            Err(source) => {
                return Err(TransferError::Disk { disk: disk.name.to_string(), doing: "finding holes", source });
            }
        };
        at = extents.last().map_or(end, Extent::end);
        zeros.extend(extents.into_iter().filter(|extent| extent.flags & ALLOCATION_ZERO != 0));
    }
    Ok(zeros)
}

fn digest_of_zeros(len: u64) -> Digest {
    if len == CHUNK_BYTES as u64 { *ZERO_CHUNK_DIGEST } else { *blake3::hash(&vec![0; len as usize]).as_bytes() }
}
