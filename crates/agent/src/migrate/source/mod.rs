//! The source's half of a migration: one task that steps the machine of `core::migration::source`, and executors.
//!
//! ```text
//! asks (HTTP) ─┐
//! words (link) ┼─▶ event ─▶ step ─▶ journal (if it asks) ─▶ effects ─▶ executors ─▶ event …
//! executors  ──┘
//! ```
//!
//! Ground rules: only this task changes the phase; nothing is done before what it rests on is journaled, and a step that the
//! journal refuses is kept and tried again; an executor ends in the event that the machine waits for, or in `Failed`; the
//! same effect is not begun twice at once; work before COMMIT can be left off at any await, and an undo waits until it is;
//! the claim on the instance is given up only when the end is on disk.

pub mod arm;
mod connect;
pub mod copy;
mod images;
mod progress;
mod ram;
mod receipt;
mod retire;
mod shared;
pub use self::undo::announce;
pub mod road;
mod stream;
mod switch;
#[cfg(test)]
mod tests;
mod throttle;
mod undo;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use whimbrel_api::agent::{MigrationReport, Role, SendAsk, SidePhase, Verification};
use whimbrel_core::{
    convergence::FORCED_PAUSE_MS_MAX,
    failure::Failure,
    instance::InstanceSpec,
    migration::{
        journal::{Role as JournalRole, SourceRecord},
        message::{Report, ToTarget},
        overrun::Clock,
        source::{Effect, Event, Phase},
    },
    receipt::Receipt,
};

use self::road::{Facts, Road};
use super::{
    comparisons::Comparison,
    journal::{Journal, SourceEntry, SourcePayload},
    kept::{Held, Kept, WAITS_FOR_JOURNAL},
    meter::Meter,
};
use crate::{context::Context, instances::Instance};

const EVENTS_MAX: usize = 64;
pub const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);
/// The speed of the guest before the move is taken over this long.
pub const BEFORE: Duration = Duration::from_secs(8);

/// A handle on the task of one outgoing migration.
pub struct Source {
    events: mpsc::Sender<Event>,
    asks: mpsc::Sender<(Event, oneshot::Sender<()>)>,
    road: Arc<Road>,
    state: watch::Receiver<State>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    receipt: Option<Receipt>,
    verification: Verification,
    verification_failure: Option<String>,
}

impl Source {
    /// Begins in `phase` (`Idle`, or what the journal had) with `first`.
    pub fn start(
        context: Arc<Context>,
        journal: Journal,
        instance: Arc<Instance>,
        payload: SourcePayload,
        phase: Phase,
        first: Event,
    ) -> Arc<Source> {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (asks, asked) = mpsc::channel(EVENTS_MAX);
        let road = Arc::new(new_road(context, instance, &payload, events.clone()));
        let verification = Verification::None;
        let held = Held::new(SourceRecord::of(&phase));
        let (publish, state) =
            watch::channel(State { phase, receipt: payload.receipt, verification, verification_failure: None });
        let (road_of_driver, busy, kept) = (road.clone(), Arc::default(), Kept::default());
        let driver = Driver { road: road_of_driver, journal, publish, busy, kept, held, inbox, asked };
        tokio::spawn(driver.run(first));
        Arc::new(Source { events, asks, road, state })
    }

    /// Steps the machine with `event` and returns when that is done.
    pub async fn ask(&self, event: Event) -> MigrationReport {
        let (done, wait) = oneshot::channel();
        if self.asks.send((event, done)).await.is_ok() {
            let _ = wait.await;
        }
        self.report()
    }

    /// From the next look on any pause up to a bound is taken.
    pub fn force(&self) {
        self.road.forced.store(true, Ordering::Relaxed);
        self.road.step("the operator wants the end now: a long pause is accepted");
    }

    pub async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    pub fn is_end(&self) -> bool {
        self.state.borrow().phase.is_end()
    }

    /// An end, and nothing goes on in the background.
    pub fn is_settled(&self) -> bool {
        self.is_end() && self.state.borrow().verification != Verification::Running
    }

