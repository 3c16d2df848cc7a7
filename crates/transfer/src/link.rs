//! Control messages between the two agents of a migration: length-prefixed JSON, and a watch on the peer's life.
//!
//! ```text
//!  message:    len u32 (big endian, 1..=MESSAGE_BYTES_MAX) | JSON
//!  keepalive:  len u32 = 0, sent after KEEPALIVE_MS without a message
//! ```
//!
//! A peer that says nothing for `PEER_SILENT_MS` is lost. Reading and writing are tasks of their own: `recv` may be dropped at
//! any await without losing a message, and keepalives go on while the owner is busy.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinHandle,
};

use crate::error::TransferError;

pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
pub const KEEPALIVE_MS: u64 = 1_000;
pub const PEER_SILENT_MS: u64 = 5_000;
const QUEUE_MESSAGES_MAX: usize = 64;

/// What any stream between agents must be able to do; TLS and sockets come boxed.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> Duplex for T {}
pub type Stream = Box<dyn Duplex>;

/// Both ends of one control stream. `M` is the agents' message enum.
pub struct ControlLink<M> {
    pub sender: ControlSender<M>,
    pub receiver: ControlReceiver<M>,
}

/// Clones send over the same stream. When the last is dropped, what was queued is still written, then the stream is closed.
pub struct ControlSender<M> {
    queue: mpsc::Sender<Vec<u8>>,
    message: PhantomData<fn(M)>,
}

pub struct ControlReceiver<M> {
    queue: mpsc::Receiver<Result<M, TransferError>>,
    reader: JoinHandle<()>,
}

impl<M: Serialize + DeserializeOwned + Send + 'static> ControlLink<M> {
    pub fn start(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (outgoing, queued) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let (incoming, queue) = mpsc::channel(QUEUE_MESSAGES_MAX);
        tokio::spawn(write_messages(write, queued));
        let reader = tokio::spawn(read_messages(read, incoming));
        ControlLink {
            sender: ControlSender { queue: outgoing, message: PhantomData },
            receiver: ControlReceiver { queue, reader },
        }
    }
}

impl<M> Clone for ControlSender<M> {
    fn clone(&self) -> Self {
        ControlSender { queue: self.queue.clone(), message: PhantomData }
    }
}

impl<M: Serialize> ControlSender<M> {
    /// Queues a message. An error means that the link is gone, or that the message is too large.
    pub async fn send(&self, message: &M) -> Result<(), TransferError> {
        let json = serde_json::to_vec(message)
            .map_err(|error| TransferError::Protocol(format!("a message has no JSON form: {error}")))?;
        if json.len() > MESSAGE_BYTES_MAX {
            let what = format!("a message of {} bytes, {MESSAGE_BYTES_MAX} are allowed", json.len());
            return Err(TransferError::Protocol(what));
        }
        let queued = self.queue.send(json).await;
        queued.map_err(|_| TransferError::Closed("it cannot be written to any more".to_owned()))
    }
}

impl<M> ControlReceiver<M> {
    /// The next message; `None` when the peer closed the link in order. Cancel safe.
    pub async fn recv(&mut self) -> Result<Option<M>, TransferError> {
        self.queue.recv().await.transpose()
    }
}

