//! The target's half of a migration: one task that steps the machine of `core::migration::target`, and executors.
//!
//! The shape is that of the source's half (`super::source`). Ground rules: only this task changes the phase; OWN is
//! fsynced before QEMU may `cont`; a step that the journal refuses is kept and tried again; the claim on the instance is given
//! up only when the refusal is on disk; streams are taken only from the source's certificate with the migration's credential.

mod activate;
mod disks;
mod images;
mod incoming;
pub mod road;
mod shared;
#[cfg(test)]
mod tests;
mod undo;
mod verify;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use whimbrel_api::agent::{MigrationReport, Role, SidePhase, Verification};
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::HostName,
    migration::{
        journal::{Role as JournalRole, TargetRecord},
        message::{Report, ToSource},
        target::{Effect, Event, Phase},
    },
};
use whimbrel_transfer::{
    Stream,
    hello::StreamKind,
    link::{ControlLink, ControlReceiver},
};

use self::road::{Control, Known, Road};
use super::{
    again::Again,
    journal::{Journal, TargetEntry, TargetPayload},
    kept::{Held, Kept, WAITS_FOR_JOURNAL},
    link::{FromSource, FromTarget, Message},
};
use crate::{context::Context, cpu, hold::Place};

const EVENTS_MAX: usize = 64;
const TICK: Duration = Duration::from_secs(1);

/// A handle on the task of one incoming migration.
pub struct Target {
    asks: mpsc::Sender<(Event, oneshot::Sender<()>)>,
    road: Arc<Road>,
    phase: watch::Receiver<Phase>,
}

impl Target {
    pub fn start(
        context: Arc<Context>,
        journal: Journal,
        payload: TargetPayload,
        phase: Phase,
        first: Event,
    ) -> Arc<Target> {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (asks, asked) = mpsc::channel(EVENTS_MAX);
        let road =
            Arc::new(Road { recovered: first == Event::Restarted, ..new_road(context, journal, payload, events) });
        let held = Held::new(TargetRecord::of(&phase));
        let (publish, phase) = watch::channel(phase);
        let (busy, kept) = (Arc::default(), Kept::default());
        let driver = Driver { road: road.clone(), publish, busy, kept, held, inbox, asked };
        tokio::spawn(driver.run(first));
        Arc::new(Target { asks, road, phase })
    }

    /// Steps the machine with `event` and returns when that is done.
    pub async fn ask(&self, event: Event) -> MigrationReport {
        let (done, wait) = oneshot::channel();
        if self.asks.send((event, done)).await.is_ok() {
            let _ = wait.await;
        }
        self.report()
    }

