//! The source's side of a round: read what is due, leave out zeros and what the target has, ship the rest.
//!
//! ```text
//!            per disk                          READERS at once                         per stream
//!  extents ─▶ plan ─▶ extents ─▶ cut ─▶ work ─▶ NBD read, find zeros, hash ─▶ batches ─▶ writer ═▶ stream
//!                                                (buffer from the pool)                  (buffer goes home)
//! ```
//!
//! **Order.** Within a round no two chunks overlap, so they travel in any order over any stream. Between rounds nothing
//! may overtake: an old chunk must never land on a newer one. Hence the barrier:
//!
//! ```text
//!  source                                   target
//!  Sender::round(k) ── frames of k ───────▶ writes
//!    └─ totals ────── RoundEnd(k, totals) ▶ Receiver::await_round(k): all written, sums agree
//!  Sender::round(k+1) ◀── confirmed(k) ────┘
//! ```
//!
//! The two control messages are the agents'; the receiver refuses a frame of any round but the one that is open.
//! Memory is `BUFFERS` chunks and some thousands of extents, whatever the disk's size.

mod asks;
mod plan;
mod streams;
mod work;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use whimbrel_core::disk::DiskName;

use self::{
    asks::Asks,
    streams::{Batch, StreamShared},
    work::RoundShared,
};
use crate::{
    buffer::BufferPool, counters::SendCounters, error::TransferError, extent::Extent, fault::FirstFault,
    image::ImageSource, link::Stream, nbd::NbdPool, rate::RateLimit, totals::DiskTotals,
};

/// Chunks that may be in memory at once, being read, hashed or sent.
pub const BUFFERS: usize = 40;
/// Reads in flight over all disks.
const READERS: usize = 24;
const WORK_QUEUE: usize = 64;
const BATCH_QUEUE: usize = 8;
/// All rounds are confirmed by then: only goodbyes are on their way.
const FINISH_DEADLINE: Duration = Duration::from_secs(10);

/// What of a disk is due in a round.
#[derive(Clone, Debug)]
pub enum Due {
    /// All that is allocated (`base:allocation` of the disk's own pool): round 0 of a full copy.
    Allocated,
    /// What the top layer holds (`qemu:allocation-depth` = 1): round 0 where the target has the same base image.
    TopLayer,
    /// What a bitmap marks, read from the export (of a `null-co` node) that shows it.
    Bitmap { pool: NbdPool, bitmap: String },
    /// What differs from the target's copy, found by digests. The whole disk is read (`base:allocation` spares the holes).
    Digest,
    /// These ranges; of an image, the whole of it.
    Ranges(Vec<Extent>),
}

/// What becomes of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// The target's image is fresh and reads as zeros: leave them out. Only for `Due::Allocated` in round 0.
    Skip,
    /// Tell the target to punch a hole.
    Send,
}

/// Where the bytes come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Export of the disk itself; kept open for the whole move.
    Export(NbdPool),
    Image(Arc<ImageSource>),
}

/// One disk's part in a round.
#[derive(Clone, Debug)]
pub struct DiskRound {
    /// Index in the migration's list of disks, as given to `Sender::start`.
    pub disk: u16,
    pub origin: Origin,
    pub due: Due,
    pub zeros: Zeros,
}

impl DiskRound {
    /// All of an image.
    pub fn image(disk: u16, image: Arc<ImageSource>) -> DiskRound {
        let whole = Extent { offset: 0, len: image.bytes(), flags: 0 };
        DiskRound { disk, origin: Origin::Image(image), due: Due::Ranges(vec![whole]), zeros: Zeros::Send }
    }

    /// Only a full copy onto a fresh image may: in any other case the target may hold something where zeros belong.
    fn leaves_zeros_out(&self) -> bool {
        self.zeros == Zeros::Skip && matches!(self.due, Due::Allocated)
    }
}

/// Owns the data streams of a migration on the source, for all rounds.
pub struct Sender {
    disks: Arc<[DiskName]>,
    counters: Arc<SendCounters>,
    rate: Arc<RateLimit>,
    buffers: BufferPool,
    batches: mpsc::Sender<Batch>,
    asks: Arc<Asks>,
    fault: FirstFault,
    in_round: Arc<AtomicBool>,
    writers: JoinSet<()>,
    readers: JoinSet<()>,
}

