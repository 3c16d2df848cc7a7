//! What the executors of one outgoing move share: the guest, the link, and the copy in its course.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use whimbrel_api::agent::SendAsk;
use whimbrel_core::{
    disk::{CopyMode, DiskName},
    failure::{Failure, FailureCode},
    instance::MovedAs,
    migration::{
        message::{Envelope, ToTarget},
        source::Event,
    },
    progress::Progress,
};
use whimbrel_qmp::Qmp;
use whimbrel_transfer::{
    NbdPool, Stream,
    counters::{DiskSnapshot, SendCounters, SendSnapshot, TunnelCounters},
    link::ControlSender,
    send::Sender,
};

use super::{arm::Armed, progress::Pace};
use crate::{
    context::Context,
    fault,
    instances::Instance,
    migrate::{
        link::{AcceptedDisk, FromSource, FromTarget, Message},
        meter::Meter,
    },
    sampler::UsualWrites,
    vm::process::Vm,
};

/// Messages of the target that the copy has not taken yet.
pub const REPLIES_MAX: usize = 16;

pub struct Road {
    pub context: Arc<Context>,
    pub ask: SendAsk,
    pub instance: Arc<Instance>,
    pub events: mpsc::Sender<Event>,
    pub meter: Meter,
    pub link: tokio::sync::Mutex<Option<Link>>,
    /// Not part of the link, so that waiting for a reply holds nobody up who has something to say.
    pub replies: tokio::sync::Mutex<Option<mpsc::Receiver<FromTarget>>>,
    pub copy: tokio::sync::Mutex<Option<Copy>>,
    /// Ends every task of the copy.
    pub cancel: CancellationToken,
    /// Work before COMMIT that is under way; to undo waits until it is left off.
    pub jobs: TaskTracker,
    /// Comes whenever the target's QEMU is up, in the middle of a round or after it.
    pub qemu_ready: watch::Sender<bool>,
    /// The base images that the target lacked are on its disk; there were none, until it asks for some.
    pub images_durable: watch::Sender<bool>,
    /// The operator wants the end now, with whatever pause that takes.
    pub forced: AtomicBool,
    pub facts: Mutex<Facts>,
    pub ram: Arc<TunnelCounters>,
    /// An undo lets a guest run again that ran.
    pub moved_as: MovedAs,
    /// Bytes that the guest had written to its disks when the copy began.
    pub written_at_start: AtomicU64,
    pub written_at_stop: AtomicU64,
}

/// Connections to the target's agent.
pub struct Link {
    pub control: ControlSender<Message>,
    /// Taken by the copy.
    pub data: Vec<Stream>,
    pub reader: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The disk copy between its first round and its last.
pub struct Copy {
    pub armed: Armed,
    pub sender: Sender,
    pub pools: Vec<NbdPool>,
    pub disks: Vec<AcceptedDisk>,
    pub round: u32,
}

/// What is known and shown of the move.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub step: String,
    pub mode: Option<CopyMode>,
    pub progress: Progress,
    pub counters: Option<Arc<SendCounters>>,
    pub images: Option<CarriedImages>,
    pub disks: Vec<DiskFacts>,
    pub pace: Pace,
    pub dirty_bytes: u64,
    pub ram_total_bytes: u64,
    pub ram_left_bytes: u64,
    pub ram_sent_bytes: u64,
    pub ram_rounds: u64,
    pub writes_before: Option<UsualWrites>,
    /// Where the counters stood when the move began; QEMU's own rate before.
    pub spent_before: Spent,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub agent_s: f64,
    pub qemu_s: f64,
    /// CPU seconds per second that the guest uses by itself.
    pub qemu_idle_rate: f64,
    /// By the migration interface, whoever caused it.
    pub wire_sent_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct DiskFacts {
    pub name: DiskName,
    pub virtual_bytes: u64,
    pub allocated_bytes: u64,
    /// What round 0 is expected to look at.
    pub due_bytes: u64,
    pub reused: Reused,
}

/// Base images that travel below the disks.
#[derive(Clone, Debug)]
pub struct CarriedImages {
    /// The disk (index in `Facts::disks`) as part of which each image counts.
    pub disks: Vec<usize>,
    pub counters: Arc<SendCounters>,
}

/// What of a disk does not travel since the target has it.
#[derive(Clone, Copy, Debug)]
pub enum Reused {
    /// As the digests told.
    Counted,
    /// The base image.
    Base { bytes: u64 },
    /// All that is allocated but what was sent: the retained copy.
    AllBut,
}

impl Facts {
    /// What was counted so far, base images with the disks that lie on them. `None` before anything travels.
    pub fn counted(&self) -> Option<SendSnapshot> {
        let none =
            || SendSnapshot { disks: vec![DiskSnapshot::default(); self.disks.len()], ..SendSnapshot::default() };
        let Some(images) = &self.images else { return self.counters.as_ref().map(|counters| counters.snapshot()) };
        let mut counted = self.counters.as_ref().map_or_else(none, |counters| counters.snapshot());
        let carried = images.counters.snapshot();
        for (disk, image) in images.disks.iter().zip(&carried.disks) {
            counted.disks[*disk].add(image);
        }
        counted.wire_bytes += carried.wire_bytes;
        counted.starved_us += carried.starved_us;
        counted.blocked_us += carried.blocked_us;
        Some(counted)
    }
}

impl Road {
    pub fn vm(&self) -> Result<Arc<Vm>, Failure> {
        self.instance.vm().ok_or_else(|| {
            Failure::new(FailureCode::Conflict, format!("server {} does not run here", self.instance.id()))
                .hint("start it, or move it while it is stopped")
        })
    }

