//! The source against what goes wrong on its own host, with a real QEMU and nobody at the other end.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use whimbrel_core::{disk::DiskSpec, failure::FailureCode, migration::source::Switch};
use whimbrel_daemon::tls::{self, Protocol};
use whimbrel_qmp::Qmp;
use whimbrel_transfer::hello::{self, StreamKind};

use super::{arm::Armed, *};
use crate::{
    migrate::{
        link::TargetReceipt,
        trial::{Ground, MIGRATION, send_ask},
    },
    trial::{QEMU_VARIABLES, Trial, until},
};

fn cancel() -> Event {
    Event::Cancel { failure: Failure::new(FailureCode::Cancelled, "by the operator") }
}

fn payload(ask: SendAsk) -> SourcePayload {
    SourcePayload { ask, moved_as: MovedAs::Running, receipt: None }
}

struct Moving {
    ground: Ground,
    instance: Arc<Instance>,
    qmp: Qmp,
}

impl Moving {
    async fn on(variable: &str) -> Self {
        let ground = Ground::new(Trial::on(variable, None)).await;
        let instance = ground.guest().await;
        let qmp = instance.vm().unwrap().qmp().clone();
        Moving { ground, instance, qmp }
    }

    async fn new() -> Self {
        Moving::on(QEMU_VARIABLES[0]).await
    }

    fn start(&self, ask: SendAsk, journal: Journal, phase: Phase, first: Event) -> Arc<Source> {
        Source::start(self.ground.context.clone(), journal, self.instance.clone(), payload(ask), phase, first)
    }

    fn journal(&self) -> Journal {
        Journal::new(&self.ground.trial.paths.journal())
    }

    fn ask(&self) -> SendAsk {
        send_ask(&self.instance)
    }

    async fn runs(&self) -> bool {
        self.qmp.query_status().await.unwrap().is_running()
    }

    fn claimed(&self) -> bool {
        self.ground.context.instances.claimed_by(self.instance.id()).is_some()
    }
}

fn phase(source: &Source) -> Phase {
    source.state.borrow().phase.clone()
}

fn waits_for_journal(source: &Source) -> bool {
    source.report().step.contains(WAITS_FOR_JOURNAL)
}

async fn recorded(journal: &Journal) -> SourceRecord {
    match journal.source(MIGRATION).await.unwrap().role {
        JournalRole::Source(record) => record,
        other => panic!("{other:?}"),
    }
}

/// Limit and group of each disk as QEMU has them.
async fn limits(qmp: &Qmp) -> Vec<(u64, Value)> {
    let disks = qmp.execute("query-block", json!({})).await.unwrap();
    let inserted = disks.as_array().unwrap().iter().map(|disk| &disk["inserted"]);
    inserted.map(|disk| (disk["bps_wr"].as_u64().unwrap(), disk["group"].clone())).collect()
}

#[tokio::test]
async fn a_cancelled_move_leaves_no_throttle_on_the_guests_disks() {
    const BPS_MAX: u64 = 8 << 20;
    for variable in QEMU_VARIABLES {
        let moving = Moving::on(variable).await;
        throttle::limit(&moving.qmp, &moving.instance.spec(), BPS_MAX).await.unwrap();
        let together = limits(&moving.qmp).await;
        assert!(together.len() == 2 && together.iter().all(|disk| disk.0 == BPS_MAX), "{together:?}");
        assert!(together[0].1.is_string() && together[0].1 == together[1].1, "each disk by itself: {together:?}");

        // As after a restart of the agent: nobody remembers the limit.
        let source = moving.start(moving.ask(), moving.journal(), Phase::Preparing, Event::Restarted);
        until("the end", async || source.is_end()).await;
        let after = limits(&moving.qmp).await;
        assert!(after.iter().all(|disk| *disk == (0, Value::Null)), "{after:?}");
        assert!(moving.runs().await);
    }
}

#[tokio::test]
async fn the_guest_goes_on_though_abort_cannot_be_written() {
    let moving = Moving::new().await;
    moving.qmp.stop().await.unwrap();
    let (journal, dir) = moving.ground.journal_away();
    let finishing = Phase::Switching(Switch::Finishing);
    let source = moving.start(moving.ask(), journal.clone(), finishing, Event::LinkLost);
    until("the guest runs", async || moving.runs().await).await;
    until("the end waits for its record", async || waits_for_journal(&source)).await;
    let now = phase(&source);
    assert!(matches!(now, Phase::Aborting { .. }) && moving.claimed(), "an end that is not on disk: {now:?}");

    fs_err::create_dir(&dir).unwrap();
    until("the end", async || source.is_end()).await;
    let record = recorded(&journal).await;
    assert!(
        matches!(&record, SourceRecord::Aborted { failure } if failure.code == FailureCode::PeerLost),
        "{record:?}"
    );
    assert!(!moving.claimed());
}

