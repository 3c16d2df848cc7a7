//! The two tasks of each data stream on the source.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, mpsc},
};

use super::asks::Asks;
use crate::{
    buffer::Buffer,
    counters::SendCounters,
    error::TransferError,
    fault::FirstFault,
    frame::{HEADER_BYTES, Header, Kind},
    framed::{FrameReader, FrameWriter},
    rate::RateLimit,
};

/// Frames that share a buffer.
pub(super) struct Batch {
    pub buffer: Option<Buffer>,
    /// Each with its payload's place in the buffer.
    pub frames: Vec<(Header, Range<usize>)>,
}

pub(super) struct StreamShared {
    /// Whichever stream is free takes the next.
    pub queue: Mutex<mpsc::Receiver<Batch>>,
    pub counters: Arc<SendCounters>,
    pub rate: Arc<RateLimit>,
    pub asks: Arc<Asks>,
    pub fault: FirstFault,
    pub in_round: Arc<AtomicBool>,
}

impl StreamShared {
    /// A batch that can be had without waiting. A stream that waits holds the lock, so a held lock means an empty queue.
    fn next_at_hand(&self) -> Option<Batch> {
        self.queue.try_lock().ok()?.try_recv().ok()
    }
}

pub(super) async fn write(io: impl AsyncWrite + Unpin, index: usize, shared: Arc<StreamShared>) {
    if let Err(error) = write_batches(FrameWriter::new(io, index), &shared).await {
        shared.fault.set(error);
    }
}

async fn write_batches<W: AsyncWrite + Unpin>(
    mut frames: FrameWriter<W>,
    shared: &StreamShared,
) -> Result<(), TransferError> {
    let counters = &shared.counters;
    loop {
        let batch = match shared.next_at_hand() {
            Some(batch) => batch,
            None => {
                // Whoever waits must have pushed out what TLS holds back: the target may be waiting for just that.
                frames.flush().await?;
                let (waited, in_round) = (Instant::now(), shared.in_round.load(Relaxed));
                let Some(batch) = shared.queue.lock().await.recv().await else {
                    return frames.end().await;
                };
                if in_round {
                    counters.starved_us.add_since(waited);
                }
                batch
            }
        };
        let bytes = batch.frames.iter().map(|(header, _)| u64::from(header.payload) + HEADER_BYTES as u64).sum();
        shared.rate.take(bytes).await;
        // Counted first: once the target has confirmed a round, the counters must hold all of it.
        counters.wire.add(bytes);
        count(counters, &batch);
        let started = Instant::now();
        for (header, range) in &batch.frames {
            let payload = batch.buffer.as_ref().map_or(&[][..], |buffer| &buffer[range.clone()]);
            frames.write(header, payload).await?;
        }
        counters.blocked_us.add_since(started);
    }
}

fn count(counters: &SendCounters, batch: &Batch) {
    for (header, _) in &batch.frames {
        let disk = &counters.disks[usize::from(header.disk)];
        let of_disk = match header.kind {
            Kind::Data | Kind::Image => &disk.sent,
            Kind::Zero => &disk.zero,
            // Questions are not content.
            Kind::DigestAsk
            | Kind::DigestAnswer
            | Kind::VerifySums
            | Kind::VerifyAsk
            | Kind::VerifyBlocks
            | Kind::VerifyReport
            | Kind::End => continue,
        };
        of_disk.add(u64::from(header.len));
        disk.done.add(u64::from(header.len));
    }
}

pub(super) async fn read(io: impl AsyncRead + Unpin, index: usize, shared: Arc<StreamShared>) {
    if let Err(error) = read_answers(FrameReader::new(io, index), &shared.asks).await {
        shared.fault.set(error);
    }
}

async fn read_answers<R: AsyncRead + Unpin>(mut frames: FrameReader<R>, asks: &Asks) -> Result<(), TransferError> {
    loop {
        let header = frames.header().await?;
        match header.kind {
            Kind::DigestAnswer => {
                let payload = frames.checked_payload(&header).await?;
                if !asks.answer(&header, &payload) {
                    let what =
                        format!("digests of disk {} at {}, which were not asked for", header.disk, header.offset);
                    return Err(TransferError::Protocol(what));
                }
            }
            Kind::End => return Ok(()),
            kind @ (Kind::Data
            | Kind::Image
            | Kind::Zero
            | Kind::DigestAsk
            | Kind::VerifySums
            | Kind::VerifyAsk
            | Kind::VerifyBlocks
            | Kind::VerifyReport) => {
                return Err(TransferError::Protocol(format!(
                    "a {kind:?} frame from the target on data stream {}",
                    frames.stream
                )));
            }
        }
    }
}