    /// Waits until the files' place is ready, or it is refused.
    pub async fn prepared(&self, deadline: Duration) -> MigrationReport {
        let mut phase = self.phase.clone();
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Unknown | Phase::Preparing));
        let _ = tokio::time::timeout(deadline, settled).await;
        self.report()
    }

    pub fn is_end(&self) -> bool {
        self.phase.borrow().is_end()
    }

    /// Whether a stream with these papers belongs here.
    pub fn admits(&self, source: &HostName, credential: &str) -> bool {
        // Both sides are of equal length and random: their hashes compare in a time that tells nothing.
        let same = blake3::hash(credential.as_bytes()) == blake3::hash(self.road.ask.credential.as_bytes());
        same && self.road.ask.source == *source
    }

    /// Takes a stream of the source.
    pub async fn attach(&self, kind: StreamKind, stream: Stream) -> Result<(), Failure> {
        let carries_content = match kind {
            StreamKind::Data(_) | StreamKind::Image(_) | StreamKind::Ram => true,
            StreamKind::Control | StreamKind::Verify => false,
        };
        if carries_content && self.is_end() {
            let detail = format!("migration {} is over: it takes no more data", self.road.ask.migration);
            return Err(Failure::new(FailureCode::Conflict, detail));
        }
        match kind {
            StreamKind::Control => self.attach_control(stream),
            StreamKind::Data(at) => {
                let mut data = self.road.arrivals.data.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                data.insert(at, stream);
            }
            StreamKind::Image(at) => {
                let mut images = self.road.arrivals.images.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                images.insert(at, stream);
            }
            StreamKind::Ram => {
                let mut ram = self.road.arrivals.ram.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *ram = Some(stream);
            }
            StreamKind::Verify => return self.attach_verify(stream).await,
        }
        self.road.arrivals.came.notify_waiters();
        Ok(())
    }

    fn attach_control(&self, stream: Stream) {
        let ControlLink { sender, receiver } = ControlLink::start(stream);
        let reader = tokio::spawn(read(self.road.clone(), receiver));
        let mut control = self.road.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *control = Some(Control { sender, reader });
        drop(control);
        let events = self.road.events.clone();
        tokio::spawn(async move { drop(events.send(Event::LinkUp).await) });
    }

    async fn attach_verify(&self, stream: Stream) -> Result<(), Failure> {
        let vm = self.road.context.instances.get(self.road.ask.spec.id).and_then(|instance| instance.vm());
        let Some(vm) = vm else { return Ok(()) };
        let road = self.road.clone();
        let id = road.ask.spec.id;
        // In this order: a move that claims the server ends the comparison after.
        let comparison = road.context.comparisons.begin(id);
        if road.context.instances.claimed_by(id).is_some_and(|by| by != road.ask.migration) {
            return Ok(());
        }
        tokio::spawn(async move {
            if let Err(failure) = verify::verify(&road, &vm, &comparison, stream).await {
                tracing::warn!(migration = %road.ask.migration, %failure, "the moved disks could not be compared");
            }
        });
        Ok(())
    }

    pub fn report(&self) -> MigrationReport {
        let phase = self.phase.borrow().clone();
        let (step, mode) = self.road.with_known(|known| (known.step.clone(), known.mode));
        MigrationReport {
            migration: self.road.ask.migration,
            instance: self.road.ask.spec.id,
            epoch: self.road.ask.epoch,
            role: Role::Target,
            phase: side_phase(&phase),
            failure: failure_of(&phase),
            state: Report::Target(phase),
            mode,
            step,
            progress: None,
            receipt: None,
            verification: Verification::None,
            verification_failure: None,
        }
    }
}

fn new_road(context: Arc<Context>, journal: Journal, payload: TargetPayload, events: mpsc::Sender<Event>) -> Road {
    let known = Known {
        running: payload.running,
        took_retained: payload.took_retained,
        spec: payload.spec,
        ..Known::default()
    };
    Road {
        cpu_at_start: cpu::self_seconds(),
        context,
        journal,
        ask: payload.ask,
        events,
        control: Mutex::default(),
        arrivals: road::Arrivals::default(),
        images_end: watch::Sender::new(None),
        images_durable: tokio_util::sync::CancellationToken::new(),
        work: tokio::sync::Mutex::default(),
        cancel: tokio_util::sync::CancellationToken::new(),
        recovered: false,
        jobs: tokio_util::task::TaskTracker::new(),
        sealed: tokio_util::sync::CancellationToken::new(),
        known: Mutex::new(known),
        started: Instant::now(),
    }
}

pub fn side_phase(phase: &Phase) -> SidePhase {
    match phase {
        Phase::Unknown | Phase::Preparing | Phase::Prepared => SidePhase::Prepared,
        Phase::Receiving => SidePhase::Copying,
        Phase::Sealed | Phase::Loaded => SidePhase::Switching,
        Phase::Owned => SidePhase::Owned,
        Phase::Running => SidePhase::Completed,
        Phase::Refusing { .. } => SidePhase::Aborting,
        Phase::Refused { .. } => SidePhase::Aborted,
    }
}

pub fn failure_of(phase: &Phase) -> Option<Failure> {
    match phase {
        Phase::Refusing { failure } | Phase::Refused { failure } => Some(failure.clone()),
        Phase::Unknown
        | Phase::Preparing
        | Phase::Prepared
        | Phase::Receiving
        | Phase::Sealed
        | Phase::Loaded
        | Phase::Owned
        | Phase::Running => None,
    }
}

