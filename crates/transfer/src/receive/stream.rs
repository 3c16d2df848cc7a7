//! One data stream on the target.

use std::{sync::Arc, time::Instant};

use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::{Mutex, Semaphore},
    task::JoinSet,
};

use super::{Sink, TargetDisk, digests, rounds::Rounds};
use crate::{
    buffer::{Buffer, BufferPool},
    counters::ReceiveCounters,
    error::TransferError,
    fault::FirstFault,
    frame::{FrameError, Header, Kind},
    framed::{FrameReader, FrameWriter},
    link::Stream,
};

pub(super) struct Shared {
    pub rounds: Rounds,
    pub disks: Vec<TargetDisk>,
    pub counters: Arc<ReceiveCounters>,
    pub fault: FirstFault,
    pub buffers: BufferPool,
    pub answer_buffers: BufferPool,
    pub zeroes: Arc<Semaphore>,
}

/// The way back to the source, for answers.
pub(super) type Answers = Arc<Mutex<FrameWriter<WriteHalf<Stream>>>>;

pub(super) async fn receive(stream: Stream, index: usize, shared: Arc<Shared>) {
    let (read, write) = tokio::io::split(stream);
    let answers = Arc::new(Mutex::new(FrameWriter::new(write, index)));
    if let Err(error) = receive_frames(FrameReader::new(read, index), &answers, &shared).await {
        shared.fault.set(error);
    }
}

async fn receive_frames(
    mut frames: FrameReader<ReadHalf<Stream>>,
    answers: &Answers,
    shared: &Arc<Shared>,
) -> Result<(), TransferError> {
    // Dropped with this future, the set takes its writes along.
    let mut writes = JoinSet::new();
    loop {
        let waited = Instant::now();
        let header = frames.header().await?;
        shared.counters.starved_us.add_since(waited);
        while writes.try_join_next().is_some() {}
        match header.kind {
            Kind::Data | Kind::Image => {
                shared.check_place(&header)?;
                let blocked = Instant::now();
                let mut buffer = shared.buffers.take(header.payload as usize).await;
                shared.counters.blocked_us.add_since(blocked);
                let reading = Instant::now();
                frames.payload(&header, &mut buffer).await?;
                shared.counters.starved_us.add_since(reading);
                writes.spawn(write_data(header, buffer, frames.stream, shared.clone()));
            }
            Kind::Zero => {
                shared.check_place(&header)?;
                frames.checked_payload(&header).await?;
                let blocked = Instant::now();
                let permit = shared.zeroes.clone().acquire_owned().await.expect("the semaphore is never closed");
                shared.counters.blocked_us.add_since(blocked);
                let shared = shared.clone();
                writes.spawn(async move {
                    write_zeros(header, &shared).await;
                    drop(permit);
                });
            }
            Kind::DigestAsk => {
                shared.check_place(&header)?;
                frames.checked_payload(&header).await?;
                let first = shared.answer_buffers.take(0).await;
                writes.spawn(digests::answer(header, first, answers.clone(), shared.clone()));
            }
            Kind::End => {
                frames.checked_payload(&header).await?;
                while writes.join_next().await.is_some() {}
                // All is written and said; a source that is gone already needs no goodbye.
                let _ = answers.lock().await.end().await;
                return Ok(());
            }
            kind @ (Kind::DigestAnswer
            | Kind::VerifySums
            | Kind::VerifyAsk
            | Kind::VerifyBlocks
            | Kind::VerifyReport) => {
                let what = format!("a {kind:?} frame from the source on data stream {}", frames.stream);
                return Err(TransferError::Protocol(what));
            }
        }
    }
}

impl Shared {
    fn check_place(&self, header: &Header) -> Result<(), TransferError> {
        let Header { kind, disk, offset, len, .. } = *header;
        let Some(known) = self.disks.get(usize::from(disk)) else {
            let what = format!("a {kind:?} frame of disk {disk}, of {} disks", self.disks.len());
            return Err(TransferError::Protocol(what));
        };
        let size = known.sink.bytes();
        if offset.checked_add(u64::from(len)).is_none_or(|end| end > size) {
            let name = &known.name;
            let what = format!("a {kind:?} frame of {len} bytes at {offset} of disk {name}, whose size is {size}");
            return Err(TransferError::Protocol(what));
        }
        let right_kind = match &known.sink {
            Sink::Export(_) => kind != Kind::Image,
            Sink::Image(image) => (kind == Kind::Image || kind == Kind::Zero) && image.fits(header),
        };
        if !right_kind {
            let what =
                format!("a {kind:?} frame of {len} bytes at {offset} of disk {}, which is not for it", known.name);
            return Err(TransferError::Protocol(what));
        }
        self.rounds.check(header)
    }
}

async fn write_data(header: Header, buffer: Buffer, stream: usize, shared: Arc<Shared>) {
    let disk = &shared.disks[usize::from(header.disk)];
    let corrupt = |fault: FrameError| {
        let (disk, offset, why) = (disk.name.to_string(), header.offset, fault.to_string());
        TransferError::CorruptFrame { what: "a chunk", disk, offset, stream, why }
    };
    let written = async {
        match &disk.sink {
            Sink::Export(pool) => {
                header.check_payload(&buffer).map_err(corrupt)?;
                shared.counters.received.add(u64::from(header.len));
                let failed = |source| TransferError::Disk { disk: disk.name.to_string(), doing: "writing", source };
                pool.write(header.offset, buffer).await.map_err(failed)
            }
            Sink::Image(image) => {
                header.check_payload(&buffer).map_err(corrupt)?;
                shared.counters.received.add(u64::from(header.len));
                image.write(header.offset, buffer).await
            }
        }
    };
    match written.await {
        Ok(()) => confirm(&header, &shared),
        Err(error) => shared.fault.set(error),
    }
}

async fn write_zeros(header: Header, shared: &Shared) {
    let disk = &shared.disks[usize::from(header.disk)];
    shared.counters.zero.add(u64::from(header.len));
    let written = match &disk.sink {
        Sink::Export(pool) => pool.write_zeroes(header.offset, u64::from(header.len), false).await,
        Sink::Image(image) => {
            image.leave_zeros(header.offset, header.len as usize);
            Ok(())
        }
    };
    match written {
        Ok(()) => confirm(&header, shared),
        Err(source) => {
            shared.fault.set(TransferError::Disk { disk: disk.name.to_string(), doing: "punching a hole", source });
        }
    }
}

fn confirm(header: &Header, shared: &Shared) {
    shared.counters.written.add(u64::from(header.len));
    shared.rounds.written(header);
}