impl Sender {
    /// `disks` are the migration's disks in the order that both sides agreed on (their index travels in frames).
    pub fn start(streams: Vec<Stream>, disks: Vec<DiskName>) -> Sender {
        let (batches, queue) = mpsc::channel(BATCH_QUEUE);
        let shared = Arc::new(StreamShared {
            queue: Mutex::new(queue),
            counters: Arc::new(SendCounters::new(disks.len())),
            rate: Arc::new(RateLimit::new(None)),
            asks: Arc::new(Asks::default()),
            fault: FirstFault::new(),
            in_round: Arc::default(),
        });
        let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
        for (index, stream) in streams.into_iter().enumerate() {
            let (read, write) = tokio::io::split(stream);
            writers.spawn(streams::write(write, index, shared.clone()));
            readers.spawn(streams::read(read, index, shared.clone()));
        }
        Sender {
            disks: disks.into(),
            counters: shared.counters.clone(),
            rate: shared.rate.clone(),
            buffers: BufferPool::new(BUFFERS),
            batches,
            asks: shared.asks.clone(),
            fault: shared.fault.clone(),
            in_round: shared.in_round.clone(),
            writers,
            readers,
        }
    }

    pub fn counters(&self) -> Arc<SendCounters> {
        self.counters.clone()
    }

    /// Bytes per second over all streams together; `None` is no limit. May change at any time.
    pub fn set_rate(&self, bps: Option<u64>) {
        self.rate.set(bps);
    }

    /// What sets the rate while a round holds the sender.
    pub fn rate(&self) -> Arc<RateLimit> {
        self.rate.clone()
    }

    /// Ships one round and returns when its last byte was given to the streams. The totals (one per entry of `disks`) go to the
    /// target as RoundEnd; the next round may begin only after the target has confirmed them.
    /// Dropping the future cancels the round; the sender is of no further use then.
    pub async fn round(&mut self, round: u32, disks: Vec<DiskRound>) -> Result<Vec<DiskTotals>, TransferError> {
        for part in &disks {
            if usize::from(part.disk) >= self.disks.len() {
                let what = format!("round {round} of disk {}, of {} disks", part.disk, self.disks.len());
                return Err(TransferError::Protocol(what));
            }
        }
        self.in_round.store(true, Relaxed);
        let fault = self.fault.clone();
        let done = tokio::select! {
            biased;
            error = fault.wait() => Err(error),
            done = self.ship(round, disks) => done,
        };
        self.in_round.store(false, Relaxed);
        done
    }

    async fn ship(&self, round: u32, disks: Vec<DiskRound>) -> Result<Vec<DiskTotals>, TransferError> {
        let (work, work_queue) = mpsc::channel(WORK_QUEUE);
        let mut totals: Vec<DiskTotals> = disks.iter().map(|part| DiskTotals::new(part.disk)).collect();
        let shared = Arc::new(RoundShared {
            round,
            parts: disks,
            names: self.disks.clone(),
            work: Mutex::new(work_queue),
            buffers: self.buffers.clone(),
            batches: self.batches.clone(),
            counters: self.counters.clone(),
            asks: self.asks.clone(),
        });
        // Dropped with this future, the set takes all its tasks along.
        let mut tasks = JoinSet::new();
        plan::start(&mut tasks, &shared, work);
        for _ in 0..READERS {
            tasks.spawn(work::run(shared.clone()));
        }
        while let Some(task) = tasks.join_next().await {
            let part = task.map_err(|error| TransferError::Protocol(format!("a task of round {round}: {error}")))??;
            for (total, more) in totals.iter_mut().zip(&part) {
                total.merge(more);
            }
        }
        Ok(totals)
    }

    /// Resolves when a stream failed: select on it while waiting for the target.
    pub async fn failed(&self) -> TransferError {
        self.fault.wait().await
    }

    /// Ends the streams in order, and waits for the target to end its side.
    pub async fn finish(self) -> Result<(), TransferError> {
        let Sender { batches, mut writers, fault, mut readers, .. } = self;
        drop(batches);
        let ended = async {
            while writers.join_next().await.is_some() {}
            while readers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(FINISH_DEADLINE, ended).await.is_err() {
            return Err(TransferError::PeerSilent { silent_ms: FINISH_DEADLINE.as_millis() as u64 });
        }
        fault.get().map_or(Ok(()), Err)
    }
}
