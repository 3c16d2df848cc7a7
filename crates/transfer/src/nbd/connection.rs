//! One connection to an export, with many requests in flight.
//!
//! ```text
//!  call ─▶ slot (what waits for the answer, with its buffer) ─▶ queue ─▶ writer task ─▶ socket
//!  call ◀─ oneshot ◀─ slot ◀─ reader task: payload goes from the socket straight into the slot's buffer
//! ```
//!
//! A caller that goes away leaves its slot behind; the answer is read and dropped, the connection stays whole.
//! Any fault of the stream ends the connection: all slots get the same error.

use std::{
    collections::HashMap,
    io::IoSlice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    fault::{Fault, NbdError, Place},
    handshake::Terms,
    wire::{self, ChunkKind, Command, Request},
};
use crate::{
    buffer::Buffer,
    extent::{Extent, push_merged},
    framed::write_all_vectored,
};

/// QEMU's server works on at most 16 requests of a connection at once; more would only wait in the socket.
pub(super) const IN_FLIGHT_MAX: usize = 16;
const READ_AHEAD_BYTES: usize = 4 << 10;
/// QEMU sends at most 1 MiB of extents in one answer.
const STATUS_BYTES_MAX: u32 = 2 << 20;
const ERROR_BYTES_MAX: u32 = 8 << 10;
const GOODBYE_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Data(Buffer),
    Extents(Vec<Extent>),
}

/// What an answer fills.
pub(super) enum Wanted {
    Done,
    Data(Buffer),
    Extents { context: u32 },
}

struct Slot {
    request: Request,
    wanted: Wanted,
    filled: u64,
    extents: Vec<Extent>,
    fault: Option<Fault>,
    answer: oneshot::Sender<Result<Answer, NbdError>>,
    _in_flight: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Slots {
    open: HashMap<u64, Slot>,
    /// Why the connection takes no more requests.
    ended: Option<Fault>,
}

struct Outgoing {
    header: [u8; wire::REQUEST_BYTES],
    payload: Option<Buffer>,
}

pub(super) struct Connection {
    place: Arc<Place>,
    queue: mpsc::Sender<Outgoing>,
    slots: Arc<Mutex<Slots>>,
    in_flight: Arc<Semaphore>,
    cookies: AtomicU64,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Connection {
    pub(super) fn start(place: Arc<Place>, stream: UnixStream, terms: &Terms) -> Self {
        let (read, write) = stream.into_split();
        let (queue, outgoing) = mpsc::channel(IN_FLIGHT_MAX + 1);
        let slots = Arc::new(Mutex::new(Slots::default()));
        let reader = Reader {
            place: place.clone(),
            stream: BufReader::with_capacity(READ_AHEAD_BYTES, read),
            slots: slots.clone(),
            structured: terms.structured,
        };
        // The writer ends when the queue closes; the reader when the server closes the socket.
        tokio::spawn(write_requests(write, outgoing, place.clone(), slots.clone()));
        let reader = Mutex::new(Some(tokio::spawn(reader.run())));
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Connection { place, queue, slots, in_flight, cookies: AtomicU64::new(1), reader }
    }

    /// How many more requests it takes at once.
    pub(super) fn room(&self) -> usize {
        self.in_flight.available_permits()
    }

    pub(super) async fn call(
        &self,
        mut request: Request,
        wanted: Wanted,
        payload: Option<Buffer>,
        deadline: Duration,
    ) -> Result<Answer, NbdError> {
        let permit = self.in_flight.clone().acquire_owned().await.expect("the semaphore is never closed");
        request.cookie = self.cookies.fetch_add(1, Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut slots = self.slots.lock().expect("no panic while held");
            if let Some(fault) = &slots.ended {
                return Err(NbdError::new(&self.place, fault.clone()));
            }
            let slot =
                Slot { request, wanted, filled: 0, extents: Vec::new(), fault: None, answer, _in_flight: permit };
            slots.open.insert(request.cookie, slot);
        }
        // A closed queue shows as an ended connection: its slots were answered with the reason.
        let _ = self.queue.send(Outgoing { header: wire::encode_request(&request), payload }).await;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NbdError::new(&self.place, Fault::Lost("its task ended".to_owned()))),
            Err(_) => {
                let Request { command, offset, len, .. } = request;
                let waited_ms = deadline.as_millis() as u64;
                Err(NbdError::new(&self.place, Fault::Late { command, offset, len, waited_ms }))
            }
        }
    }