#[tokio::test]
async fn commit_is_acted_on_as_soon_as_it_is_on_disk_and_not_before() {
    let moving = Moving::new().await;
    moving.qmp.stop().await.unwrap();
    let (journal, dir) = moving.ground.journal_away();
    let loading = Phase::Switching(Switch::Loading);
    let source = moving.start(moving.ask(), journal.clone(), loading.clone(), Event::RamCompleted);
    until("COMMIT waits for its record", async || waits_for_journal(&source)).await;
    assert_eq!(phase(&source), loading);
    fs_err::create_dir(&dir).unwrap();
    until("COMMIT", async || phase(&source) == Phase::Committed).await;
    assert!(!waits_for_journal(&source), "it says that it waits, and does not");
    assert_eq!(recorded(&journal).await, SourceRecord::Committed);
    assert!(!moving.runs().await);
}

/// A write that fails late leaves its record in the file. A guest that went on then would run twice after a restart.
#[tokio::test]
async fn a_commit_that_may_be_on_disk_is_taken_back_only_by_an_abort_that_is() {
    for left in [SourceRecord::Moving, SourceRecord::Committed] {
        let moving = Moving::new().await;
        moving.qmp.stop().await.unwrap();
        let (journal, ask) = (moving.journal(), moving.ask());
        let role = JournalRole::Source(left.clone());
        let entry = SourceEntry::new(MIGRATION, ask.instance, ask.epoch, role, Some(payload(ask.clone())));
        journal.save_source(&entry).await.unwrap();
        // In the way of every write, and of no read.
        let in_the_way = moving.ground.trial.paths.journal().join(format!(".{MIGRATION}.source.json.new"));
        fs_err::create_dir(&in_the_way).unwrap();

        let loading = Phase::Switching(Switch::Loading);
        let source = moving.start(ask, journal.clone(), loading.clone(), Event::RamCompleted);
        until("COMMIT waits for its record", async || waits_for_journal(&source)).await;
        source.ask(cancel()).await;
        if left == SourceRecord::Moving {
            until("the guest runs", async || moving.runs().await).await;
            continue;
        }
        // The cancel was stepped and refused; what it would have begun is not.
        assert!(source.road.jobs.is_empty() && !source.road.cancel.is_cancelled());
        assert!(!moving.runs().await && phase(&source) == loading, "{:?}", phase(&source));
        fs_err::remove_dir(&in_the_way).unwrap();
        until("one of both", async || phase(&source) == Phase::Committed || source.is_end()).await;
        assert_eq!(recorded(&journal).await == SourceRecord::Committed, !moving.runs().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_that_is_under_way_does_not_outlive_the_undo() {
    const NOT_YET: u64 = u64::MAX;
    let moving = Moving::new().await;
    let source = moving.start(moving.ask(), moving.journal(), Phase::Copying, Event::Query);
    let written = &source.road.written_at_stop;
    written.store(NOT_YET, std::sync::atomic::Ordering::SeqCst);
    // The driver itself says something when it begins.
    source.ask(Event::Query).await;
    // Between its look at the disks and QEMU's `stop`, the executor says what it does: there it is held.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (holds, holding) = oneshot::channel();
    let road = source.road.clone();
    let holder = std::thread::spawn(move || {
        road.with_facts(|_| {
            holds.send(()).unwrap();
            let _ = held.recv();
        });
    });
    holding.await.unwrap();
    // A thread that is held may be the one that would have looked after sockets and timers: keep another one awake.
    let awake = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    source.tell(Event::CopyConverged).await;
    until("the stop is near", async || written.load(std::sync::atomic::Ordering::SeqCst) != NOT_YET).await;
    source.tell(cancel()).await;
    until("the undo waits for the stop", async || source.road.jobs.is_closed()).await;
    assert!(!source.road.jobs.is_empty() && !source.is_end(), "nobody waits for the stop");
    drop(hold);
    tokio::task::spawn_blocking(move || holder.join().unwrap()).await.unwrap();
    awake.abort();
    until("the end", async || source.is_end()).await;
    assert!(source.road.jobs.is_empty(), "the stop is still under way after the undo");
    assert!(moving.runs().await, "the guest was stopped after the undo");
}

#[tokio::test]
async fn a_copy_that_cannot_be_put_away_is_tried_until_it_is() {
    let moving = Moving::new().await;
    let ask = moving.ask();
    let retired = moving.ground.trial.paths.retired(ask.instance, ask.epoch);
    fs_err::write(&retired, "in the way").unwrap();
    let source = moving.start(ask, moving.journal(), Phase::Committed, Event::TargetRunning);
    until("a failure is told", async || source.report().step.contains("cannot be put away yet")).await;
    assert_eq!(phase(&source), Phase::HandedOver { retired: false });
    assert!(moving.claimed());
    fs_err::remove_file(&retired).unwrap();
    until("the end", async || source.is_end()).await;
    assert_eq!(phase(&source), Phase::HandedOver { retired: true });
    assert!(retired.join("root.qcow2").is_file() && !moving.claimed());
}

fn deadline_passed(source: &Source) -> bool {
    failure_of(&phase(source)).is_some_and(|failure| failure.code == FailureCode::DeadlinePassed)
}

#[tokio::test]
async fn a_guest_that_stands_still_too_long_before_commit_goes_on() {
    let moving = Moving::new().await;
    let source = moving.start(moving.ask(), moving.journal(), Phase::Switching(Switch::Finishing), Event::Query);
    moving.qmp.stop().await.unwrap();
    source.road.meter.guest_stops(Instant::now().checked_sub(Duration::from_secs(60)).unwrap());
    until("the end", async || source.is_end()).await;
    assert!(deadline_passed(&source) && moving.runs().await, "{:?}", phase(&source));
}

#[tokio::test]
async fn a_deadline_does_not_wait_for_the_end_of_a_round() {
    let moving = Moving::new().await;
    let mut ask = moving.ask();
    ask.options.deadline_ms = Some(1);
    let source = moving.start(ask, moving.journal(), Phase::Copying, Event::Query);
    until("the end", async || source.is_end()).await;
    assert!(deadline_passed(&source), "{:?}", phase(&source));
}

#[tokio::test]
async fn a_turn_whose_bitmap_is_lost_or_still_is_no_empty_turn() {
    for variable in QEMU_VARIABLES {
        let moving = Moving::on(variable).await;
        let socket = moving.ground.trial.paths.run_dir(moving.instance.id()).join("move.nbd");
        let wanted = |disk: &DiskSpec| (disk.name.clone(), disk.virtual_bytes, arm::GRANULARITY_BYTES);
        for (command, why) in
            [("block-dirty-bitmap-disable", "does not record"), ("block-dirty-bitmap-remove", "is gone")]
        {
            let disks = moving.instance.spec().disks.iter().map(wanted).collect();
            let mut armed = Armed::arm(&moving.qmp, &socket, disks).await.unwrap();
            assert_eq!(armed.dirty_bytes().await.unwrap(), [0, 0]);
            let ours = arm::bitmaps(&moving.qmp).await.unwrap();
            let ours = ours.iter().find(|bitmap| bitmap.name.starts_with(arm::OURS)).unwrap();
            moving.qmp.execute(command, json!({"node": ours.node, "name": ours.name})).await.unwrap();
            let failure = armed.turn().await.expect_err("nothing is dirty, it said");
            assert!(failure.detail.contains(why), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_round_trip_to_the_target_is_measured_when_a_stream_is_opened() {
    const SLOW: Duration = Duration::from_millis(60);
    let moving = Moving::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ask = moving.ask();
    ask.target_address = listener.local_addr().unwrap().to_string();
    let config = tls::mutual(&moving.ground.identity_there(), &moving.ground.context.ca, Protocol::Data).unwrap();
    let target = async {
        let (tcp, address) = listener.accept().await.unwrap();
        let mut stream = tls::accept(tcp, address, &config).await.unwrap();
        hello::receive(&mut stream).await.unwrap();
        tokio::time::sleep(SLOW).await;
        hello::accept(&mut stream).await.unwrap();
    };
    let source = moving.start(ask, moving.journal(), Phase::Copying, Event::Query);
    let (opened, ()) = tokio::join!(connect::open(&source.road, StreamKind::Control), target);
    opened.unwrap();
    source.road.meter.guest_stops(Instant::now());
    source.road.meter.commit_sent();
    source.road.meter.target_says(TargetReceipt::default());
    assert!(source.road.meter.downtime_ms() >= SLOW.as_secs_f64() * 1e3 / 2.0);
}
