//! What is done with each piece of a round: read, leave out what need not travel, hash, hand to the streams.

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use tokio::sync::{Mutex, mpsc};
use whimbrel_core::disk::DiskName;

use super::{
    DiskRound, Origin,
    asks::{ANSWER_DEADLINE, Asks},
    plan::{Content, Piece},
    streams::Batch,
};
use crate::{
    buffer::{Buffer, BufferPool, CHUNK_BYTES},
    counters::{DiskCounters, SendCounters},
    error::TransferError,
    frame::{BLOCK_BYTES, Digest, Header, Kind},
    totals::DiskTotals,
    zeros::{self, is_zero},
};

static ZERO_BLOCK_DIGEST: LazyLock<Digest> = LazyLock::new(|| *blake3::hash(&[0; BLOCK_BYTES as usize]).as_bytes());

/// What all workers of a round share.
pub(super) struct RoundShared {
    pub round: u32,
    pub parts: Vec<DiskRound>,
    pub names: Arc<[DiskName]>,
    pub work: Mutex<mpsc::Receiver<Piece>>,
    pub buffers: BufferPool,
    pub batches: mpsc::Sender<Batch>,
    pub counters: Arc<SendCounters>,
    pub asks: Arc<Asks>,
}

impl RoundShared {
    pub(super) fn name(&self, part: usize) -> String {
        self.names[usize::from(self.parts[part].disk)].to_string()
    }
    pub(super) fn counters(&self, part: usize) -> &DiskCounters {
        &self.counters.disks[usize::from(self.parts[part].disk)]
    }
}

/// Takes pieces until there are none; returns what it shipped, one entry per part.
pub(super) async fn run(shared: Arc<RoundShared>) -> Result<Vec<DiskTotals>, TransferError> {
    let totals = shared.parts.iter().map(|part| DiskTotals::new(part.disk)).collect();
    let mut worker = Worker { shared, totals };
    loop {
        let piece = worker.shared.work.lock().await.recv().await;
        let Some(piece) = piece else {
            return Ok(worker.totals);
        };
        if piece.compare {
            worker.compare(piece).await?;
        } else if piece.content == Content::Zero {
            worker.ship_zero(piece.part, piece.offset, piece.len).await?;
        } else {
            worker.copy(piece).await?;
        }
    }
}

struct Worker {
    shared: Arc<RoundShared>,
    totals: Vec<DiskTotals>,
}

impl Worker {
    async fn read(&self, part: usize, offset: u64, len: usize, known_data: bool) -> Result<Buffer, TransferError> {
        let buffer = self.shared.buffers.take(len).await;
        let pool = match &self.shared.parts[part].origin {
            Origin::Export(pool) => pool,
            Origin::Image(image) => return image.read(offset, buffer).await,
        };
        let read = if known_data { pool.read_data(offset, buffer).await } else { pool.read(offset, buffer).await };
        read.map_err(|source| TransferError::Disk { disk: self.shared.name(part), doing: "reading", source })
    }

    fn header(&mut self, part: usize, kind: Kind, offset: u64, len: u32, payload: &[u8]) -> Header {
        let header = Header::new(kind, self.shared.parts[part].disk, self.shared.round, offset, len, payload);
        self.totals[part].add(&header);
        header
    }

    async fn ship(&self, buffer: Option<Buffer>, frames: Vec<(Header, Range<usize>)>) -> Result<(), TransferError> {
        if frames.is_empty() {
            return Ok(());
        }
        let sent = self.shared.batches.send(Batch { buffer, frames }).await;
        sent.map_err(|_| TransferError::Closed("the data streams have ended".to_owned()))
    }

    async fn ship_zero(&mut self, part: usize, offset: u64, len: u32) -> Result<(), TransferError> {
        let header = self.header(part, Kind::Zero, offset, len, &[]);
        self.ship(None, vec![(header, 0..0)]).await
    }

    async fn copy(&mut self, piece: Piece) -> Result<(), TransferError> {
        let Piece { part, offset, len, content, .. } = piece;
        let buffer = self.read(part, offset, len as usize, content == Content::Data).await?;
        if let Origin::Image(_) = self.shared.parts[part].origin {
            return self.ship_image(part, offset, buffer).await;
        }
        let mut frames = Vec::new();
        for run in zeros::runs(&buffer) {
            self.frame_run(part, offset, run, &buffer, &mut frames);
        }
        self.ship(Some(buffer), frames).await
    }

    /// Whole chunks only: each is a leaf of the image's digest.
    async fn ship_image(&mut self, part: usize, offset: u64, buffer: Buffer) -> Result<(), TransferError> {
        let len = buffer.len();
        if is_zero(&buffer) {
            return self.ship_zero(part, offset, len as u32).await;
        }
        let header = self.header(part, Kind::Image, offset, len as u32, &buffer);
        self.ship(Some(buffer), vec![(header, 0..len)]).await
    }

