//! The handle through which the rest of the agent talks to one monitor.
//!
//! Two tasks own the socket, so that dropping a call in the middle can never cut a line in half. A call registers
//! itself in the pending table, hands its line to the writer and waits for the reader to find the reply's id.
//!
//! Ground rules:
//! - A slot (of `IN_FLIGHT_MAX`) belongs to a command until QEMU answered it, even if the caller gave up: what is
//!   in flight is what QEMU holds, and that stays bounded while QEMU is stuck.
//! - The deadline covers everything: waiting for a slot, writing, and the reply.
//! - The session ends once. Who asks later is told the same reason.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};

use crate::codec::LineReader;
use crate::command::Command;
use crate::error::{CloseReason, QmpError, Result};
use crate::event::Event;
use crate::session::{self, Parts};
use crate::version::Version;
use crate::wire::{self, Lane, Message, Outcome};

/// Commands that QEMU has not answered yet, at most.
pub const IN_FLIGHT_MAX: usize = 64;

/// Events kept for a slow receiver; past that it skips the oldest (`RecvError::Lagged`).
pub const EVENT_BACKLOG: usize = 1024;

/// The deadline of a command that only looks or flips a switch.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// The deadline of a command that may wait for storage, for a drain or for a peer.
pub const DEADLINE_SLOW: Duration = Duration::from_secs(60);

type Ends = Arc<CloseReason>;

/// One session with a monitor. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Qmp {
    requests: mpsc::Sender<Vec<u8>>,
    link: Arc<Link>,
    lane: Lane,
    deadline: Option<Duration>,
}

/// What the handles and the two tasks share.
struct Link {
    socket: Arc<Path>,
    version: Version,
    next_id: AtomicU64,
    slots: Arc<Semaphore>,
    table: Mutex<Table>,
    ended: watch::Sender<Option<Ends>>,
}

/// Replies awaited, and the events' sender: both go away when the session ends.
enum Table {
    Open { pending: HashMap<u64, Pending>, events: broadcast::Sender<Event> },
    Ended(Ends),
}

struct Pending {
    reply: oneshot::Sender<Outcome>,
    _slot: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").field("socket", &self.link.socket).finish_non_exhaustive()
    }
}

impl Qmp {
    /// Connects and negotiates within `deadline`. A socket that does not exist yet is waited for, since a QEMU that
    /// is starting makes it late: whoever starts one should watch its process beside this.
    pub async fn connect(path: &Path, deadline: Duration) -> Result<Self> {
        Self::establish(path, Lane::InBand, deadline).await
    }

    pub(crate) async fn establish(path: &Path, lane: Lane, deadline: Duration) -> Result<Self> {
        let Parts { socket, reader, writer, version } = session::establish(path, lane, deadline).await?.into_parts();
        let (requests, queue) = mpsc::channel(IN_FLIGHT_MAX);
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let link = Arc::new(Link {
            socket,
            version,
            next_id: AtomicU64::new(1),
            slots: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            table: Mutex::new(Table::Open { pending: HashMap::new(), events }),
            ended: watch::Sender::new(None),
        });
        tokio::spawn(read(reader, Arc::clone(&link)));
        tokio::spawn(write(writer, queue, Arc::clone(&link)));
        Ok(Self { requests, link, lane, deadline: None })
    }

    /// The same session with another deadline for every command of this handle.
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// What QEMU said of itself in its greeting.
    pub fn version(&self) -> &Version {
        &self.link.version
    }

    pub fn socket(&self) -> &Path {
        &self.link.socket
    }

