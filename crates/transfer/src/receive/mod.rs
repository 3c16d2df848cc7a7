//! The target's side of the rounds: check what comes in, write it to the storage daemon, prove that all of it is there.
//!
//! ```text
//!  per stream                              per chunk, many at once
//!  header, payload into a pool's buffer ─▶ digest ─▶ NBD write confirmed ─▶ totals of (disk, open round)
//!                                                                            └─▶ await_round compares
//! ```
//!
//! Ground rules (the order of rounds is drawn in `send`):
//! - one round is open at a time; a frame of another one ends the migration;
//! - a chunk counts when the storage daemon has confirmed its write, never earlier;
//! - a frame that is corrupt, torn, out of range or out of turn ends the migration, with its place in the error;
//! - a full pool stops reading from the streams: that is how a slow disk slows the source.

mod digests;
mod rounds;
mod stream;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};
use whimbrel_core::disk::DiskName;

use self::{rounds::Rounds, stream::Shared};
use crate::{
    buffer::BufferPool, counters::ReceiveCounters, error::TransferError, fault::FirstFault, image::ImageSink,
    link::Stream, nbd::NbdPool, totals::DiskTotals,
};

/// Chunks that may be in memory at once, coming in or being written.
pub const BUFFERS: usize = 40;
/// Chunks of the target's own disk in memory for answers to digest questions.
const ANSWER_BUFFERS: usize = 8;
/// Zero frames hold no buffer, so their number is bounded apart.
const ZEROES_IN_FLIGHT: usize = 32;

/// Where the bytes go.
#[derive(Clone, Debug)]
pub enum Sink {
    /// The storage daemon's writable export of a disk.
    Export(NbdPool),
    Image(Arc<ImageSink>),
}

/// One disk on the target, or the image below one.
#[derive(Clone, Debug)]
pub struct TargetDisk {
    pub name: DiskName,
    pub sink: Sink,
}

impl Sink {
    fn bytes(&self) -> u64 {
        match self {
            Sink::Export(pool) => pool.size(),
            Sink::Image(image) => image.bytes(),
        }
    }
}

impl TargetDisk {
    /// Images are made durable by their own [`ImageSink::finish`].
    fn export(&self) -> Option<&NbdPool> {
        match &self.sink {
            Sink::Export(pool) => Some(pool),
            Sink::Image(_) => None,
        }
    }
}

/// Owns the data streams of a migration on the target, for all rounds.
pub struct Receiver {
    shared: Arc<Shared>,
    streams: JoinSet<()>,
}

impl Receiver {
    /// `disks` in the same order as on the source.
    pub fn start(streams: Vec<Stream>, disks: Vec<TargetDisk>) -> Receiver {
        let shared = Arc::new(Shared {
            rounds: Rounds::new(disks.iter().map(|disk| disk.name.clone()).collect()),
            disks,
            counters: Arc::default(),
            fault: FirstFault::new(),
            buffers: BufferPool::new(BUFFERS),
            answer_buffers: BufferPool::new(ANSWER_BUFFERS),
            zeroes: Arc::new(Semaphore::new(ZEROES_IN_FLIGHT)),
        });
        let mut tasks = JoinSet::new();
        for (index, stream) in streams.into_iter().enumerate() {
            tasks.spawn(stream::receive(stream, index, shared.clone()));
        }
        Receiver { shared, streams: tasks }
    }

    pub fn counters(&self) -> Arc<ReceiveCounters> {
        self.shared.counters.clone()
    }

    /// Waits until all that the source says it sent in `round` is written, then opens the next round.
    /// Call it with RoundEnd's totals and answer the source when it returns. An early error of any stream comes out here too.
    /// `idle_deadline` is for the time without any progress, not for the whole.
    pub async fn await_round(
        &self,
        round: u32,
        totals: &[DiskTotals],
        idle_deadline: Duration,
    ) -> Result<(), TransferError> {
        tokio::select! {
            biased;
            error = self.failed() => Err(error),
            done = self.shared.rounds.await_round(round, totals, idle_deadline) => done,
        }
    }

    /// Resolves when a stream failed (not on an orderly end): select on it beside the control link.
    pub async fn failed(&self) -> TransferError {
        self.shared.fault.wait().await
    }

    /// Makes all disks durable.
    pub async fn flush_all(&self) -> Result<(), TransferError> {
        // One storage daemon serves them all, mostly from one disk: at once, it can sync them in one go.
        let mut tasks = JoinSet::new();
        for disk in &self.shared.disks {
            let Some(pool) = disk.export().cloned() else { continue };
            let name = disk.name.clone();
            tasks.spawn(async move {
                let flushed = pool.flush().await;
                flushed.map_err(|source| TransferError::Disk { disk: name.to_string(), doing: "flushing", source })
            });
        }
        while let Some(flushed) = tasks.join_next().await {
            flushed.map_err(|error| TransferError::Protocol(format!("a flush's task: {error}")))??;
        }
        Ok(())
    }

    /// Waits for the streams' orderly end (after `Sender::finish`), flushes, and lets go of the exports' connections, so that the
    /// storage daemon can quit.
    pub async fn finish(mut self) -> Result<(), TransferError> {
        while self.streams.join_next().await.is_some() {}
        if let Some(error) = self.shared.fault.get() {
            return Err(error);
        }
        self.flush_all().await?;
        self.disconnect().await;
        Ok(())
    }

    /// Lets go of the exports' connections at once, as after a failure.
    pub async fn disconnect(&self) {
        for pool in self.shared.disks.iter().filter_map(TargetDisk::export) {
            pool.disconnect().await;
        }
    }
}
