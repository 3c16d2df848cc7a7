//! The frozen side of a verification.

use tokio::io::{ReadHalf, WriteHalf};

use super::{VerifyDisk, VerifyReport, sums::Summer};
use crate::{
    buffer::CHUNK_BYTES,
    error::TransferError,
    frame::{Header, Kind, VERIFY_SPAN_BYTES},
    framed::{FrameReader, FrameWriter},
    link::Stream,
};

/// Source: says the digests of its frozen disks over `stream`, reading at no more than `read_bps`, and returns the target's
/// reports, one per disk. Both sides name the same disks in the same order.
pub async fn verify_source(
    stream: Stream,
    disks: Vec<VerifyDisk>,
    read_bps: Option<u64>,
) -> Result<Vec<VerifyReport>, TransferError> {
    let (read, write) = tokio::io::split(stream);
    let mut side = Source {
        frames: FrameReader::new(read, 0),
        answers: FrameWriter::new(write, 0),
        summer: Summer::new(read_bps),
    };
    let mut reports = Vec::with_capacity(disks.len());
    for (index, disk) in disks.iter().enumerate() {
        side.say_sums(index as u16, disk).await?;
        reports.push(side.answer_until_report(index as u16, disk).await?);
    }
    side.answers.end().await?;
    Ok(reports)
}

struct Source {
    frames: FrameReader<ReadHalf<Stream>>,
    answers: FrameWriter<WriteHalf<Stream>>,
    summer: Summer,
}

impl Source {
    async fn say_sums(&mut self, index: u16, disk: &VerifyDisk) -> Result<(), TransferError> {
        let size = disk.pool.size();
        let mut offset = 0;
        while offset < size {
            let len = (size - offset).min(u64::from(VERIFY_SPAN_BYTES));
            let digests = self.summer.chunk_digests(disk, offset, len).await?;
            let payload = digests.as_flattened();
            let header = Header::new(Kind::VerifySums, index, 0, offset, len as u32, payload);
            self.answers.write(&header, payload).await?;
            self.answers.flush().await?;
            offset += len;
        }
        Ok(())
    }

    async fn answer_until_report(&mut self, index: u16, disk: &VerifyDisk) -> Result<VerifyReport, TransferError> {
        loop {
            let header = self.frames.header().await?;
            let payload = self.frames.checked_payload(&header).await?;
            if header.disk != index {
                let what = format!("a {:?} frame of disk {} while disk {index} is verified", header.kind, header.disk);
                return Err(TransferError::Protocol(what));
            }
            match header.kind {
                Kind::VerifyAsk => self.answer(index, disk, header.offset, header.len).await?,
                Kind::VerifyReport => {
                    return serde_json::from_slice(&payload).map_err(|error| {
                        TransferError::Protocol(format!("the report of disk {}: {error}", disk.name))
                    });
                }
                kind @ (Kind::Data
                | Kind::Image
                | Kind::Zero
                | Kind::DigestAsk
                | Kind::DigestAnswer
                | Kind::VerifySums
                | Kind::VerifyBlocks
                | Kind::End) => {
                    return Err(TransferError::Protocol(format!("a {kind:?} frame from a verifying target")));
                }
            }
        }
    }

    async fn answer(&mut self, index: u16, disk: &VerifyDisk, offset: u64, len: u32) -> Result<(), TransferError> {
        let end = offset.checked_add(u64::from(len));
        if !offset.is_multiple_of(CHUNK_BYTES as u64) || end.is_none_or(|end| end > disk.pool.size()) {
            let what = format!("a question for {len} bytes at {offset} of disk {}", disk.name);
            return Err(TransferError::Protocol(what));
        }
        let digests = self.summer.block_digests(disk, offset, u64::from(len)).await?;
        let header = Header::new(Kind::VerifyBlocks, index, 0, offset, len, &digests);
        self.answers.write(&header, &digests).await?;
        self.answers.flush().await
    }
}