async fn persist(road: &Road, record: TargetRecord) -> Result<(), Failure> {
    let payload = road.with_known(|known| TargetPayload {
        ask: road.ask.clone(),
        running: known.running,
        took_retained: known.took_retained,
        spec: known.spec.clone(),
    });
    let entry = TargetEntry::new(
        road.ask.migration,
        road.ask.spec.id,
        road.ask.epoch,
        JournalRole::Target(record),
        Some(payload),
    );
    road.journal.save_target(&entry).await
}

/// Makes what is known durable while the disks are received.
async fn persist_payload(road: &Road) -> Result<(), Failure> {
    persist(road, TargetRecord::Receiving).await
}

async fn read(road: Arc<Road>, mut receiver: ControlReceiver<Message>) {
    loop {
        match receiver.recv().await {
            Ok(Some(Message::Source(message))) => hear(&road, message).await,
            Ok(Some(Message::Target(_)) | None) => break,
            Err(error) => {
                tracing::info!(migration = %road.ask.migration, %error, "link lost");
                break;
            }
        }
    }
    let _ = road.events.send(Event::LinkLost).await;
}

/// Work goes to tasks of its own: an abort must be heard while a round is written.
async fn hear(road: &Arc<Road>, message: FromSource) {
    match message {
        FromSource::Word(envelope) => {
            if envelope.fits(road.ask.migration, road.ask.epoch) {
                let _ = road.events.send(envelope.body.event()).await;
            }
        }
        FromSource::Offer(offer) => work(road, |road| async move { images::begin(&road, offer).await }),
        FromSource::ImagesEnd { totals } => drop(road.images_end.send_replace(Some(totals))),
        FromSource::StartQemu => work(road, |road| async move { incoming::start(&road).await }),
        FromSource::RoundEnd { round, totals, seal } => {
            work(road, move |road| async move { disks::end_round(&road, round, &totals, seal).await });
        }
    }
}

fn work<F>(road: &Arc<Road>, job: impl FnOnce(Arc<Road>) -> F)
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (jobs, road, doing) = (road.jobs.clone(), road.clone(), job(road.clone()));
    jobs.spawn(async move {
        let done = tokio::select! {
            biased;
            () = road.cancel.cancelled() => return,
            done = doing => done,
        };
        if let Err(failure) = done {
            road.fail(failure).await;
        }
    });
}

struct Driver {
    road: Arc<Road>,
    publish: watch::Sender<Phase>,
    busy: Arc<Mutex<BTreeSet<Effect>>>,
    kept: Kept<Event>,
    held: Held<TargetRecord>,
    inbox: mpsc::Receiver<Event>,
    asked: mpsc::Receiver<(Event, oneshot::Sender<()>)>,
}

impl Driver {
    async fn run(mut self, first: Event) {
        self.step(&first).await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ended = self.publish.borrow().is_end();
            tokio::select! {
                Some(event) = self.inbox.recv() => self.step(&event).await,
                asked = self.asked.recv() => {
                    // Nobody can ask any more: it was settled.
                    let Some((event, done)) = asked else { return };
                    self.step(&event).await;
                    let _ = done.send(());
                }
                event = self.kept.next() => self.step(&event).await,
                _ = tick.tick(), if !ended => self.step(&Event::Tick).await,
            }
        }
    }

    async fn step(&mut self, event: &Event) {
        // By the link or by the coordinator: the first one counts.
        if *event == Event::CommitReceived {
            self.road.with_known(|known| known.commit_at.get_or_insert(Instant::now()).elapsed());
        }
        let phase = self.publish.borrow().clone();
        let step = phase.step(event);
        tracing::debug!(migration = %self.road.ask.migration, ?event, ?step, "target step");
        if step.persist && !self.journaled(&step.next).await {
            return self.kept.keep(event);
        }
        if matches!(step.next, Phase::Refused { .. }) && !phase.is_end() {
            self.road.context.instances.release(self.road.ask.spec.id, self.road.ask.migration).await;
        }
        if step.next.is_end() && !phase.is_end() {
            tokio::spawn(leave(self.road.clone()));
        }
        self.publish.send_replace(step.next);
        for effect in step.effects {
            self.perform(effect);
        }
    }

    /// Whether `next` may be acted on: it is on disk, or a restart from whatever is on disk would do the same.
    async fn journaled(&mut self, next: &Phase) -> bool {
        let Some(record) = TargetRecord::of(next) else { return true };
        let Err(failure) = persist(&self.road, record.clone()).await else {
            self.held.is(record);
            if let Some(before) = self.kept.hurry() {
                self.road.step(before);
            }
            return true;
        };
        let on_disk = async {
            match self.road.journal.target(self.road.ask.migration).await.ok()?.role {
                JournalRole::Target(found) => Some(found),
                JournalRole::Source(_) | JournalRole::Coordinator(_) => None,
            }
        };
        let goes_on = self.held.goes_on_without(record, |held| held.leads_to(next), on_disk).await;
        if !goes_on {
            self.kept.waits(self.road.with_known(|known| known.step.clone()));
            self.road.step(format!("{WAITS_FOR_JOURNAL}: {failure}"));
        }
        tracing::error!(migration = %self.road.ask.migration, %failure, ?next, goes_on, "the journal refuses");
        goes_on
    }

    fn perform(&self, effect: Effect) {
        if !self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(effect) {
            return;
        }
        let (road, busy, phase) = (self.road.clone(), self.busy.clone(), self.publish.borrow().clone());
        tokio::spawn(async move {
            execute(&road, effect, phase).await;
            busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&effect);
        });
    }
}

