//! What the executors of one incoming move share: the files, the storage daemon, QEMU, the link.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use whimbrel_api::agent::ReceiveAsk;
use whimbrel_core::{
    disk::{CopyMode, Storage},
    failure::{Failure, FailureCode},
    instance::InstanceSpec,
    migration::{
        message::{Envelope, ToSource},
        target::Event,
    },
};
use whimbrel_transfer::{NbdPool, Stream, link::ControlSender, receive::Receiver, totals::DiskTotals};

use crate::{
    context::Context,
    migrate::{
        journal::Journal,
        link::{FromTarget, Message, TargetReceipt},
        meter::ms,
    },
    storage::daemon::StorageDaemon,
    vm::process::Vm,
};

pub struct Road {
    pub context: Arc<Context>,
    pub journal: Journal,
    pub ask: ReceiveAsk,
    pub events: mpsc::Sender<Event>,
    pub control: Mutex<Option<Control>>,
    pub arrivals: Arrivals,
    /// What the source says that it sent of base images.
    pub images_end: watch::Sender<Option<Vec<DiskTotals>>>,
    /// The base images that came are on the disk.
    pub images_durable: CancellationToken,
    pub work: tokio::sync::Mutex<Work>,
    /// The agent restarted: what it started before is found again, not remembered.
    pub recovered: bool,
    /// Ends every task of this migration.
    pub cancel: CancellationToken,
    /// What the source asked for and is being done; to undo waits until it is left off.
    pub jobs: TaskTracker,
    /// The last round is written: what happens to the data streams from now on means nothing.
    pub sealed: CancellationToken,
    pub known: Mutex<Known>,
    pub started: Instant,
    pub cpu_at_start: f64,
}

pub struct Control {
    pub sender: ControlSender<Message>,
    pub reader: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Streams that came in and wait for whoever needs them.
#[derive(Default)]
pub struct Arrivals {
    pub data: Mutex<BTreeMap<u16, Stream>>,
    pub images: Mutex<BTreeMap<u16, Stream>>,
    pub ram: Mutex<Option<Stream>>,
    pub came: Notify,
}

/// The processes of this move.
#[derive(Default)]
pub struct Work {
    pub daemon: Option<StorageDaemon>,
    pub pools: Vec<NbdPool>,
    pub receiver: Option<Arc<Receiver>>,
    pub vm: Option<Arc<Vm>>,
    pub taps: Vec<String>,
}

/// What is known of the move; durable parts are in the journal's payload too.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub step: String,
    pub mode: Option<CopyMode>,
    /// As the disks' files are here: `base` is what each lies on.
    pub spec: Option<InstanceSpec>,
    pub running: bool,
    pub took_retained: bool,
    pub commit_at: Option<Instant>,
    /// Told before every word that the guest runs: the first may be lost.
    pub receipt: Option<TargetReceipt>,
    pub daemon_cpu_s: f64,
    pub phases_ms: BTreeMap<String, f64>,
}

impl Road {
    pub fn step(&self, words: impl Into<String>) {
        let words = words.into();
        tracing::info!(migration = %self.ask.migration, step = %words, "target");
        self.with_known(|known| known.step = words);
    }

    pub fn with_known<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Notes how long a part of the hand-over took.
    pub fn took(&self, phase: &str, since: Instant) {
        self.with_known(|known| known.phases_ms.insert(phase.to_owned(), ms(since.elapsed())));
    }

    pub fn incoming_dir(&self) -> PathBuf {
        self.context.paths.incoming_of(self.ask.migration)
    }

    /// Where this move's QEMU finds its disks.
    pub fn disks_dir(&self) -> PathBuf {
        match self.ask.storage {
            Storage::Local => self.incoming_dir(),
            Storage::Shared => self.context.paths.instance(self.ask.spec.id),
        }
    }

    pub async fn tell(&self, message: FromTarget) -> Result<(), Failure> {
        let sender = {
            let control = self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            control.as_ref().map(|control| control.sender.clone())
        };
        let no_link = || Failure::new(FailureCode::PeerLost, format!("host {} is not connected", self.ask.source));
        sender.ok_or_else(no_link)?.send(&Message::Target(message)).await.map_err(|error| error.failure())
    }

    /// A word of the machine. Lost words are asked for again by the source.
    pub async fn say(&self, word: ToSource) {
        let envelope = Envelope { migration: self.ask.migration, epoch: self.ask.epoch, body: word };
        if let Err(failure) = self.tell(FromTarget::Word(envelope)).await {
            tracing::debug!(migration = %self.ask.migration, %failure, "a word could not be said on the link");
        }
    }

    /// Something failed: the machine hears it, and so does the source, whose operator reads the reason.
    pub async fn fail(&self, failure: Failure) {
        tracing::warn!(migration = %self.ask.migration, %failure, "target");
        let _ = self.tell(FromTarget::Failed { failure: failure.clone() }).await;
        let _ = self.events.send(Event::Failed { failure }).await;
    }
}

impl Arrivals {
    pub async fn data(&self, count: u16, deadline: Duration) -> Result<Vec<Stream>, Failure> {
        self.all(&self.data, count, deadline).await
    }

    pub async fn images(&self, count: u16, deadline: Duration) -> Result<Vec<Stream>, Failure> {
        self.all(&self.images, count, deadline).await
    }

    async fn all(
        &self,
        streams: &Mutex<BTreeMap<u16, Stream>>,
        count: u16,
        deadline: Duration,
    ) -> Result<Vec<Stream>, Failure> {
        let all = || {
            let mut came = streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (came.len() == usize::from(count)).then(|| std::mem::take(&mut *came).into_values().collect())
        };
        tokio::time::timeout(deadline, self.wait(all)).await.map_err(|_| {
            let detail = format!("{count} data streams of the source did not come within {} s", deadline.as_secs());
            Failure::new(FailureCode::PeerLost, detail)
        })
    }

    /// Waits for as long as the source copies disks first: a lost link or the move's end ends it.
    pub async fn ram(&self) -> Stream {
        self.wait(|| self.ram.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()).await
    }

    async fn wait<T>(&self, take: impl Fn() -> Option<T>) -> T {
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            // Listening begins before the look, so that nothing comes in between unseen.
            came.as_mut().enable();
            if let Some(found) = take() {
                return found;
            }
            came.await;
        }
    }
}
