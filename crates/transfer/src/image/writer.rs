//! The one hand that puts an image's chunks on the disk, a chunk at a time.
//!
//! ```text
//!  stream tasks ── chunk, answer ──▶ queue ──▶ thread: pwrite, in the idle class ──▶ answers
//! ```
//!
//! What a disk was given it does not give back: a guest's write, and more so its flush, waits for all that lies before it in
//! the device, whatever its class. A disk that writes an image's chunks one after another is about as fast as one that has all
//! of them at once, and a guest waits for one chunk instead of forty. The thread takes the next chunk without a way through the
//! runtime, or the disk would lie idle between two.
//!
//! Ground rules: chunks are written in the order of their coming; the thread ends with its [`Writer`]; nobody has to wait for
//! an answer.

use std::{fs::File, io, os::unix::fs::FileExt, thread};

use tokio::sync::{mpsc, oneshot};

use super::{aligned, courtesy::Courtesy};
use crate::buffer::Buffer;

/// Enough that the thread never waits for the streams; those who write wait besides, each for its answer.
const QUEUE_CHUNKS: usize = 8;

struct Job {
    offset: u64,
    buffer: Buffer,
    answer: oneshot::Sender<io::Result<()>>,
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    pub(super) fn start(file: File) -> io::Result<Writer> {
        let (queue, jobs) = mpsc::channel(QUEUE_CHUNKS);
        thread::Builder::new().name("image-writer".to_owned()).spawn(move || run(&file, jobs))?;
        Ok(Writer { queue })
    }

    /// Returns when the file has it. The end of the buffer is filled up to what O_DIRECT takes.
    pub(super) async fn write(&self, offset: u64, buffer: Buffer) -> io::Result<()> {
        let gone = || io::Error::other("the thread that writes the image is gone");
        let (answer, answered) = oneshot::channel();
        self.queue.send(Job { offset, buffer, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn run(file: &File, mut jobs: mpsc::Receiver<Job>) {
    let courtesy = Courtesy::default();
    while let Some(Job { offset, mut buffer, answer }) = jobs.blocking_recv() {
        let len = buffer.len();
        buffer.set_len(aligned(len));
        buffer[len..].fill(0);
        let written = courtesy.after_others(|| file.write_all_at(&buffer, offset));
        drop(buffer);
        // Who asked may have gone with the migration.
        let _ = answer.send(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chunks_are_in_the_file_when_they_are_answered() -> io::Result<()> {
        let file = tempfile::tempfile()?;
        let writer = Writer::start(file.try_clone()?)?;
        let many = 4 * QUEUE_CHUNKS as u64;
        let writes = (0..many).map(|n| writer.write(n * 4096, Buffer::from(vec![n as u8; 4096])));
        for (n, written) in futures_util::future::join_all(writes).await.into_iter().enumerate() {
            written?;
            let mut got = [0xff; 4096];
            file.read_exact_at(&mut got, n as u64 * 4096)?;
            assert_eq!(got, [n as u8; 4096], "chunk {n}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_refused_write_is_told_and_ends_nothing() -> io::Result<()> {
        let writer = Writer::start(File::open("/dev/null")?)?;
        for _ in 0..2 {
            let error = writer.write(0, Buffer::from(vec![1; 4096])).await.expect_err("a file open for reading");
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
        }
        Ok(())
    }
}
