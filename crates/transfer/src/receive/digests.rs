//! Answers to the source's questions for digests of what the target has.

use std::sync::Arc;

use super::stream::{Answers, Shared};
use crate::{
    buffer::{Buffer, CHUNK_BYTES},
    error::TransferError,
    frame::{BLOCK_BYTES, Header, Kind},
};

/// Reads the range and says the digests of its blocks. `buffer` was taken when the question came in, so that questions
/// wait their turn on the stream and not in memory.
pub(super) async fn answer(question: Header, buffer: Buffer, answers: Answers, shared: Arc<Shared>) {
    if let Err(error) = try_answer(&question, buffer, &answers, &shared).await {
        shared.fault.set(error);
    }
}

async fn try_answer(
    question: &Header,
    mut buffer: Buffer,
    answers: &Answers,
    shared: &Shared,
) -> Result<(), TransferError> {
    let Header { disk, round, offset, len, .. } = *question;
    let target = &shared.disks[usize::from(disk)];
    let Some(pool) = target.export() else {
        return Err(TransferError::Protocol(format!("a question for digests of the image below disk {}", target.name)));
    };
    let mut digests = Vec::with_capacity(len.div_ceil(BLOCK_BYTES) as usize * 32);
    let (mut at, end) = (offset, offset + u64::from(len));
    while at < end {
        buffer.set_len((end - at).min(CHUNK_BYTES as u64) as usize);
        let read = pool.read(at, buffer).await;
        buffer =
            read.map_err(|source| TransferError::Disk { disk: target.name.to_string(), doing: "reading", source })?;
        for block in buffer.chunks(BLOCK_BYTES as usize) {
            digests.extend(blake3::hash(block).as_bytes());
        }
        at += buffer.len() as u64;
    }
    drop(buffer);
    let header = Header::new(Kind::DigestAnswer, disk, round, offset, len, &digests);
    let mut stream = answers.lock().await;
    stream.write(&header, &digests).await?;
    stream.flush().await
}
