//! Questions for the target's digests that are under way, and their answers.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::sync::oneshot;

use crate::frame::{Digest, Header};

/// The target reads 4 MiB of its own disk to answer; more time than this means that it is stuck.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// By disk and offset.
type Open = HashMap<(u16, u64), oneshot::Sender<Vec<Digest>>>;

#[derive(Default)]
pub(super) struct Asks(Mutex<Open>);

impl Asks {
    pub(super) fn open(&self, disk: u16, offset: u64) -> oneshot::Receiver<Vec<Digest>> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().expect("no panic while held").insert((disk, offset), answer);
        answered
    }

    /// Whether the answer belongs to a question.
    pub(super) fn answer(&self, header: &Header, payload: &[u8]) -> bool {
        let asked = self.0.lock().expect("no panic while held").remove(&(header.disk, header.offset));
        let (digests, _) = payload.as_chunks::<32>();
        asked.is_some_and(|asked| {
            // A question whose round was cancelled has nobody left to hear the answer.
            let _ = asked.send(digests.to_vec());
            true
        })
    }
}
