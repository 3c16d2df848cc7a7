//! From what is due to pieces of work: extents of each disk, cut at chunk boundaries.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet};

use super::{DiskRound, Due, Origin, work::RoundShared};
use crate::{
    buffer::CHUNK_BYTES,
    error::TransferError,
    extent::{ALLOCATION_ZERO, BITMAP_DIRTY, CONTEXT_ALLOCATION, CONTEXT_DEPTH, DEPTH_TOP, Extent, bitmap_context},
    frame::{DIGEST_SPAN_BYTES, ZERO_BYTES_MAX},
    nbd::NbdPool,
    totals::DiskTotals,
};

/// How far the walk over a disk's extents may run ahead of the copy, so that progress knows early what is due.
const EXTENTS_AHEAD: usize = 32 << 10;

/// What is known of a range before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Allocated data: read without asking for holes.
    Data,
    /// Reads as zeros: not read at all.
    Zero,
    /// Anything.
    Unknown,
}

/// One piece of work. `part` is an index into the round's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub part: usize,
    pub offset: u64,
    pub len: u32,
    pub content: Content,
    /// Only what differs from the target's is shipped.
    pub compare: bool,
}

type Tasks = JoinSet<Result<Vec<DiskTotals>, TransferError>>;

/// Starts the walk over each disk, and the one task that cuts their extents in order.
pub(super) fn start(tasks: &mut Tasks, shared: &Arc<RoundShared>, work: mpsc::Sender<Piece>) {
    let mut walks = Vec::new();
    for part in 0..shared.parts.len() {
        let (found, extents) = mpsc::channel(EXTENTS_AHEAD);
        let shared = shared.clone();
        tasks.spawn(async move { walk(&shared, part, found).await.map(|()| Vec::new()) });
        walks.push(extents);
    }
    let shared = shared.clone();
    tasks.spawn(async move {
        for (part, mut extents) in walks.into_iter().enumerate() {
            while let Some((extent, content)) = extents.recv().await {
                for piece in cut(part, extent, content, matches!(shared.parts[part].due, Due::Digest)) {
                    // A closed queue: the round is over, by an error that is known elsewhere.
                    if work.send(piece).await.is_err() {
                        return Ok(Vec::new());
                    }
                }
            }
        }
        Ok(Vec::new())
    });
}

async fn walk(shared: &RoundShared, part: usize, found: mpsc::Sender<(Extent, Content)>) -> Result<(), TransferError> {
    let DiskRound { origin, due, .. } = &shared.parts[part];
    let (pool, context) = match (due, origin) {
        (Due::Allocated | Due::Digest, Origin::Export(pool)) => (pool, CONTEXT_ALLOCATION.to_owned()),
        (Due::TopLayer, Origin::Export(pool)) => (pool, CONTEXT_DEPTH.to_owned()),
        (Due::Bitmap { pool: shown, bitmap }, Origin::Export(pool)) => {
            if shown.size() != pool.size() {
                let (name, size) = (shared.name(part), pool.size());
                let what = format!("the bitmap of disk {name} covers {} bytes of {size}", shown.size());
                return Err(TransferError::Protocol(what));
            }
            (shown, bitmap_context(bitmap))
        }
        (Due::Ranges(ranges), Origin::Export(_) | Origin::Image(_)) => {
            for extent in ranges {
                note(shared, part, *extent, Content::Unknown, &found).await;
            }
            return Ok(());
        }
        (Due::Allocated | Due::Digest | Due::TopLayer | Due::Bitmap { .. }, Origin::Image(_)) => {
            let what = format!("the extents of an image were asked for, of disk {}", shared.name(part));
            return Err(TransferError::Protocol(what));
        }
    };
    walk_context(shared, part, pool, &context, &found).await
}

async fn walk_context(
    shared: &RoundShared,
    part: usize,
    pool: &NbdPool,
    context: &str,
    found: &mpsc::Sender<(Extent, Content)>,
) -> Result<(), TransferError> {
    let failed = |source| TransferError::Disk { disk: shared.name(part), doing: "finding what is due", source };
    let counters = shared.counters(part);
    let mut walk = pool.extents(context);
    while let Some(batch) = walk.next().await.map_err(failed)? {
        for extent in batch {
            let content = match &shared.parts[part].due {
                Due::Allocated | Due::Digest if extent.flags & ALLOCATION_ZERO != 0 => Content::Zero,
                Due::Allocated | Due::Digest => Content::Data,
                Due::TopLayer if extent.flags == DEPTH_TOP => Content::Unknown,
                // Deeper layers are the base image, which the target has; 0 is nowhere allocated.
                Due::TopLayer => {
                    counters.reused.add(if extent.flags == 0 { 0 } else { extent.len });
                    continue;
                }
                Due::Bitmap { .. } if extent.flags & BITMAP_DIRTY != 0 => Content::Unknown,
                Due::Bitmap { .. } => continue,
                Due::Ranges(_) => Content::Unknown,
            };
            note(shared, part, extent, content, found).await;
        }
    }
    Ok(())
}

async fn note(
    shared: &RoundShared,
    part: usize,
    extent: Extent,
    content: Content,
    found: &mpsc::Sender<(Extent, Content)>,
) {
    let counters = shared.counters(part);
    if content == Content::Zero && shared.parts[part].leaves_zeros_out() {
        counters.zero.add(extent.len);
        return;
    }
    counters.due.add(extent.len);
    // The receiver goes away only with the whole round.
    let _ = found.send((extent, content)).await;
}

/// Pieces of an extent, none across a multiple of its kind's largest size.
fn cut(part: usize, extent: Extent, content: Content, compare: bool) -> impl Iterator<Item = Piece> {
    let step = match (compare, content) {
        (true, _) => u64::from(DIGEST_SPAN_BYTES),
        (false, Content::Zero) => u64::from(ZERO_BYTES_MAX),
        (false, Content::Data | Content::Unknown) => CHUNK_BYTES as u64,
    };
    let mut offset = extent.offset;
    std::iter::from_fn(move || {
        let left = extent.end() - offset;
        let len = left.min(step - offset % step);
        let piece = Piece { part, offset, len: len as u32, content, compare };
        offset += len;
        (len > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_chunk_boundaries_and_cover_the_extent() {
        let chunk = CHUNK_BYTES as u64;
        let check = |offset: u64, len: u64, content, compare, want: &[(u64, u64)]| {
            let pieces = cut(3, Extent { offset, len, flags: 0 }, content, compare);
            let got: Vec<_> = pieces.map(|piece| (piece.offset, u64::from(piece.len))).collect();
            assert_eq!(got, want, "{len} bytes at {offset}");
        };
        check(0, 0, Content::Data, false, &[]);
        check(512, chunk, Content::Data, false, &[(512, chunk - 512), (chunk, 512)]);
        check(chunk, 2 * chunk, Content::Unknown, false, &[(chunk, chunk), (2 * chunk, chunk)]);
        check(chunk, 300 * chunk, Content::Zero, false, &[(chunk, 255 * chunk), (256 * chunk, 45 * chunk)]);
        check(chunk, 4 * chunk, Content::Data, true, &[(chunk, 3 * chunk), (4 * chunk, chunk)]);
    }
}