    /// Events from now on. The receiver ends when the session does; one that lags skips the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        match &*self.link.table() {
            Table::Open { events, .. } => events.subscribe(),
            Table::Ended(_) => broadcast::channel(1).1,
        }
    }

    /// Waits for the end of the session and says why it ended.
    pub async fn closed(&self) -> Arc<CloseReason> {
        let mut ended = self.link.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        // The sender lives in the link that this handle holds: it cannot go away first.
        reason.unwrap_or_else(|| Arc::new(CloseReason::Dropped))
    }

    pub fn is_closed(&self) -> bool {
        self.link.ended.borrow().is_some()
    }

    /// Executes a command and gives its reply as QEMU wrote it. `Null` stands for no arguments.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.execute_within(command, arguments, self.deadline.unwrap_or(DEADLINE_DEFAULT)).await
    }

    /// Like `execute`, with a deadline of its own.
    pub async fn execute_within(&self, command: &str, arguments: Value, deadline: Duration) -> Result<Value> {
        let outcome = tokio::time::timeout(deadline, self.exchange(command, &arguments)).await;
        match outcome.map_err(|_| self.late(command, deadline))?? {
            Outcome::Return(value) => Ok(value),
            Outcome::Error { class, desc } => {
                Err(QmpError::Command { socket: self.socket_owned(), command: command.to_owned(), class, desc })
            }
        }
    }

    /// Executes a command that is a type.
    pub async fn call<C: Command>(&self, command: &C) -> Result<C::Reply> {
        let arguments =
            serde_json::to_value(command).map_err(|source| QmpError::Encode { command: C::NAME.to_owned(), source })?;
        // A unit struct is written as null, an empty struct as {}: QEMU takes both.
        let deadline = self.deadline.unwrap_or(C::DEADLINE);
        let value = self.execute_within(C::NAME, arguments, deadline).await?;
        self.decode(C::NAME, value)
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&self, command: &str, arguments: Value) -> Result<T> {
        let value = self.execute(command, arguments).await?;
        self.decode(command, value)
    }

    pub(crate) async fn tell(&self, command: &str, arguments: Value) -> Result<()> {
        self.execute(command, arguments).await.map(drop)
    }

    /// Like `tell`, for a command that may wait for storage, a drain or a peer.
    pub(crate) async fn tell_slow(&self, command: &str, arguments: Value) -> Result<()> {
        let deadline = self.deadline.unwrap_or(DEADLINE_SLOW);
        self.execute_within(command, arguments, deadline).await.map(drop)
    }

    pub(crate) fn encode<T: serde::Serialize>(&self, command: &str, arguments: &T) -> Result<Value> {
        serde_json::to_value(arguments).map_err(|source| QmpError::Encode { command: command.to_owned(), source })
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, command: &str, value: Value) -> Result<T> {
        serde_json::from_value(value).map_err(|source| QmpError::Decode {
            socket: self.socket_owned(),
            command: command.to_owned(),
            source,
        })
    }

    async fn exchange(&self, command: &str, arguments: &Value) -> Result<Outcome> {
        let id = self.link.next_id.fetch_add(1, Ordering::Relaxed);
        let line = wire::request_line(self.lane, command, arguments, id)?;
        // The semaphore and the queue close only when the session ends.
        let Ok(slot) = Arc::clone(&self.link.slots).acquire_owned().await else {
            return Err(self.ended(command));
        };
        // The place in the queue comes first: once the line is in it, it will be sent, and from then on the slot
        // waits for QEMU's answer. Giving up before leaves nothing behind.
        let Ok(place) = self.requests.reserve().await else { return Err(self.ended(command)) };
        let (reply, answer) = oneshot::channel();
        if !self.link.register(id, Pending { reply, _slot: slot }) {
            return Err(self.ended(command));
        }
        place.send(line);
        answer.await.map_err(|_| self.ended(command))
    }

    fn ended(&self, command: &str) -> QmpError {
        let reason = match &*self.link.table() {
            Table::Ended(reason) => Arc::clone(reason),
            Table::Open { .. } => Arc::new(CloseReason::Dropped),
        };
        QmpError::Closed { socket: self.socket_owned(), command: command.to_owned(), reason }
    }

    fn late(&self, command: &str, deadline: Duration) -> QmpError {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        QmpError::Deadline { socket: self.socket_owned(), command: command.to_owned(), deadline_ms }
    }

    fn socket_owned(&self) -> PathBuf {
        self.link.socket.to_path_buf()
    }
}

impl Link {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock with the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, id: u64, entry: Pending) -> bool {
        match &mut *self.table() {
            Table::Open { pending, .. } => pending.insert(id, entry).is_none(),
            Table::Ended(_) => false,
        }
    }

    fn end(&self, reason: CloseReason) {
        let reason = Arc::new(reason);
        let mut table = self.table();
        if matches!(&*table, Table::Open { .. }) {
            tracing::debug!(socket = %self.socket.display(), %reason, "monitor session ended");
            let open = std::mem::replace(&mut *table, Table::Ended(Arc::clone(&reason)));
            drop(table);
            self.slots.close();
            self.ended.send_replace(Some(reason));
            // Last, so that a caller whose reply will never come already finds the reason.
            drop(open);
        }
    }

    fn deliver(&self, message: Message) {
        let mut table = self.table();
        let Table::Open { pending, events } = &mut *table else { return };
        match message {
            Message::Reply { id, outcome } => match pending.remove(&id) {
                // The caller may have given up at its deadline.
                Some(entry) => drop(entry.reply.send(outcome)),
                None => tracing::warn!(socket = %self.socket.display(), id, "reply to no command of ours"),
            },
            // No receiver is no loss: events are hints.
            Message::Event(event) => drop(events.send(event)),
            Message::Stray(value) => {
                tracing::warn!(socket = %self.socket.display(), %value, "message that belongs to no command");
            }
        }
    }

    async fn has_ended(&self) {
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
    }
}

async fn read(mut reader: LineReader<OwnedReadHalf>, link: Arc<Link>) {
    loop {
        let line = tokio::select! {
            line = reader.next_line() => line,
            () = link.has_ended() => return,
        };
        match line.and_then(|line| Message::parse(&line)) {
            Ok(message) => link.deliver(message),
            Err(reason) => return link.end(reason),
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, link: Arc<Link>) {
    loop {
        let line = tokio::select! {
            line = queue.recv() => line,
            () = link.has_ended() => return,
        };
        let Some(line) = line else { return link.end(CloseReason::Dropped) };
        let written = tokio::select! {
            written = writer.write_all(&line) => written,
            () = link.has_ended() => return,
        };
        // A peer that is gone still has its last words in our buffer: the reader ends the session after them.
        if let Err(error) = written {
            tracing::debug!(socket = %link.socket.display(), %error, "monitor takes no more commands");
            return drain(queue, &link).await;
        }
    }
}

/// Takes commands that can no longer be sent until the reader has seen the end of the session.
async fn drain(mut queue: mpsc::Receiver<Vec<u8>>, link: &Link) {
    loop {
        tokio::select! {
            line = queue.recv() => if line.is_none() { return link.end(CloseReason::Dropped) },
            () = link.has_ended() => return,
        }
    }
}