async fn execute(road: &Arc<Road>, effect: Effect, phase: Phase) {
    match effect {
        Effect::Prepare => {
            // A job, so that an undo waits until it is left off: else it could make a directory behind the undo's back.
            let preparing = road.jobs.track_future(async {
                tokio::select! {
                    biased;
                    () = road.cancel.cancelled() => None,
                    prepared = prepare(road) => Some(prepared),
                }
            });
            match preparing.await {
                Some(Ok(())) => drop(road.events.send(Event::PrepareFinished).await),
                Some(Err(failure)) => drop(road.events.send(Event::Failed { failure }).await),
                None => {}
            }
        }
        Effect::SendPrepared => road.say(ToSource::Prepared).await,
        Effect::SendSealed => road.say(ToSource::Sealed).await,
        Effect::Activate => {
            let event = activate::activate(road).await;
            let runs = matches!(event, Event::ContDone | Event::GuestLost);
            let _ = road.events.send(event).await;
            if runs {
                adopt(road).await;
            }
        }
        Effect::SendOwned => road.say(ToSource::Owned).await,
        Effect::SendRunning => {
            if let Some(receipt) = road.with_known(|known| known.receipt.clone()) {
                let _ = road.tell(FromTarget::Receipt(receipt)).await;
            }
            road.say(ToSource::Running).await;
        }
        Effect::Undo => drop(road.events.send(undo::undo(road).await).await),
        Effect::SendRefused => {
            if let Some(failure) = failure_of(&phase) {
                road.say(ToSource::Refused { failure }).await;
            }
        }
        // The source connects, never the target: without a link the coordinator carries the question (it polls both).
        Effect::AskSource => road.say(ToSource::WhatIsSo).await,
        Effect::Report => {}
    }
}

/// The last words are on their way.
async fn leave(road: Arc<Road>) {
    tokio::time::sleep(super::source::LAST_WORDS_TIME_MAX).await;
    road.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
}

/// The guest runs on these files: they must become this host's, whatever it takes.
async fn adopt(road: &Arc<Road>) {
    let mut again = Again::UNTIL_DONE;
    while let Err(failure) = activate::adopt(road).await {
        tracing::error!(migration = %road.ask.migration, %failure, "the moved guest's files are not in place yet");
        road.step(format!("the guest runs here; its files are not in place yet: {failure}"));
        tokio::time::sleep(again.pause()).await;
    }
    road.step("the guest runs here");
}

async fn prepare(road: &Arc<Road>) -> Result<(), Failure> {
    road.step("making room");
    road.context.instances.make_incoming(road.ask.migration).await?;
    road.context.holds.at(Place::MakingRoom).await;
    // Only QEMU needs them: they come beside the base image, and are waited for before the disks are accepted.
    work(road, |road| async move { road.context.images.ensure_boot(&road.ask.spec).await });
    Ok(())
}