    /// Says goodbye and waits for the server to close the connection.
    pub(super) async fn disconnect(&self) {
        let request = Request { command: Command::Disconnect, flags: 0, cookie: 0, offset: 0, len: 0 };
        let _ = self.queue.send(Outgoing { header: wire::encode_request(&request), payload: None }).await;
        let reader = self.reader.lock().expect("no panic while held").take();
        if let Some(mut reader) = reader
            && tokio::time::timeout(GOODBYE_DEADLINE, &mut reader).await.is_err()
        {
            reader.abort();
            end(&self.place, &self.slots, &Fault::Lost("the server did not close it".to_owned()));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.lock().expect("no panic while held").take() {
            reader.abort();
        }
    }
}

/// Answers all that wait with `fault` and refuses what comes later.
fn end(place: &Arc<Place>, slots: &Mutex<Slots>, fault: &Fault) {
    let open = {
        let mut slots = slots.lock().expect("no panic while held");
        slots.ended.get_or_insert_with(|| fault.clone());
        std::mem::take(&mut slots.open)
    };
    for slot in open.into_values() {
        let _ = slot.answer.send(Err(NbdError::new(place, fault.clone())));
    }
}

async fn write_requests(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    place: Arc<Place>,
    slots: Arc<Mutex<Slots>>,
) {
    while let Some(outgoing) = queue.recv().await {
        if let Err(error) = write_one(&mut stream, &outgoing).await {
            return end(&place, &slots, &Fault::Lost(error.to_string()));
        }
    }
    // All handles are gone without a goodbye: closing is all that is left to say.
    let _ = stream.shutdown().await;
}

async fn write_one(stream: &mut OwnedWriteHalf, outgoing: &Outgoing) -> std::io::Result<()> {
    let payload: &[u8] = outgoing.payload.as_deref().unwrap_or(&[]);
    let mut parts = [IoSlice::new(&outgoing.header), IoSlice::new(payload)];
    write_all_vectored(stream, &mut parts).await
}

struct Reader {
    place: Arc<Place>,
    stream: BufReader<OwnedReadHalf>,
    slots: Arc<Mutex<Slots>>,
    structured: bool,
}

fn lost(error: std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Lost("the server closed it".to_owned()),
        _ => Fault::Lost(error.to_string()),
    }
}

impl Reader {
    async fn run(mut self) {
        loop {
            if let Err(fault) = self.read_reply().await {
                return end(&self.place, &self.slots, &fault);
            }
        }
    }

    async fn read_reply(&mut self) -> Result<(), Fault> {
        match self.stream.read_u32().await.map_err(lost)? {
            wire::MAGIC_SIMPLE_REPLY => self.read_simple().await,
            wire::MAGIC_STRUCTURED_REPLY if self.structured => self.read_chunk().await,
            found => Err(Fault::Wire(wire::WireError::Magic { what: "a reply", found: u64::from(found) })),
        }
    }

