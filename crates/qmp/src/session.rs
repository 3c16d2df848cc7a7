//! How a conversation begins: the socket, the greeting, the negotiation.
//!
//! ```text
//! connect ──> Session<Greeting> ──negotiate(lane)──> Session<Negotiated> ──into_parts──> the tasks of `client.rs`
//! ```
//!
//! A type per step, because QEMU refuses every command before `qmp_capabilities` and that command after it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::codec::LineReader;
use crate::error::{CloseReason, GREETING, QmpError, Result};
use crate::version::Version;
use crate::wire::{self, Greeting as GreetingMessage, GreetingLine, Lane, Message, Outcome};

/// A process that is just starting has no socket yet: how often it is looked for.
const CONNECT_RETRY: Duration = Duration::from_millis(10);

const NEGOTIATION: &str = "qmp_capabilities";
const NEGOTIATION_ID: u64 = 0;

/// QEMU has greeted and waits for the negotiation.
pub(crate) struct Greeting {
    message: GreetingMessage,
}

/// Commands may be sent.
pub(crate) struct Negotiated {
    version: Version,
}

pub(crate) struct Session<State> {
    socket: Arc<Path>,
    reader: LineReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    state: State,
}

pub(crate) struct Parts {
    pub(crate) socket: Arc<Path>,
    pub(crate) reader: LineReader<OwnedReadHalf>,
    pub(crate) writer: OwnedWriteHalf,
    pub(crate) version: Version,
}

/// Connects and negotiates within `deadline`, waiting for the socket to appear.
pub(crate) async fn establish(path: &Path, lane: Lane, deadline: Duration) -> Result<Session<Negotiated>> {
    let socket: Arc<Path> = Arc::from(path);
    let until = tokio::time::Instant::now() + deadline;
    let late = |command: &str| QmpError::Deadline {
        socket: path.to_owned(),
        command: command.to_owned(),
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
    };
    let stream = connect(path, until).await?;
    let greeted = tokio::time::timeout_at(until, Session::greet(socket, stream)).await;
    let session = greeted.map_err(|_| late(GREETING))??;
    let negotiated = tokio::time::timeout_at(until, session.negotiate(lane)).await;
    negotiated.map_err(|_| late(NEGOTIATION))?
}

async fn connect(path: &Path, until: tokio::time::Instant) -> Result<UnixStream> {
    loop {
        let source = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(source) => source,
        };
        let starting = matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
        );
        if !starting || tokio::time::Instant::now() + CONNECT_RETRY >= until {
            return Err(QmpError::Connect { socket: path.to_owned(), source });
        }
        tokio::time::sleep(CONNECT_RETRY).await;
    }
}

impl<State> Session<State> {
    fn closed(socket: &Path, command: &str, reason: CloseReason) -> QmpError {
        QmpError::Closed { socket: socket.to_owned(), command: command.to_owned(), reason: Arc::new(reason) }
    }
}

impl Session<Greeting> {
    async fn greet(socket: Arc<Path>, stream: UnixStream) -> Result<Self> {
        let (read, writer) = stream.into_split();
        let mut reader = LineReader::new(read);
        let line = reader.next_line().await.map_err(|reason| Self::closed(&socket, GREETING, reason))?;
        let GreetingLine { qmp: message } = serde_json::from_slice(&line).map_err(|source| QmpError::Decode {
            socket: socket.to_path_buf(),
            command: GREETING.to_owned(),
            source,
        })?;
        Ok(Self { socket, reader, writer, state: Greeting { message } })
    }

    async fn negotiate(mut self, lane: Lane) -> Result<Session<Negotiated>> {
        let arguments = match lane {
            Lane::InBand => Value::Null,
            Lane::OutOfBand if self.state.message.offers_oob() => json!({ "enable": ["oob"] }),
            Lane::OutOfBand => return Err(QmpError::OobMissing { socket: self.socket.to_path_buf() }),
        };
        let line = wire::request_line(Lane::InBand, NEGOTIATION, &arguments, NEGOTIATION_ID)?;
        let closed = |reason| Self::closed(&self.socket, NEGOTIATION, reason);
        self.writer.write_all(&line).await.map_err(|source| closed(CloseReason::Io(source)))?;
        loop {
            let line = self.reader.next_line().await.map_err(closed)?;
            match Message::parse(&line).map_err(closed)? {
                Message::Reply { id: NEGOTIATION_ID, outcome: Outcome::Return(_) } => break,
                Message::Reply { id: NEGOTIATION_ID, outcome: Outcome::Error { class, desc } } => {
                    let (socket, command) = (self.socket.to_path_buf(), NEGOTIATION.to_owned());
                    return Err(QmpError::Command { socket, command, class, desc });
                }
                // Nobody can be subscribed yet, and what a query tells later is the truth anyway.
                Message::Event(_) | Message::Reply { .. } | Message::Stray(_) => {}
            }
        }
        let Session { socket, reader, writer, state } = self;
        let state = Negotiated { version: state.message.version };
        Ok(Session { socket, reader, writer, state })
    }
}

impl Session<Negotiated> {
    pub(crate) fn into_parts(self) -> Parts {
        let Self { socket, reader, writer, state } = self;
        Parts { socket, reader, writer, version: state.version }
    }
}