impl<M> Drop for ControlReceiver<M> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn write_messages(mut stream: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Vec<u8>>) {
    let keepalive = Duration::from_millis(KEEPALIVE_MS);
    loop {
        let json = match tokio::time::timeout(keepalive, queue.recv()).await {
            Ok(Some(json)) => json,
            Ok(None) => break,
            Err(_) => Vec::new(),
        };
        if let Err(error) = write_message(&mut stream, &json).await {
            // The owner learns it from its next send, and from the reader's silence.
            tracing::debug!(%error, "control link: write failed");
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), json: &[u8]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(4 + json.len());
    bytes.extend((json.len() as u32).to_be_bytes());
    bytes.extend(json);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn read_messages<M: DeserializeOwned>(
    mut stream: impl AsyncRead + Unpin,
    queue: mpsc::Sender<Result<M, TransferError>>,
) {
    loop {
        let silence = Duration::from_millis(PEER_SILENT_MS);
        let read = match tokio::time::timeout(silence, read_message(&mut stream)).await {
            Ok(read) => read,
            Err(_) => Err(TransferError::PeerSilent { silent_ms: PEER_SILENT_MS }),
        };
        let (message, last) = match read {
            Ok(Incoming::Keepalive) => continue,
            Ok(Incoming::Message(message)) => (Ok(message), false),
            Ok(Incoming::End) => return,
            Err(error) => (Err(error), true),
        };
        if queue.send(message).await.is_err() || last {
            return;
        }
    }
}

enum Incoming<M> {
    Keepalive,
    Message(M),
    End,
}

async fn read_message<M: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Incoming<M>, TransferError> {
    let failed = |error| TransferError::Link { doing: "reading a control message", source: Arc::new(error) };
    let mut len = [0; 4];
    if stream.read(&mut len[..1]).await.map_err(failed)? == 0 {
        return Ok(Incoming::End);
    }
    stream.read_exact(&mut len[1..]).await.map_err(failed)?;
    let len = u32::from_be_bytes(len) as usize;
    if len == 0 {
        return Ok(Incoming::Keepalive);
    }
    if len > MESSAGE_BYTES_MAX {
        let what = format!("a control message of {len} bytes, {MESSAGE_BYTES_MAX} are allowed");
        return Err(TransferError::Protocol(what));
    }
    let mut json = vec![0; len];
    stream.read_exact(&mut json).await.map_err(failed)?;
    let parsed = serde_json::from_slice(&json);
    parsed.map(Incoming::Message).map_err(|error| TransferError::Protocol(format!("a control message: {error}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    type Link = ControlLink<Vec<u32>>;

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_is_seen() {
        let (one, other) = duplex(100);
        let (mut source, mut target) = (Link::start(one), Link::start(other));
        for number in 0..200 {
            source.sender.send(&vec![number; 10]).await.unwrap();
            assert_eq!(target.receiver.recv().await.unwrap(), Some(vec![number; 10]));
        }
        target.sender.send(&vec![7]).await.unwrap();
        drop(target.sender);
        assert_eq!(source.receiver.recv().await.unwrap(), Some(vec![7]), "what was queued before the end");
        assert_eq!(source.receiver.recv().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn keepalives_hold_an_idle_link_and_silence_ends_it() {
        let (one, other) = duplex(100);
        let (_source, mut target) = (Link::start(one), Link::start(other));
        let idle = tokio::time::timeout(Duration::from_millis(20 * PEER_SILENT_MS), target.receiver.recv());
        assert!(idle.await.is_err(), "an idle link must neither end nor say anything");

        let (_silent, other) = duplex(100);
        let error = Link::start(other).receiver.recv().await.unwrap_err();
        assert!(matches!(error, TransferError::PeerSilent { silent_ms: PEER_SILENT_MS }), "{error}");
    }

    #[tokio::test]
    async fn bad_messages_are_refused() {
        async fn said(bytes: &[u8]) -> String {
            let (mut one, other): (DuplexStream, DuplexStream) = duplex(100);
            one.write_all(bytes).await.unwrap();
            drop(one);
            Link::start(other).receiver.recv().await.unwrap_err().failure().to_string()
        }
        assert!(said(b"\xff\xff\xff\xff").await.contains("4294967295 bytes"));
        assert!(said(b"\0\0\0\x02{}").await.contains("a control message: invalid type"));
        assert!(said(b"\0\0\0\x09[1").await.contains("reading a control message failed"));
        let (one, _other) = duplex(100);
        let huge = vec![1_000_000_000; MESSAGE_BYTES_MAX / 10];
        assert!(Link::start(one).sender.send(&huge).await.unwrap_err().to_string().contains("are allowed"));
    }
}
