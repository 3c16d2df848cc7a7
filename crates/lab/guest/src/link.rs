//! The one TCP connection to the peer. It is held for the guest's whole life; a second one is made only so that a guest whose
//! network broke can still tell what it finds, and is counted as the failure it is.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    wire::{FromGuest, Head, LINE_BYTES_MAX, Order},
    work::Work,
};

const BEAT_EVERY: Duration = Duration::from_millis(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RECONNECT_AFTER: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Link {
    peer: Mutex<Option<TcpStream>>,
}

impl Link {
    /// Acknowledges a durable record, if there is someone to acknowledge it to.
    pub fn acknowledge(&self, head: Head) {
        // A broken connection is noticed and mended by the heartbeat, whose hello then tells the newest record.
        let _ = self.say(&FromGuest::Ack(head));
    }

    pub fn say(&self, what: &FromGuest) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        let mut peer = self.locked();
        let stream = peer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let said = stream.write_all(&line);
        if said.is_err() {
            // Half a line may be out: nothing can follow it on this connection.
            *peer = None;
        }
        said
    }

    /// Panics elsewhere cannot leave half a line: a line is written under one lock.
    fn locked(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, beats, and connects again; never returns.
pub fn keep(work: &Arc<Work>, name: &str, peer: SocketAddr) -> ! {
    // Tells two lives of a guest apart.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let mut count = 0;
    for connection in 1.. {
        while let Err(error) = connect(work, name, peer, &boot, connection) {
            println!("the peer {peer} does not answer: {error}");
            thread::sleep(RECONNECT_AFTER);
        }
        beat(work, &mut count);
        println!("connection {connection} to the peer is lost");
    }
    unreachable!("connections are counted in 64 bits")
}

fn connect(work: &Arc<Work>, name: &str, peer: SocketAddr, boot: &str, connection: u64) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&peer, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    let orders = stream.try_clone()?;
    // No work goes on meanwhile: no acknowledgement may overtake the hello that tells where the chains stand.
    let pause = work.pause();
    *work.link.locked() = Some(stream);
    work.link.say(&FromGuest::Hello {
        name: name.to_owned(),
        boot: boot.to_owned(),
        connection,
        heads: work.heads(),
    })?;
    drop(pause);
    let work = work.clone();
    thread::spawn(move || {
        if let Err(error) = obey(&work, orders) {
            println!("orders of the peer ended: {error}");
        }
    });
    Ok(())
}

/// Beats until the connection breaks. Counts what was said only, so the numbers on one connection have no holes.
fn beat(work: &Work, count: &mut u64) {
    let mut due = Instant::now();
    loop {
        let beat = FromGuest::Beat { count: *count + 1, load_bytes: work.load_bytes() };
        if work.link.say(&beat).is_err() {
            return;
        }
        *count += 1;
        let now = Instant::now();
        due = (due + BEAT_EVERY).max(now);
        thread::sleep(due - now);
    }
}

/// Carries out the peer's orders, one after the other.
fn obey(work: &Work, stream: TcpStream) -> io::Result<()> {
    let mut orders = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let read_bytes = orders.by_ref().take(LINE_BYTES_MAX as u64).read_line(&mut line)?;
        if read_bytes == 0 {
            return Ok(());
        }
        let order: Order = serde_json::from_str(&line)?;
        work.obey(order)?;
    }
}
