//! Our own NBD client: the way to the disks of QEMU (source) and of the storage daemon (target), over unix sockets.
//!
//! Ground rules:
//! - an export of a running guest keeps its connections for the whole move (a leaving client can hurt an old QEMU);
//! - nothing is assumed of the server but the protocol; all that it says is bounded and checked;
//! - buffers travel by ownership: into a request and, filled, out of it, without a copy.

mod connection;
mod fault;
mod handshake;
pub mod wire;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::net::UnixStream;

pub use self::fault::{ERRNO_NO_SPACE, Fault, NbdError, Place};
use self::{
    connection::{Answer, Connection, Wanted},
    handshake::Terms,
    wire::{Command, Request},
};
use crate::{
    buffer::Buffer,
    extent::{Extent, push_merged},
};

/// QEMU 7.2 refuses larger requests, whatever they are.
pub const REQUEST_BYTES_MAX: u32 = 32 << 20;
/// Block status carries no data, so one question may span more; below 4 GiB by the protocol.
pub const STATUS_SPAN_BYTES: u64 = 1 << 30;
pub const CONNECTIONS_MAX: usize = 16;
/// Of `list_extents`: 24 MiB.
pub const EXTENTS_LISTED_MAX: usize = 1 << 20;
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// A flush may have a whole page cache to write.
const FLUSH_DEADLINE: Duration = Duration::from_secs(300);

/// K connections to one export. Clones share them.
#[derive(Clone)]
pub struct NbdPool(Arc<Shared>);

struct Shared {
    place: Arc<Place>,
    terms: Terms,
    connections: Vec<Connection>,
    next: AtomicUsize,
}

impl std::fmt::Debug for NbdPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NbdPool({} on {})", self.0.place.export, self.0.place.socket.display())
    }
}

impl NbdPool {
    /// Connects `connections` times. All `contexts` must be granted.
    pub async fn connect(
        socket: &Path,
        export: &str,
        connections: usize,
        contexts: &[&str],
    ) -> Result<NbdPool, NbdError> {
        let place = Arc::new(Place { socket: socket.to_owned(), export: export.to_owned() });
        let mut agreed: Option<Terms> = None;
        let mut open = Vec::new();
        for _ in 0..connections.clamp(1, CONNECTIONS_MAX) {
            let connecting = tokio::time::timeout(CONNECT_DEADLINE, connect_one(socket, export, contexts)).await;
            let late = || Fault::Connect(format!("no answer in {} s", CONNECT_DEADLINE.as_secs()));
            let connected = connecting.unwrap_or_else(|_| Err(late()));
            let (stream, terms) = connected.map_err(|fault| NbdError::new(&place, fault))?;
            if let Some(first) = &agreed
                && *first != terms
            {
                let what = format!("its connections differ: {first:?} and {terms:?}");
                return Err(NbdError::new(&place, Fault::Protocol(what)));
            }
            open.push(Connection::start(place.clone(), stream, &terms));
            agreed = Some(terms);
        }
        let terms = agreed.expect("at least one connection");
        Ok(NbdPool(Arc::new(Shared { place, terms, connections: open, next: AtomicUsize::new(0) })))
    }

    pub fn size(&self) -> u64 {
        self.0.terms.size
    }
    pub fn export(&self) -> &str {
        &self.0.place.export
    }
    pub fn read_only(&self) -> bool {
        self.0.terms.flags & wire::TRANSMIT_READ_ONLY != 0
    }
    pub fn has_context(&self, context: &str) -> bool {
        self.context_id(context).is_some()
    }

    /// One reply's worth of extents from `offset` on: at least one, neighbours merged, never beyond `offset + len`.
    pub async fn block_status(&self, context: &str, offset: u64, len: u64) -> Result<Vec<Extent>, NbdError> {
        let Some(id) = self.context_id(context) else {
            return Err(self.error(Fault::NoContext(context.to_owned())));
        };
        let len = len.min(STATUS_SPAN_BYTES);
        match self.call(Command::BlockStatus, 0, offset, len, Wanted::Extents { context: id }, None).await? {
            Answer::Extents(extents) => Ok(extents),
            other @ (Answer::Done | Answer::Data(_)) => Err(self.error(wrong_answer(&other))),
        }
    }

