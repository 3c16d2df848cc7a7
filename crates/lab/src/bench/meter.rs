//! Measures what both subjects are measured by alike: the peer's view of the guest, the counters of the link, CPU time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    lab::GuestSite,
    net::{self, MIGRATION_DEVICE},
    peer::{PeerControl, Status},
    process::{self, ProcessId},
    wait,
};

/// How long the guest is watched before a move: long enough to even out a write rate under emulation.
const WINDOW: Duration = Duration::from_secs(4);
const WINDOW_TIME_MAX: Duration = Duration::from_secs(30);
/// The guest has written its first data and its kernel has gone quiet.
const WARM: Duration = Duration::from_secs(4);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Lets the guest get steady.
pub(super) async fn warm(guest: &GuestSite) -> Result<()> {
    let mut peer = PeerControl::connect(&guest.control).await?;
    window(&mut peer, WARM).await.map(drop)
}

/// The peer's view at both ends of a time.
async fn window(peer: &mut PeerControl, length: Duration) -> Result<(Status, Status)> {
    let first = peer.status().await?;
    let end_unix_ms = first.at_unix_ms + length.as_millis() as u64;
    let over = async || {
        let status = peer.status().await?;
        Ok((status.at_unix_ms >= end_unix_ms).then_some(status))
    };
    let last = wait::until_async("the end of the window before the move", WINDOW_TIME_MAX, over).await?;
    Ok((first, last))
}

fn load_bps(first: &Status, last: &Status) -> Option<f64> {
    let bytes = last.load_bytes.checked_sub(first.load_bytes)? as f64;
    let seconds = last.at_unix_ms.checked_sub(first.at_unix_ms)? as f64 / 1000.0;
    (bytes > 0.0 && seconds > 0.0).then_some(bytes / seconds)
}

/// One move as it is watched from outside.
pub(super) struct Watch {
    peer: PeerControl,
    /// Namespace of the target.
    target: String,
    before_bps: Option<f64>,
    /// CPU seconds per second that both hosts use without a move.
    idle_cpu: f64,
    began: Status,
    wire_began: u64,
    sampler: Sampler,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) wire_bytes: u64,
    pub(super) guest_write_ratio: Option<f64>,
    pub(super) longest_stall_ms: u64,
    /// CPU seconds on both hosts above their idle rate.
    pub(super) cpu_s: f64,
    pub(super) connected: bool,
}

impl Watch {
    pub(super) async fn begin(guest: &GuestSite, source: &str, target: &str) -> Result<Watch> {
        let mut peer = PeerControl::connect(&guest.control).await?;
        let namespaces = [source.to_owned(), target.to_owned()];
        let idle = Sampler::start(namespaces.clone());
        let (first, last) = window(&mut peer, WINDOW).await?;
        let (idle_s, window_s) = idle.stop()?;
        peer.reset_stall().await?;
        Ok(Watch {
            before_bps: load_bps(&first, &last),
            idle_cpu: idle_s / window_s,
            began: peer.status().await?,
            peer,
            target: target.to_owned(),
            wire_began: net::counters(target, MIGRATION_DEVICE)?.received_bytes,
            sampler: Sampler::start(namespaces),
        })
    }

    /// At the end of the command.
    pub(super) async fn end(mut self) -> Result<Seen> {
        let ended = self.peer.status().await?;
        let wire_ended = net::counters(&self.target, MIGRATION_DEVICE)?.received_bytes;
        let (cpu_s, seconds) = self.sampler.stop()?;
        let during = load_bps(&self.began, &ended).or(self.before_bps.map(|_| 0.0));
        Ok(Seen {
            wire_bytes: wire_ended.saturating_sub(self.wire_began),
            guest_write_ratio: self.before_bps.zip(during).map(|(before, during)| during / before),
            longest_stall_ms: ended.longest_stall_ms,
            cpu_s: (cpu_s - self.idle_cpu * seconds).max(0.0),
            connected: ended.connected,
        })
    }
}

/// Adds up the CPU time of every process of some namespaces, also of those that end meanwhile: each counts with what was
/// last seen of it.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64>>,
    began: Instant,
}

impl Sampler {
    fn start(namespaces: [String; 2]) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = thread::spawn(move || sample(&namespaces, &told));
        Sampler { stop, thread, began: Instant::now() }
    }

    /// CPU seconds and seconds since the start.
    fn stop(self) -> Result<(f64, f64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let cpu_s = self.thread.join().map_err(|_| anyhow!("the CPU sampler was lost"))?;
        Ok((cpu_s.context("cannot sample CPU time")?, self.began.elapsed().as_secs_f64()))
    }
}

fn sample(namespaces: &[String; 2], stop: &AtomicBool) -> Result<f64> {
    let look = || -> Result<Vec<(ProcessId, f64)>> {
        let found = namespaces.iter().map(|name| process::within(name)).collect::<Result<Vec<_>>>()?;
        Ok(found.concat().into_iter().filter_map(|id| Some((id, id.cpu_s()?))).collect())
    };
    let first: HashMap<_, _> = look()?.into_iter().collect();
    let mut last = first.clone();
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        last.extend(look()?);
        if stopping {
            let used = |(id, cpu_s): (&ProcessId, &f64)| cpu_s - first.get(id).copied().unwrap_or_default();
            return Ok(last.iter().map(used).sum());
        }
        thread::park_timeout(SAMPLE_EVERY);
    }
}