    pub fn qmp(&self) -> Result<Qmp, Failure> {
        self.vm().map(|vm| vm.qmp().clone())
    }

    /// Of the machine that moves.
    pub fn ram_bytes(&self) -> u64 {
        let spec = self.instance.spec();
        let ram_mb = match self.moved_as {
            MovedAs::Running | MovedAs::Paused => spec.ram_mb,
            MovedAs::Off => spec.dormant().ram_mb,
        };
        ram_mb << 20
    }

    pub fn step(&self, words: impl Into<String>) {
        let words = words.into();
        tracing::info!(migration = %self.ask.migration, step = %words, "source");
        self.with_facts(|facts| facts.step = words);
    }

    pub fn with_facts<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(&mut self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub async fn tell(&self, message: FromSource) -> Result<(), Failure> {
        let link = self.link.lock().await;
        let control = link.as_ref().map(|link| link.control.clone()).ok_or_else(|| no_link(&self.ask))?;
        drop(link);
        control.send(&Message::Source(message)).await.map_err(|error| error.failure())
    }

    pub async fn say(&self, word: ToTarget) -> Result<(), Failure> {
        let envelope = Envelope { migration: self.ask.migration, epoch: self.ask.epoch, body: word };
        self.tell(FromSource::Word(envelope)).await
    }

    /// The target's next message that is not a word of its machine.
    pub async fn reply(&self, deadline: Duration, wanted: &str) -> Result<FromTarget, Failure> {
        let mut replies = self.replies.lock().await;
        let replies = replies.as_mut().ok_or_else(|| no_link(&self.ask))?;
        match tokio::time::timeout(deadline, replies.recv()).await {
            Ok(Some(FromTarget::Failed { failure })) => Err(failure),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(no_link(&self.ask)),
            Err(_) => Err(Failure::new(
                FailureCode::DeadlinePassed,
                format!("host {} did not say '{wanted}' within {} s", self.ask.target, deadline.as_secs()),
            )),
        }
    }

    pub fn run_file(&self, name: &str) -> PathBuf {
        self.context.paths.run_dir(self.instance.id()).join(name)
    }

    /// Bytes that the guest has written to its disks since its QEMU started.
    pub async fn guest_written_bytes(&self) -> Result<u64, Failure> {
        let stats = self.qmp()?.execute("query-blockstats", json!({})).await.map_err(of_qmp)?;
        Ok(stats.as_array().into_iter().flatten().filter_map(|disk| disk["stats"]["wr_bytes"].as_u64()).sum())
    }
}

fn no_link(ask: &SendAsk) -> Failure {
    Failure::new(FailureCode::PeerLost, format!("the link to host {} at {} is gone", ask.target, ask.target_address))
        .hint("check the migration network between the hosts and the target's agent, then move again")
}

pub fn of_qmp(error: whimbrel_qmp::QmpError) -> Failure {
    fault::of_qmp(&error)
}

pub fn unexpected(reply: &FromTarget, wanted: &str) -> Failure {
    Failure::new(FailureCode::Internal, format!("the target answered {reply:?} where '{wanted}' was due"))
}
