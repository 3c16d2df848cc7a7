//! The running side of a verification: it compares, and it knows what the guest has written since.

use tokio::io::{ReadHalf, WriteHalf};

use super::{MISMATCHES_LISTED_MAX, VerifyDisk, VerifyReport, sums::Summer};
use crate::{
    buffer::CHUNK_BYTES,
    error::TransferError,
    extent::{BITMAP_DIRTY, Extent, push_merged},
    frame::{BLOCK_BYTES, Digest, Header, Kind},
    framed::{FrameReader, FrameWriter},
    link::Stream,
    nbd::NbdError,
};

/// Differing chunks that are looked at closer, of one disk: 1 TiB.
const DIFFERING_CHUNKS_MAX: usize = 1 << 20;
/// Differing ranges that are held until the bitmap is asked about them.
const DIFFERING_RANGES_MAX: usize = 64 << 10;
/// Questions that are under way at once.
const ASKS_IN_FLIGHT: usize = 16;

/// Target: compares its disks with what the source says. `exempt(index)` is asked after (parts of) disk `index` were compared and
/// differed, perhaps more than once: it returns what the guest has written since before its `cont`, that is the bitmap's extents
/// in order of offset, read at that moment. Of them, those flagged dirty count.
pub async fn verify_target<F, R>(
    stream: Stream,
    disks: Vec<VerifyDisk>,
    exempt: F,
) -> Result<Vec<VerifyReport>, TransferError>
where
    F: Fn(usize) -> R,
    R: Future<Output = Result<Vec<Extent>, NbdError>>,
{
    let (read, write) = tokio::io::split(stream);
    let mut side =
        Target { frames: FrameReader::new(read, 0), asks: FrameWriter::new(write, 0), summer: Summer::new(None) };
    let mut reports = Vec::with_capacity(disks.len());
    for (index, disk) in disks.iter().enumerate() {
        let (chunks, digest) = side.compare_sums(index as u16, disk).await?;
        let mut report = VerifyReport {
            disk: disk.name.clone(),
            compared_bytes: disk.pool.size(),
            exempt_bytes: 0,
            mismatch_bytes: 0,
            mismatches: Vec::new(),
            digest: digest.to_hex().to_string(),
        };
        side.look_closer(index, disk, &chunks, &exempt, &mut report).await?;
        side.report(index as u16, &report).await?;
        reports.push(report);
    }
    side.expect_end().await?;
    Ok(reports)
}

struct Target {
    frames: FrameReader<ReadHalf<Stream>>,
    asks: FrameWriter<WriteHalf<Stream>>,
    summer: Summer,
}

impl Target {
    /// Offsets of the chunks that differ, and the source disk's digest.
    async fn compare_sums(&mut self, index: u16, disk: &VerifyDisk) -> Result<(Vec<u64>, blake3::Hash), TransferError> {
        let size = disk.pool.size();
        let mut root = blake3::Hasher::new();
        let mut differing = Vec::new();
        let mut offset = 0;
        while offset < size {
            let header = self.frames.header().await?;
            let len = u64::from(header.len);
            let end = (header.offset == offset).then_some(offset + len);
            let whole = len.is_multiple_of(CHUNK_BYTES as u64) || end == Some(size);
            if header.kind != Kind::VerifySums || header.disk != index || !whole || end.is_none_or(|end| end > size) {
                let Header { kind, disk: found, offset: at, .. } = header;
                let what = format!(
                    "a {kind:?} frame of {len} bytes at {at} of disk {found}, where sums of disk {} ({size} bytes) at \
                     {offset} were due",
                    disk.name
                );
                return Err(TransferError::Protocol(what));
            }
            let payload = self.frames.checked_payload(&header).await?;
            root.update(&payload);
            let (theirs, _) = payload.as_chunks::<32>();
            let mine = self.summer.chunk_digests(disk, offset, len).await?;
            let chunks = (offset..).step_by(CHUNK_BYTES).zip(theirs.iter().zip(&mine));
            differing.extend(chunks.filter(|(_, (theirs, mine))| theirs != mine).map(|(at, _)| at));
            if differing.len() > DIFFERING_CHUNKS_MAX {
                let what = format!("more than {DIFFERING_CHUNKS_MAX} MiB of disk {} differ", disk.name);
                return Err(TransferError::Protocol(what));
            }
            offset += len;
        }
        Ok((differing, root.finalize()))
    }

    async fn look_closer<F, R>(
        &mut self,
        index: usize,
        disk: &VerifyDisk,
        chunks: &[u64],
        exempt: &F,
        report: &mut VerifyReport,
    ) -> Result<(), TransferError>
    where
        F: Fn(usize) -> R,
        R: Future<Output = Result<Vec<Extent>, NbdError>>,
    {
        let mut differing = Vec::new();
        let mut batches = chunks.chunks(ASKS_IN_FLIGHT).peekable();
        while let Some(batch) = batches.next() {
            self.compare_blocks(index as u16, disk, batch, &mut differing).await?;
            let judge_now = batches.peek().is_none() || differing.len() > DIFFERING_RANGES_MAX;
            if judge_now && !differing.is_empty() {
                // Only now: what was written before the comparison read it is marked for certain.
                let mut written = exempt(index).await.map_err(|source| {
                    let doing = "reading what the guest has written";
                    TransferError::Disk { disk: disk.name.to_string(), doing, source }
                })?;
                written.retain(|extent| extent.flags & BITMAP_DIRTY != 0);
                judge(&differing, &written, report);
                differing.clear();
            }
        }
        Ok(())
    }