    pub fn report(&self) -> MigrationReport {
        let state = self.state.borrow().clone();
        let progress = progress::look(&self.road);
        let (step, mode) = self.road.with_facts(|facts| (facts.step.clone(), facts.mode));
        MigrationReport {
            migration: self.road.ask.migration,
            instance: self.road.ask.instance,
            epoch: self.road.ask.epoch,
            role: Role::Source,
            phase: side_phase(&state.phase),
            failure: failure_of(&state.phase),
            state: Report::Source(state.phase),
            mode,
            step,
            progress: Some(progress),
            receipt: state.receipt,
            verification: state.verification,
            verification_failure: state.verification_failure,
        }
    }
}

fn new_road(
    context: Arc<Context>,
    instance: Arc<Instance>,
    payload: &SourcePayload,
    events: mpsc::Sender<Event>,
) -> Road {
    Road {
        context,
        ask: payload.ask.clone(),
        running_before: payload.running_before,
        images_durable: watch::Sender::new(true),
        instance,
        events,
        meter: Meter::start(),
        link: tokio::sync::Mutex::default(),
        replies: tokio::sync::Mutex::default(),
        copy: tokio::sync::Mutex::default(),
        cancel: tokio_util::sync::CancellationToken::new(),
        jobs: tokio_util::task::TaskTracker::new(),
        qemu_ready: watch::Sender::new(false),
        forced: AtomicBool::new(false),
        facts: Mutex::new(Facts::default()),
        ram: Arc::default(),
        written_at_start: 0.into(),
        written_at_stop: 0.into(),
    }
}

pub fn side_phase(phase: &Phase) -> SidePhase {
    match phase {
        Phase::Idle | Phase::Preparing | Phase::Copying => SidePhase::Copying,
        Phase::Switching(_) => SidePhase::Switching,
        Phase::Committed => SidePhase::Committed,
        Phase::HandedOver { .. } => SidePhase::Completed,
        Phase::Aborting { .. } => SidePhase::Aborting,
        Phase::Aborted { .. } => SidePhase::Aborted,
        Phase::Reowned { .. } => SidePhase::Reowned,
    }
}

pub fn failure_of(phase: &Phase) -> Option<Failure> {
    match phase {
        Phase::Aborting { failure } | Phase::Aborted { failure } | Phase::Reowned { failure, .. } => {
            Some(failure.clone())
        }
        Phase::Idle
        | Phase::Preparing
        | Phase::Copying
        | Phase::Switching(_)
        | Phase::Committed
        | Phase::HandedOver { .. } => None,
    }
}

struct Driver {
    road: Arc<Road>,
    journal: Journal,
    publish: watch::Sender<State>,
    /// Effects whose executors are at work.
    busy: Arc<Mutex<BTreeSet<Effect>>>,
    kept: Kept<Event>,
    held: Held<SourceRecord>,
    inbox: mpsc::Receiver<Event>,
    asked: mpsc::Receiver<(Event, oneshot::Sender<()>)>,
}