    /// Walks the whole disk, batch by batch.
    pub fn extents(&self, context: &str) -> ExtentWalk {
        ExtentWalk { pool: self.clone(), context: context.to_owned(), offset: 0 }
    }

    /// Sum of the bytes of all extents for which `wanted` holds, e.g. the allocated bytes of a disk.
    pub async fn count_bytes(&self, context: &str, wanted: impl Fn(&Extent) -> bool) -> Result<u64, NbdError> {
        let mut walk = self.extents(context);
        let mut bytes = 0;
        while let Some(batch) = walk.next().await? {
            bytes += batch.iter().filter(|extent| wanted(extent)).map(|extent| extent.len).sum::<u64>();
        }
        Ok(bytes)
    }

    /// All extents for which `wanted` holds, neighbours merged. More than `EXTENTS_LISTED_MAX` are refused.
    pub async fn list_extents(&self, context: &str, wanted: impl Fn(&Extent) -> bool) -> Result<Vec<Extent>, NbdError> {
        let mut walk = self.extents(context);
        let mut list = Vec::new();
        while let Some(batch) = walk.next().await? {
            batch.into_iter().filter(|extent| wanted(extent)).for_each(|extent| push_merged(&mut list, extent));
            if list.len() > EXTENTS_LISTED_MAX {
                let what = format!("more than {EXTENTS_LISTED_MAX} extents of {context}");
                return Err(self.error(Fault::Protocol(what)));
            }
        }
        Ok(list)
    }

    /// Fills the whole buffer from `offset`. Holes within are found by the server and do not travel.
    pub async fn read(&self, offset: u64, buffer: Buffer) -> Result<Buffer, NbdError> {
        self.read_with(0, offset, buffer).await
    }

    /// Like `read`, for a range that is known to hold data: spares the server the search for holes, and asks it nothing
    /// about allocation (which an inactivated disk of a migrated guest no longer answers).
    pub async fn read_data(&self, offset: u64, buffer: Buffer) -> Result<Buffer, NbdError> {
        let can_ask = self.0.terms.structured && self.0.terms.flags & wire::TRANSMIT_DF != 0;
        self.read_with(if can_ask { wire::COMMAND_DF } else { 0 }, offset, buffer).await
    }

    async fn read_with(&self, flags: u16, offset: u64, buffer: Buffer) -> Result<Buffer, NbdError> {
        let len = buffer.len() as u64;
        match self.call(Command::Read, flags, offset, len, Wanted::Data(buffer), None).await? {
            Answer::Data(buffer) => Ok(buffer),
            other @ (Answer::Done | Answer::Extents(_)) => Err(self.error(wrong_answer(&other))),
        }
    }

    pub async fn write(&self, offset: u64, buffer: Buffer) -> Result<(), NbdError> {
        let len = buffer.len() as u64;
        self.call(Command::Write, 0, offset, len, Wanted::Done, Some(buffer)).await.map(|_| ())
    }

    /// The range reads as zeros afterwards; a hole where the image allows, unless `keep_allocated`.
    pub async fn write_zeroes(&self, offset: u64, len: u64, keep_allocated: bool) -> Result<(), NbdError> {
        let flags = if keep_allocated { wire::COMMAND_NO_HOLE } else { 0 };
        self.in_pieces(Command::WriteZeroes, flags, offset, len).await
    }

    pub async fn trim(&self, offset: u64, len: u64) -> Result<(), NbdError> {
        self.in_pieces(Command::Trim, 0, offset, len).await
    }

