//! The first words on every stream between agents: which migration, with what right, and what the stream is for.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use whimbrel_core::id::MigrationId;

use crate::error::TransferError;

pub const PROTOCOL: u32 = 1;
pub const HELLO_BYTES_MAX: usize = 4096;
const REASON_BYTES_MAX: usize = 1024;
pub const HELLO_DEADLINE_MS: u64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub migration: MigrationId,
    /// The migration's own secret: an agent takes data only for a migration that it prepared.
    pub credential: String,
    pub stream: StreamKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    Control,
    Data(u16),
    Image(u16),
    Ram,
    Verify,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Accepted,
    Refused(String),
}

/// Source: says hello and waits for the answer. A refusal is an error that carries the peer's reason.
pub async fn offer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), hello: &Hello) -> Result<(), TransferError> {
    write(stream, hello).await?;
    match read(stream).await? {
        Answer::Accepted => Ok(()),
        Answer::Refused(reason) => Err(TransferError::Refused(reason)),
    }
}

/// Target: reads the peer's hello. Its protocol version was checked (and refused where unknown).
pub async fn receive(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Hello, TransferError> {
    let hello: Hello = read(stream).await?;
    if hello.protocol != PROTOCOL {
        let reason = format!("protocol {} is not spoken here, {PROTOCOL} is", hello.protocol);
        refuse(stream, &reason).await?;
        return Err(TransferError::Protocol(reason));
    }
    Ok(hello)
}

/// Target: lets the stream begin.
pub async fn accept(stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), TransferError> {
    write(stream, &Answer::Accepted).await
}

/// Target: refuses the stream and says why.
pub async fn refuse(stream: &mut (impl AsyncWrite + Unpin), reason: &str) -> Result<(), TransferError> {
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    write(stream, &Answer::Refused(reason)).await
}

async fn in_time<T>(doing: &'static str, work: impl Future<Output = std::io::Result<T>>) -> Result<T, TransferError> {
    match tokio::time::timeout(Duration::from_millis(HELLO_DEADLINE_MS), work).await {
        Ok(done) => done.map_err(|error| TransferError::Link { doing, source: Arc::new(error) }),
        Err(_) => Err(TransferError::PeerSilent { silent_ms: HELLO_DEADLINE_MS }),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> Result<(), TransferError> {
    let json = serde_json::to_vec(value).map_err(|error| TransferError::Protocol(format!("hello: {error}")))?;
    let bytes = [&(json.len() as u32).to_be_bytes()[..], &json].concat();
    in_time("writing hello", async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    })
    .await
}

async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, TransferError> {
    let len = in_time("reading hello", stream.read_u32()).await? as usize;
    if !(1..=HELLO_BYTES_MAX).contains(&len) {
        let what = format!("a hello of {len} bytes, 1 to {HELLO_BYTES_MAX} are allowed");
        return Err(TransferError::Protocol(what));
    }
    // Exactly its length and no more: what follows belongs to the stream's user.
    let mut json = vec![0; len];
    in_time("reading hello", stream.read_exact(&mut json)).await?;
    serde_json::from_slice(&json).map_err(|error| TransferError::Protocol(format!("hello: {error}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use uuid::Uuid;

    use super::*;

    fn hello(protocol: u32) -> Hello {
        let (migration, stream) = (MigrationId(Uuid::from_u128(7)), StreamKind::Data(3));
        Hello { protocol, migration, credential: "secret".to_owned(), stream }
    }

    #[tokio::test]
    async fn a_stream_begins_where_the_hello_ends() {
        let (mut source, mut target): (DuplexStream, DuplexStream) = duplex(4096);
        let answer = async {
            let got = receive(&mut target).await.unwrap();
            accept(&mut target).await.unwrap();
            target.write_all(b"data").await.unwrap();
            got
        };
        let said = hello(PROTOCOL);
        let (offered, got) = tokio::join!(offer(&mut source, &said), answer);
        offered.unwrap();
        assert_eq!(got, said);
        let mut data = [0; 4];
        source.read_exact(&mut data).await.unwrap();
        assert_eq!(&data, b"data");
    }

    #[tokio::test]
    async fn a_refusal_carries_its_reason() {
        for (protocol, reason) in
            [(PROTOCOL, "this migration was not prepared"), (77, "protocol 77 is not spoken here")]
        {
            let (mut source, mut target) = duplex(4096);
            let answer = async {
                if receive(&mut target).await.is_ok() {
                    refuse(&mut target, reason).await.unwrap();
                }
            };
            let said = hello(protocol);
            let (offered, ()) = tokio::join!(offer(&mut source, &said), answer);
            let error = offered.unwrap_err();
            assert!(matches!(&error, TransferError::Refused(why) if why.contains(reason)), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_or_babbling_peer_is_not_waited_for() {
        let (mut source, _target) = duplex(4096);
        let error = offer(&mut source, &hello(PROTOCOL)).await.unwrap_err();
        assert!(matches!(error, TransferError::PeerSilent { .. }), "{error}");
        let (mut source, mut target) = duplex(4096);
        source.write_all(b"GET / HTTP/1.1").await.unwrap();
        let error = receive(&mut target).await.unwrap_err();
        assert!(error.to_string().contains("are allowed"), "{error}");
    }
}
