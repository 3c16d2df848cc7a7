//! Background verification after a move: the frozen source against the disk that the guest now runs on.
//!
//! ```text
//!  source (frozen, read-only export)                target (running guest, read-only export)
//!  per disk:
//!    VerifySums(64 MiB: digest of each 1 MiB) ────▶ digests of its own; chunks that differ are noted
//!    ...to the end of the disk
//!    ◀──────────────────── VerifyAsk(chunk) ──────  for each chunk that differs
//!    VerifyBlocks(digest of each 64 KiB) ─────────▶ reads the chunk again; blocks that differ are noted
//!                                                   *then* asks what the guest has written: exempt
//!    ◀──────────────────── VerifyReport ──────────
//! ```
//!
//! Ground rules:
//! - the bitmap is read after the comparison: a write that the comparison saw is in it for certain;
//! - the digest of a disk is `BLAKE3(d0 ‖ d1 ‖ …)`, where `d(i)` is the plain BLAKE3 of bytes `[i MiB, (i+1) MiB)` of the
//!   frozen disk, zeros hashed like any content, the last chunk as short as the disk ends: any tool can recompute it;
//! - it is background work: few reads at once, and a rate limit on the source, which paces both sides.

mod source;
mod sums;
mod target;

use serde::{Deserialize, Serialize};
use whimbrel_core::disk::DiskName;

pub use self::{source::verify_source, target::verify_target};
use crate::nbd::NbdPool;

/// A report lists no more mismatches than this; their bytes are all counted.
pub const MISMATCHES_LISTED_MAX: usize = 256;

#[derive(Clone, Debug)]
pub struct VerifyDisk {
    pub name: DiskName,
    /// Source: read-only export of the frozen disk. Target: read-only export of the running guest's disk.
    /// With `base:allocation`, holes are not read.
    pub pool: NbdPool,
}

/// The result of one disk, the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    pub disk: DiskName,
    /// Bytes that were compared: the disk's size.
    pub compared_bytes: u64,
    /// Bytes that differ where the guest has written since (as the bitmap says).
    pub exempt_bytes: u64,
    /// Bytes that differ and should not.
    pub mismatch_bytes: u64,
    /// The first of them, (offset, len).
    pub mismatches: Vec<(u64, u64)>,
    /// The frozen disk's digest, lower-case hex.
    pub digest: String,
}

impl VerifyReport {
    pub fn is_equal(&self) -> bool {
        self.mismatch_bytes == 0
    }
}