    /// One frame for a run of the chunk at `offset`, or none where zeros are left out.
    fn frame_run(
        &mut self,
        part: usize,
        offset: u64,
        run: zeros::Run,
        buffer: &[u8],
        frames: &mut Vec<(Header, Range<usize>)>,
    ) {
        let (start, len, range) = (offset + run.start as u64, run.len as u32, run.start..run.start + run.len);
        if !run.zero {
            let header = self.header(part, Kind::Data, start, len, &buffer[range.clone()]);
            frames.push((header, range));
        } else if !self.shared.parts[part].leaves_zeros_out() {
            let header = self.header(part, Kind::Zero, start, len, &[]);
            frames.push((header, 0..0));
        } else {
            let counters = self.shared.counters(part);
            counters.zero.add(u64::from(len));
            counters.done.add(u64::from(len));
        }
    }

    /// Asks the target for the digests of the piece's blocks and ships those that differ.
    async fn compare(&mut self, piece: Piece) -> Result<(), TransferError> {
        let digests = self.ask(&piece).await?;
        if digests.len() != piece.len.div_ceil(BLOCK_BYTES) as usize {
            let what =
                format!("{} digests for {} bytes of disk {}", digests.len(), piece.len, self.shared.name(piece.part));
            return Err(TransferError::Protocol(what));
        }
        let end = piece.offset + u64::from(piece.len);
        let mut digests = &digests[..];
        let mut offset = piece.offset;
        while offset < end {
            let len = (end - offset).min(CHUNK_BYTES as u64) as u32;
            let (theirs, rest) = digests.split_at(len.div_ceil(BLOCK_BYTES) as usize);
            if piece.content == Content::Zero {
                self.compare_zero(piece.part, offset, len, theirs).await?;
            } else {
                self.compare_chunk(piece.part, offset, len, theirs).await?;
            }
            (digests, offset) = (rest, offset + u64::from(len));
        }
        Ok(())
    }

    async fn ask(&self, piece: &Piece) -> Result<Vec<Digest>, TransferError> {
        let disk = self.shared.parts[piece.part].disk;
        let answered = self.shared.asks.open(disk, piece.offset);
        let header = Header::new(Kind::DigestAsk, disk, self.shared.round, piece.offset, piece.len, &[]);
        self.ship(None, vec![(header, 0..0)]).await?;
        match tokio::time::timeout(ANSWER_DEADLINE, answered).await {
            Ok(Ok(digests)) => Ok(digests),
            Ok(Err(_)) => Err(TransferError::Closed("the data streams have ended".to_owned())),
            Err(_) => Err(TransferError::PeerSilent { silent_ms: ANSWER_DEADLINE.as_millis() as u64 }),
        }
    }

    async fn compare_chunk(
        &mut self,
        part: usize,
        offset: u64,
        len: u32,
        theirs: &[Digest],
    ) -> Result<(), TransferError> {
        let buffer = self.read(part, offset, len as usize, true).await?;
        let differs = |index: usize, block: &[u8]| {
            let mine = if is_zero(block) && block.len() == BLOCK_BYTES as usize {
                *ZERO_BLOCK_DIGEST
            } else {
                *blake3::hash(block).as_bytes()
            };
            mine != theirs[index]
        };
        let blocks = buffer.chunks(BLOCK_BYTES as usize).enumerate();
        let differing: Vec<bool> = blocks.map(|(index, block)| differs(index, block)).collect();
        let mut frames = Vec::new();
        for same in runs_of(&differing) {
            let (start, end) = (same.start * BLOCK_BYTES as usize, buffer.len().min(same.end * BLOCK_BYTES as usize));
            if !differing[same.start] {
                self.reuse(part, (end - start) as u64);
                continue;
            }
            for run in zeros::runs(&buffer[start..end]) {
                let run = zeros::Run { start: start + run.start, ..run };
                self.frame_run(part, offset, run, &buffer, &mut frames);
            }
        }
        self.ship(Some(buffer), frames).await
    }

    async fn compare_zero(
        &mut self,
        part: usize,
        offset: u64,
        len: u32,
        theirs: &[Digest],
    ) -> Result<(), TransferError> {
        for (index, digest) in theirs.iter().enumerate() {
            let start = index as u32 * BLOCK_BYTES;
            let block = (len - start).min(BLOCK_BYTES);
            let mine = if block == BLOCK_BYTES {
                *ZERO_BLOCK_DIGEST
            } else {
                *blake3::hash(&vec![0; block as usize]).as_bytes()
            };
            if *digest == mine {
                self.reuse(part, u64::from(block));
            } else {
                self.ship_zero(part, offset + u64::from(start), block).await?;
            }
        }
        Ok(())
    }

    fn reuse(&self, part: usize, bytes: u64) {
        let counters = self.shared.counters(part);
        counters.reused.add(bytes);
        counters.done.add(bytes);
    }
}

/// Ranges of equal neighbours.
fn runs_of(flags: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    flags.chunk_by(|one, next| one == next).map(move |run| {
        let range = start..start + run.len();
        start = range.end;
        range
    })
}
