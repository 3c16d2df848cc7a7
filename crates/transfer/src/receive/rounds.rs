//! Which round is open, and what of it is written.

use std::{sync::Mutex, time::Duration};

use tokio::sync::Notify;
use whimbrel_core::disk::DiskName;

use crate::{error::TransferError, frame::Header, totals::DiskTotals};

pub(super) struct Rounds {
    names: Vec<DiskName>,
    open: Mutex<Open>,
    progress: Notify,
}

struct Open {
    round: u32,
    /// One per disk.
    written: Vec<DiskTotals>,
}

fn fresh(disks: usize) -> Vec<DiskTotals> {
    (0..disks).map(|disk| DiskTotals::new(disk as u16)).collect()
}

impl Rounds {
    pub(super) fn new(names: Vec<DiskName>) -> Self {
        let open = Mutex::new(Open { round: 0, written: fresh(names.len()) });
        Rounds { names, open, progress: Notify::new() }
    }

    /// Only frames of the open round may come in.
    pub(super) fn check(&self, header: &Header) -> Result<(), TransferError> {
        let open = self.open.lock().expect("no panic while held").round;
        if header.round == open {
            return Ok(());
        }
        let Header { kind, disk, round, offset, .. } = header;
        let what = format!("a {kind:?} frame of disk {disk} at {offset} in round {round} while round {open} is open");
        Err(TransferError::Protocol(what))
    }

    pub(super) fn written(&self, header: &Header) {
        self.open.lock().expect("no panic while held").written[usize::from(header.disk)].add(header);
        self.progress.notify_waiters();
    }

    pub(super) async fn await_round(
        &self,
        round: u32,
        sent: &[DiskTotals],
        idle_deadline: Duration,
    ) -> Result<(), TransferError> {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // From here on no progress goes unnoticed.
            progress.as_mut().enable();
            let Some(late) = self.close_if_complete(round, sent)? else {
                return Ok(());
            };
            if tokio::time::timeout(idle_deadline, progress).await.is_err() {
                let waited_ms = idle_deadline.as_millis() as u64;
                let (disk, sent) = (self.name(late.sent.disk), late.sent.chunks);
                return Err(TransferError::RoundLate { round, disk, sent, written: late.written, waited_ms });
            }
        }
    }

    /// Opens the next round if all of this one is written. Else says what is missing, or that it can never fit.
    fn close_if_complete(&self, round: u32, sent: &[DiskTotals]) -> Result<Option<Late>, TransferError> {
        let mut open = self.open.lock().expect("no panic while held");
        if open.round != round {
            let what = format!("the end of round {round} while round {} is open", open.round);
            return Err(TransferError::Protocol(what));
        }
        let mut expected = fresh(self.names.len());
        for total in sent {
            match expected.get_mut(usize::from(total.disk)) {
                Some(place) => *place = total.clone(),
                None => {
                    return Err(TransferError::Protocol(format!("totals of disk {}, which there is not", total.disk)));
                }
            }
        }
        for (sent, written) in expected.iter().zip(&open.written) {
            if sent == written {
                continue;
            }
            if written.chunks < sent.chunks {
                return Ok(Some(Late { sent: sent.clone(), written: written.chunks }));
            }
            let (disk, in_words) = (self.name(sent.disk), in_words);
            return Err(TransferError::TotalsDiffer { round, disk, sent: in_words(sent), written: in_words(written) });
        }
        *open = Open { round: round + 1, written: fresh(self.names.len()) };
        Ok(None)
    }

    fn name(&self, disk: u16) -> String {
        self.names[usize::from(disk)].to_string()
    }
}

struct Late {
    sent: DiskTotals,
    written: u64,
}

fn in_words(totals: &DiskTotals) -> String {
    format!("{} chunks, {} bytes, sum {}", totals.chunks, totals.bytes, totals.sum)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::frame::Kind;

    const IDLE: Duration = Duration::from_secs(10);

    fn rounds() -> Arc<Rounds> {
        Arc::new(Rounds::new(vec!["root".parse().unwrap(), "swap".parse().unwrap()]))
    }
    fn header(disk: u16, round: u32, offset: u64) -> Header {
        Header::new(Kind::Data, disk, round, offset, 3, b"abc")
    }
    fn totals(disk: u16, headers: &[Header]) -> DiskTotals {
        let mut totals = DiskTotals::new(disk);
        headers.iter().for_each(|header| totals.add(header));
        totals
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_closes_when_its_last_chunk_is_written_and_not_earlier() {
        let rounds = rounds();
        let frames = [header(1, 0, 0), header(1, 0, 3)];
        let sent = vec![totals(1, &frames)];
        rounds.written(&frames[1]);
        let waiting = tokio::spawn({
            let (rounds, sent) = (rounds.clone(), sent.clone());
            async move { rounds.await_round(0, &sent, IDLE).await }
        });
        tokio::time::advance(IDLE / 2).await;
        assert!(!waiting.is_finished(), "a chunk is missing");
        assert!(rounds.check(&header(0, 1, 0)).is_err(), "round 1 is not open yet");
        rounds.written(&frames[0]);
        waiting.await.unwrap().unwrap();
        rounds.check(&header(0, 1, 0)).unwrap();
        assert!(rounds.check(&frames[0]).unwrap_err().to_string().contains("in round 0 while round 1 is open"));
        rounds.await_round(1, &[], IDLE).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_or_wrong_is_said() {
        let frames = [header(0, 0, 0), header(0, 0, 3)];
        let check = async |written: &[Header], sent: DiskTotals, want: &str| {
            let rounds = rounds();
            written.iter().for_each(|header| rounds.written(header));
            let error = rounds.await_round(0, &[sent], IDLE).await.expect_err(want).to_string();
            assert!(error.contains(want), "'{error}' does not say '{want}'");
        };
        check(&frames[..1], totals(0, &frames), "round 0 of disk root: 1 of 2 chunks written after 10000 ms").await;
        check(&frames, totals(0, &frames[..1]), "round 0 of disk root: source sent 1 chunks").await;
        check(&[frames[0], frames[0]], totals(0, &frames), "source sent 2 chunks, 6 bytes").await;
        check(&frames, DiskTotals::default(), "source sent 0 chunks").await;
        check(&[], DiskTotals::new(2), "disk 2, which there is not").await;
    }
}