impl Driver {
    async fn run(mut self, first: Event) {
        note_before(&self.road);
        self.step(&first).await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ended = self.publish.borrow().phase.is_end();
            tokio::select! {
                Some(event) = self.inbox.recv() => self.step(&event).await,
                asked = self.asked.recv() => {
                    // Nobody can ask any more: it was settled.
                    let Some((event, done)) = asked else { return };
                    self.step(&event).await;
                    let _ = done.send(());
                }
                event = self.kept.next() => self.step(&event).await,
                _ = tick.tick(), if !ended => self.tick().await,
            }
        }
    }

    async fn tick(&mut self) {
        let options = &self.road.ask.options;
        let clock = Clock {
            elapsed_ms: self.road.meter.total_ms(),
            paused_ms: self.road.meter.stopped_for().map(|stopped| stopped.as_millis() as u64),
            deadline_ms: options.deadline_ms,
            downtime_ms_max: match self.road.forced.load(Ordering::Relaxed) {
                true => options.downtime_ms_max.max(FORCED_PAUSE_MS_MAX),
                false => options.downtime_ms_max,
            },
        };
        let overrun = clock.overrun(&self.publish.borrow().phase);
        self.step(&overrun.map_or(Event::Tick, |failure| Event::Failed { failure })).await;
    }

    async fn step(&mut self, event: &Event) {
        let phase = self.publish.borrow().phase.clone();
        let step = phase.step(event);
        tracing::debug!(migration = %self.road.ask.migration, ?event, ?step, "source step");
        if step.persist && !self.journaled(&step.next).await {
            return self.kept.keep(event);
        }
        if step.next.is_end() && !phase.is_end() {
            self.road.context.instances.release(self.road.ask.instance, self.road.ask.migration).await;
        }
        if matches!(step.next, Phase::HandedOver { .. }) {
            self.road.meter.guest_runs_on_target();
        }
        if step.next.is_end() && !phase.is_end() {
            tokio::spawn(leave(self.road.clone()));
        }
        self.publish.send_modify(|state| state.phase = step.next);
        for effect in step.effects {
            self.perform(effect);
        }
    }

    /// Whether `next` may be acted on: it is on disk, or a restart from whatever is on disk would do the same.
    async fn journaled(&mut self, next: &Phase) -> bool {
        let Some(record) = SourceRecord::of(next) else { return true };
        let Err(failure) = self.persist(record.clone()).await else {
            self.held.is(record);
            if let Some(before) = self.kept.hurry() {
                self.road.step(before);
            }
            return true;
        };
        let on_disk = async {
            match self.journal.source(self.road.ask.migration).await.ok()?.role {
                JournalRole::Source(found) => Some(found),
                JournalRole::Target(_) | JournalRole::Coordinator(_) => None,
            }
        };
        let goes_on = self.held.goes_on_without(record, |held| held.leads_to(next), on_disk).await;
        if !goes_on {
            self.kept.waits(self.road.with_facts(|facts| facts.step.clone()));
            self.road.step(format!("{WAITS_FOR_JOURNAL}: {failure}"));
        }
        tracing::error!(migration = %self.road.ask.migration, %failure, ?next, goes_on, "the journal refuses");
        goes_on
    }

    async fn persist(&self, record: SourceRecord) -> Result<(), Failure> {
        let ask = self.road.ask.clone();
        let receipt = self.publish.borrow().receipt.clone();
        let entry = SourceEntry::new(
            ask.migration,
            ask.instance,
            ask.epoch,
            JournalRole::Source(record),
            Some(SourcePayload { ask, running_before: self.road.running_before, receipt }),
        );
        self.journal.save_source(&entry).await
    }

    fn perform(&self, effect: Effect) {
        if effect == Effect::Report {
            return;
        }
        if !self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(effect) {
            return;
        }
        let (road, busy, publish) = (self.road.clone(), self.busy.clone(), self.publish.clone());
        let work = async move {
            execute(&road, effect, &publish).await;
            busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&effect);
        };
        if effect.ends_before_undo() {
            self.road.jobs.spawn(work);
        } else {
            tokio::spawn(work);
        }
    }
}

/// The last words are on their way; the target closes its end when this one does.
async fn leave(road: Arc<Road>) {
    tokio::time::sleep(LAST_WORDS_TIME_MAX).await;
    drop(road.link.lock().await.take());
}

fn note_before(road: &Road) {
    let spent = receipt::spent_now(road);
    let writes = road.instance.usual_writes();
    road.with_facts(|facts| {
        facts.spent_before = spent;
        facts.writes_before = writes;
        facts.ram_total_bytes = road.instance.spec().ram_mb << 20;
    });
}

async fn execute(road: &Arc<Road>, effect: Effect, publish: &watch::Sender<State>) {
    let phase = publish.borrow().phase.clone();
    let done = match effect {
        Effect::PrepareTarget => unless_cancelled(road, prepare_target(road)).await.map(|done| done.map(|()| None)),
        Effect::StartCopy if road.ask.storage.is_shared() => {
            ends_in(road, shared::run(road), Event::CopyConverged).await
        }
        Effect::StartCopy => ends_in(road, copy::run(road), Event::CopyConverged).await,
        Effect::StopGuest => ends_in(road, switch::stop_guest(road), Event::GuestStopped).await,
        Effect::FinishRounds => {
            unless_cancelled(road, switch::finish_rounds(road)).await.map(|done| done.map(|()| None))
        }
        Effect::ContinueMigration => ends_in(road, switch::hand_state(road), Event::RamCompleted).await,
        Effect::SendCommit => Some(Ok(send_commit(road).await)),
        // No link, no message: the coordinator's Discard says the same.
        Effect::SendAbort => Some(Ok(road.say(ToTarget::Abort).await.ok().and(None))),
        Effect::Undo => Some(Ok(Some(undo_until_done(road, &phase).await))),
        Effect::Retire => Some(Ok(Some(retire_and_verify(road, publish).await))),
        Effect::Report => None,
    };
    match done {
        Some(Ok(Some(event))) => drop(road.events.send(event).await),
        Some(Ok(None)) | None => {}
        Some(Err(failure)) => {
            tracing::warn!(migration = %road.ask.migration, ?effect, %failure, "source");
            drop(road.events.send(Event::Failed { failure }).await);
        }
    }
}