    async fn read_bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).await.map_err(lost)?;
        Ok(bytes)
    }

    fn take_slot(&self, cookie: u64) -> Result<Slot, Fault> {
        let slot = self.slots.lock().expect("no panic while held").open.remove(&cookie);
        slot.ok_or_else(|| Fault::Protocol(format!("a reply to request {cookie}, which was not made")))
    }

    fn put_back(&self, slot: Slot) {
        self.slots.lock().expect("no panic while held").open.insert(slot.request.cookie, slot);
    }

    /// Runs `work` on a slot that is out of the table; the slot must be answered even if the stream fails meanwhile.
    fn settle(&self, mut slot: Slot, result: Result<(), Fault>, done: bool) -> Result<(), Fault> {
        match result {
            Err(fault) => {
                let _ = slot.answer.send(Err(NbdError::new(&self.place, fault.clone())));
                Err(fault)
            }
            Ok(()) if done => {
                let fault = slot.fault.take();
                let answer = fault.map_or_else(|| finish(slot.wanted, slot.extents, slot.filled, &slot.request), Err);
                let _ = slot.answer.send(answer.map_err(|fault| NbdError::new(&self.place, fault)));
                Ok(())
            }
            Ok(()) => {
                self.put_back(slot);
                Ok(())
            }
        }
    }

    async fn read_simple(&mut self) -> Result<(), Fault> {
        let (cookie, errno) = wire::decode_simple_reply(&self.read_bytes().await?);
        let mut slot = self.take_slot(cookie)?;
        let mut result = Ok(());
        if errno != 0 {
            slot.fail(errno, String::new());
        } else if let Wanted::Data(buffer) = &mut slot.wanted {
            slot.filled = buffer.len() as u64;
            result = self.stream.read_exact(buffer).await.map(|_| ()).map_err(lost);
        }
        self.settle(slot, result, true)
    }

    async fn read_chunk(&mut self) -> Result<(), Fault> {
        let chunk = wire::decode_reply_chunk(&self.read_bytes().await?).map_err(Fault::Wire)?;
        let mut slot = self.take_slot(chunk.cookie)?;
        let result = match chunk.kind {
            ChunkKind::None => Ok(()),
            ChunkKind::Data => self.read_data(&mut slot, chunk.len - 8).await,
            ChunkKind::Hole => self.read_hole(&mut slot).await,
            ChunkKind::BlockStatus => self.read_status(&mut slot, chunk.len).await,
            ChunkKind::Error => self.read_error(&mut slot, chunk.len).await,
        };
        self.settle(slot, result, chunk.done)
    }

    async fn read_data(&mut self, slot: &mut Slot, len: u32) -> Result<(), Fault> {
        let offset = self.stream.read_u64().await.map_err(lost)?;
        let part = slot.part(offset, len)?;
        self.stream.read_exact(part).await.map_err(lost)?;
        Ok(())
    }

    async fn read_hole(&mut self, slot: &mut Slot) -> Result<(), Fault> {
        let (offset, len) = wire::decode_hole(&self.read_bytes().await?);
        slot.part(offset, len)?.fill(0);
        Ok(())
    }

    async fn read_status(&mut self, slot: &mut Slot, len: u32) -> Result<(), Fault> {
        let data = self.read_bounded(len, STATUS_BYTES_MAX).await?;
        let (id, extents) = wire::decode_block_status(&data);
        let request = slot.request;
        let Wanted::Extents { context } = slot.wanted else {
            return Err(Fault::Protocol(format!("a block status as an answer to {:?}", request.command)));
        };
        if id != context {
            return Ok(());
        }
        let (mut offset, end) = (request.offset, request.offset + u64::from(request.len));
        for (len, flags) in extents {
            // The last extent may reach beyond what was asked for.
            let len = u64::from(len).min(end - offset);
            push_merged(&mut slot.extents, Extent { offset, len, flags });
            offset += len;
        }
        Ok(())
    }

    async fn read_error(&mut self, slot: &mut Slot, len: u32) -> Result<(), Fault> {
        let data = self.read_bounded(len, ERROR_BYTES_MAX).await?;
        let (errno, message) = wire::decode_error(&data).map_err(Fault::Wire)?;
        slot.fail(errno, message);
        Ok(())
    }

    async fn read_bounded(&mut self, len: u32, limit: u32) -> Result<Vec<u8>, Fault> {
        if len > limit {
            return Err(Fault::Wire(wire::WireError::Length { what: "a reply chunk", bytes: u64::from(len) }));
        }
        let mut data = vec![0; len as usize];
        self.stream.read_exact(&mut data).await.map_err(lost)?;
        Ok(data)
    }
}

impl Slot {
    fn fail(&mut self, errno: u32, message: String) {
        let Request { command, offset, len, .. } = self.request;
        self.fault.get_or_insert(Fault::Failed { command, offset, len, errno, message });
    }

    /// The part of the buffer that a chunk of a read's answer speaks of.
    fn part(&mut self, offset: u64, len: u32) -> Result<&mut [u8], Fault> {
        let request = self.request;
        self.filled += u64::from(len);
        let start = offset.checked_sub(request.offset).and_then(|start| usize::try_from(start).ok());
        let part = match (&mut self.wanted, start) {
            (Wanted::Data(buffer), Some(start)) => {
                start.checked_add(len as usize).and_then(|end| buffer.get_mut(start..end))
            }
            (Wanted::Data(_), None) | (Wanted::Done | Wanted::Extents { .. }, _) => None,
        };
        part.ok_or_else(|| {
            let Request { command, offset: asked, len: asked_len, .. } = request;
            Fault::Protocol(format!(
                "{len} bytes at {offset} as an answer to {command:?} of {asked_len} bytes at {asked}"
            ))
        })
    }
}

fn finish(wanted: Wanted, extents: Vec<Extent>, filled: u64, request: &Request) -> Result<Answer, Fault> {
    match wanted {
        Wanted::Done => Ok(Answer::Done),
        Wanted::Data(buffer) if filled == u64::from(request.len) => Ok(Answer::Data(buffer)),
        Wanted::Data(_) => {
            let Request { offset, len, .. } = request;
            Err(Fault::Protocol(format!("{filled} bytes in all as an answer to a read of {len} bytes at {offset}")))
        }
        Wanted::Extents { .. } if extents.is_empty() => {
            Err(Fault::Protocol(format!("no extents as an answer to the block status at {}", request.offset)))
        }
        Wanted::Extents { .. } => Ok(Answer::Extents(extents)),
    }
}