    async fn in_pieces(&self, command: Command, flags: u16, offset: u64, len: u64) -> Result<(), NbdError> {
        self.check_range(command, offset, len)?;
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let piece = (end - at).min(u64::from(REQUEST_BYTES_MAX));
            self.call(command, flags, at, piece, Wanted::Done, None).await?;
            at += piece;
        }
        Ok(())
    }

    /// All writes confirmed before are durable.
    pub async fn flush(&self) -> Result<(), NbdError> {
        if self.0.terms.flags & wire::TRANSMIT_FLUSH == 0 {
            return Err(self.error(Fault::Protocol("it offers no flush".to_owned())));
        }
        // Only a server that says so lets a flush on one connection cover writes on the others.
        let one_for_all = self.0.terms.flags & wire::TRANSMIT_MULTI_CONN != 0;
        let count = if one_for_all { 1 } else { self.0.connections.len() };
        for connection in &self.0.connections[..count] {
            let request = Request { command: Command::Flush, flags: 0, cookie: 0, offset: 0, len: 0 };
            connection.call(request, Wanted::Done, None, FLUSH_DEADLINE).await?;
        }
        Ok(())
    }

    /// Says goodbye on all connections and waits until the server has closed them. Later requests fail.
    pub async fn disconnect(&self) {
        for connection in &self.0.connections {
            connection.disconnect().await;
        }
    }

    fn context_id(&self, context: &str) -> Option<u32> {
        self.0.terms.contexts.iter().find(|(_, name)| name == context).map(|(id, _)| *id)
    }

    fn error(&self, fault: Fault) -> NbdError {
        NbdError::new(&self.0.place, fault)
    }

    fn check_range(&self, command: Command, offset: u64, len: u64) -> Result<(), NbdError> {
        let size = self.size();
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(self.error(Fault::OutOfRange { command, offset, len, size }));
        }
        Ok(())
    }

    async fn call(
        &self,
        command: Command,
        flags: u16,
        offset: u64,
        len: u64,
        wanted: Wanted,
        payload: Option<Buffer>,
    ) -> Result<Answer, NbdError> {
        self.check_range(command, offset, len)?;
        let carries = matches!(wanted, Wanted::Data(_)) || payload.is_some();
        if carries && len > u64::from(self.0.terms.payload_bytes_max) {
            let what = format!("a request of {len} bytes was made, it takes {}", self.0.terms.payload_bytes_max);
            return Err(self.error(Fault::Protocol(what)));
        }
        let request = Request { command, flags, cookie: 0, offset, len: len as u32 };
        self.least_busy().call(request, wanted, payload, REQUEST_DEADLINE).await
    }

    fn least_busy(&self) -> &Connection {
        let connections = &self.0.connections;
        let first = self.0.next.fetch_add(1, Relaxed) % connections.len();
        let (before, from) = connections.split_at(first);
        // `max_by_key` keeps the last of equals: in reverse, the next in turn.
        from.iter().chain(before).rev().max_by_key(|connection| connection.room()).expect("at least one connection")
    }
}

async fn connect_one(socket: &Path, export: &str, contexts: &[&str]) -> Result<(UnixStream, Terms), Fault> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| Fault::Connect(error.to_string()))?;
    let terms = handshake::shake_hands(&mut stream, export, contexts, REQUEST_BYTES_MAX).await?;
    Ok((stream, terms))
}

fn wrong_answer(answer: &Answer) -> Fault {
    Fault::Protocol(format!("an answer of the wrong kind: {answer:?}"))
}

/// See `NbdPool::extents`.
pub struct ExtentWalk {
    pool: NbdPool,
    context: String,
    offset: u64,
}

impl ExtentWalk {
    /// The next batch in order of offset; `None` at the end of the disk.
    pub async fn next(&mut self) -> Result<Option<Vec<Extent>>, NbdError> {
        let left = self.pool.size() - self.offset;
        if left == 0 {
            return Ok(None);
        }
        let batch = self.pool.block_status(&self.context, self.offset, left).await?;
        let end = batch.last().map_or(self.offset, Extent::end);
        if end <= self.offset {
            return Err(self.pool.error(Fault::Protocol(format!("no progress of block status at {}", self.offset))));
        }
        self.offset = end;
        Ok(Some(batch))
    }
}