    async fn compare_blocks(
        &mut self,
        index: u16,
        disk: &VerifyDisk,
        chunks: &[u64],
        differing: &mut Vec<Extent>,
    ) -> Result<(), TransferError> {
        let len_at = |at: u64| (disk.pool.size() - at).min(CHUNK_BYTES as u64) as u32;
        for &at in chunks {
            self.asks.write(&Header::new(Kind::VerifyAsk, index, 0, at, len_at(at), &[]), &[]).await?;
        }
        self.asks.flush().await?;
        for &at in chunks {
            let len = len_at(at);
            let header = self.frames.header().await?;
            if (header.kind, header.disk, header.offset, header.len) != (Kind::VerifyBlocks, index, at, len) {
                let Header { kind, disk, offset, .. } = header;
                let what = format!(
                    "a {kind:?} frame of disk {disk} at {offset}, where blocks of disk {index} at {at} were due"
                );
                return Err(TransferError::Protocol(what));
            }
            let payload = self.frames.checked_payload(&header).await?;
            let mine = self.summer.block_digests(disk, at, u64::from(len)).await?;
            let (theirs, mine): (&[Digest], &[Digest]) = (payload.as_chunks().0, mine.as_chunks().0);
            for (block, _) in theirs.iter().zip(mine).enumerate().filter(|(_, (theirs, mine))| theirs != mine) {
                let start = block as u32 * BLOCK_BYTES;
                let len = u64::from((len - start).min(BLOCK_BYTES));
                push_merged(differing, Extent { offset: at + u64::from(start), len, flags: 0 });
            }
        }
        Ok(())
    }

    async fn report(&mut self, index: u16, report: &VerifyReport) -> Result<(), TransferError> {
        let json = serde_json::to_vec(report)
            .map_err(|error| TransferError::Protocol(format!("a report has no JSON form: {error}")))?;
        self.asks.write(&Header::new(Kind::VerifyReport, index, 0, 0, 0, &json), &json).await?;
        self.asks.flush().await
    }

    async fn expect_end(&mut self) -> Result<(), TransferError> {
        let header = self.frames.header().await?;
        match header.kind {
            Kind::End => Ok(()),
            kind => Err(TransferError::Protocol(format!("a {kind:?} frame after the last disk's report"))),
        }
    }
}

/// Splits what differs (in blocks) into what the guest has written and what nobody should have.
fn judge(differing: &[Extent], written: &[Extent], report: &mut VerifyReport) {
    let block = u64::from(BLOCK_BYTES);
    let end = report.compared_bytes;
    for extent in differing {
        for offset in (extent.offset..extent.end()).step_by(BLOCK_BYTES as usize) {
            let len = block.min(end - offset);
            // The first write that ends behind the block's begin decides; writes are in order of offset.
            let first = written.partition_point(|write| write.end() <= offset);
            if written.get(first).is_some_and(|write| write.offset < offset + len) {
                report.exempt_bytes += len;
                continue;
            }
            report.mismatch_bytes += len;
            let room = report.mismatches.len() < MISMATCHES_LISTED_MAX;
            match report.mismatches.last_mut() {
                Some((at, have)) if *at + *have == offset => *have += len,
                Some(_) | None if room => report.mismatches.push((offset, len)),
                Some(_) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_guest_wrote_is_exempt() {
        let block = u64::from(BLOCK_BYTES);
        let extent = |offset, len| Extent { offset, len, flags: 1 };
        let check = |differing: &[Extent], written: &[Extent], exempt: u64, mismatches: &[(u64, u64)]| {
            let mut report = VerifyReport {
                disk: "root".parse().unwrap(),
                compared_bytes: 10 * block + 512,
                exempt_bytes: 0,
                mismatch_bytes: 0,
                mismatches: Vec::new(),
                digest: String::new(),
            };
            judge(differing, written, &mut report);
            assert_eq!(
                (report.exempt_bytes, &report.mismatches[..]),
                (exempt, mismatches),
                "{differing:?} {written:?}"
            );
            assert_eq!(report.mismatch_bytes, mismatches.iter().map(|(_, len)| len).sum::<u64>());
        };
        let three = [extent(block, 3 * block)];
        check(&three, &[], 0, &[(block, 3 * block)]);
        check(&three, &[extent(0, block)], 0, &[(block, 3 * block)]);
        check(&three, &[extent(2 * block + 4096, 4096)], block, &[(block, block), (3 * block, block)]);
        check(&three, &[extent(0, 512), extent(block, 3 * block)], 3 * block, &[]);
        check(&[extent(10 * block, 512)], &[], 0, &[(10 * block, 512)]);
        check(&[extent(10 * block, 512)], &[extent(10 * block + 511, 1)], 512, &[]);
    }
}