type Ending = Option<Result<Option<Event>, Failure>>;

async fn ends_in(road: &Road, work: impl Future<Output = Result<(), Failure>>, event: Event) -> Ending {
    unless_cancelled(road, work).await.map(|done| done.map(|()| Some(event)))
}

/// A cancelled executor tells nothing: the undo that cancelled it does.
async fn unless_cancelled<T>(road: &Road, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = road.cancel.cancelled() => None,
        done = work => Some(done),
    }
}

async fn prepare_target(road: &Arc<Road>) -> Result<(), Failure> {
    if road.link.lock().await.is_none() {
        let begun = std::time::Instant::now();
        connect::connect(road).await?;
        tracing::debug!(took_ms = begun.elapsed().as_millis() as u64, "linked");
    }
    road.say(ToTarget::Attach).await
}

async fn send_commit(road: &Arc<Road>) -> Option<Event> {
    road.meter.begin("hand_over");
    road.meter.commit_sent();
    if road.say(ToTarget::Commit).await.is_ok() {
        return None;
    }
    match connect::reconnect(road).await {
        Ok(()) => {
            road.meter.commit_repeated();
            drop(road.say(ToTarget::Commit).await);
        }
        Err(failure) => {
            tracing::warn!(migration = %road.ask.migration, %failure, "COMMIT cannot be delivered yet; the guest waits, paused");
        }
    }
    None
}

/// The target refused after COMMIT: the guest is this host's again, at the epoch after the refused one.
pub async fn reown(context: &Context, instance: &Instance, ask: &SendAsk) -> Result<(), Failure> {
    let spec = InstanceSpec::clone(&instance.spec());
    context.instances.adopt(spec, ask.epoch.next(), ask.migration, instance.vm()).await
}

/// The guest must come back: an undo that fails is tried again for as long as its QEMU lives.
async fn undo_until_done(road: &Arc<Road>, phase: &Phase) -> Event {
    const AGAIN: Duration = Duration::from_millis(500);
    let resume = road.running_before;
    while let Err(failure) = undo::undo(road, resume).await {
        tracing::error!(migration = %road.ask.migration, %failure, "the source could not be brought back yet");
        if road.vm().is_err() {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    if matches!(phase, Phase::Reowned { .. })
        && let Err(failure) = reown(&road.context, &road.instance, &road.ask).await
    {
        tracing::error!(migration = %road.ask.migration, %failure, "the epoch taken back is not recorded yet; the journal has it");
    }
    Event::UndoFinished
}

async fn retire_and_verify(road: &Arc<Road>, publish: &watch::Sender<State>) -> Event {
    let spent = receipt::spent_now(road);
    road.step("moved; the source's copy is put away");
    road.with_facts(Facts::finished);
    // A receipt of half a move would be a lie.
    if publish.borrow().receipt.is_none() && road.meter.is_whole() {
        let receipt = receipt::receipt(road, spent);
        publish.send_modify(|state| state.receipt = Some(receipt));
    }
    retire::retire_until_done(road).await;
    // Both hosts have the same files: there is nothing to compare them with.
    if road.ask.options.verify && !road.ask.storage.is_shared() {
        publish.send_modify(|state| state.verification = Verification::Running);
        let (road, publish) = (road.clone(), publish.clone());
        let comparison = road.context.comparisons.begin(road.ask.instance);
        tokio::spawn(async move { verify_in_background(&road, &comparison, &publish).await });
    }
    Event::RetireFinished
}

async fn verify_in_background(road: &Arc<Road>, comparison: &Comparison, publish: &watch::Sender<State>) {
    road.step("comparing the moved disks with the frozen source");
    let verdict = retire::verify(road, comparison).await;
    publish.send_modify(|state| {
        for report in &verdict.reports {
            let disks = state.receipt.iter_mut().flat_map(|receipt| &mut receipt.disks);
            for disk in disks.filter(|disk| disk.name == report.disk) {
                disk.verified = report.is_equal();
                disk.digest = report.digest.clone();
            }
        }
        state.verification = verdict.verification;
        state.verification_failure = verdict.failure;
    });
    road.step("done");
}
