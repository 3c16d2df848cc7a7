//! Many commands at once, callers that give up, and the end of a session.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::{PATIENCE, Pair, SHORT, next, run_state};
use crate::fake::{Act, Script};
use crate::{CloseReason, Command, EVENT_BACKLOG, Event, EventName, EventTime, IN_FLIGHT_MAX, Qmp, QmpError, RunState};

#[tokio::test]
async fn replies_find_their_command_in_any_order() {
    let script = Script::new().on("first", [Act::ReturnAfterNext(json!(1))]).on("second", [Act::ret(json!(2))]);
    let pair = Pair::new(script).await;
    let (first, second) = tokio::join!(pair.qmp.execute("first", Value::Null), pair.qmp.execute("second", Value::Null));
    assert_eq!((first.expect("a reply"), second.expect("a reply")), (json!(1), json!(2)));
    assert_eq!(pair.fake.commands(), ["first", "second"]);
}

#[tokio::test]
async fn a_late_reply_reaches_nobody() {
    let script = Script::new()
        .on("query-status", [Act::ReturnAfterNext(json!({ "status": "paused" }))])
        .on("query-status", [run_state("running")]);
    let pair = Pair::new(script).await;
    let late = pair.qmp.within(SHORT).query_status().await;
    assert!(matches!(late, Err(QmpError::Deadline { deadline_ms: 40, .. })), "{late:?}");
    assert!(late.expect_err("late").is_outcome_unknown());
    assert_eq!(pair.qmp.query_status().await.expect("a reply"), RunState::Running);
    assert_eq!(pair.qmp.query_status().await.expect("a reply"), RunState::Running);
}

#[tokio::test]
async fn what_qemu_holds_is_bounded() {
    let script = Script::new().on("mute", []);
    let pair = Pair::new(script).await;
    let calls = (0..IN_FLIGHT_MAX + 8).map(|_| {
        let qmp = pair.qmp.within(SHORT);
        tokio::spawn(async move { qmp.execute("mute", Value::Null).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let outcome = call.await.expect("no panic");
        assert!(matches!(outcome, Err(QmpError::Deadline { .. })), "{outcome:?}");
    }
    // The slots are still QEMU's: one more call is not even sent.
    let more = pair.qmp.within(SHORT).execute("more", Value::Null).await;
    assert!(matches!(more, Err(QmpError::Deadline { .. })), "{more:?}");
    assert_eq!(pair.fake.commands(), vec!["mute"; IN_FLIGHT_MAX]);
}

#[tokio::test]
async fn a_caller_that_gives_up_harms_nobody() {
    let script = Script::new().on("mute", []).on("query-status", [run_state("running")]);
    let pair = Pair::new(script).await;
    for turn in 0..200 {
        let long = json!({ "padding": "x".repeat(turn * 500) });
        let call = pair.qmp.execute("mute", long);
        // Polled a few times and dropped, wherever it is by then.
        let _ = tokio::time::timeout(Duration::from_micros(turn as u64), call).await;
        if turn % 10 == 0 && turn < IN_FLIGHT_MAX / 2 {
            assert_eq!(pair.qmp.query_status().await.expect("a reply"), RunState::Running);
        }
    }
    assert!(!pair.qmp.is_closed());
    assert!(pair.fake.commands().iter().filter(|command| *command == "mute").count() <= IN_FLIGHT_MAX);
}

#[tokio::test]
async fn the_end_is_told_to_everybody() {
    let script = Script::new().on("mute", []).on("bye", [Act::event("STOP", json!(null)), Act::Hangup]);
    let pair = Pair::new(script).await;
    let mut events = pair.qmp.events();
    let (one, two, bye, reason) = tokio::join!(
        pair.qmp.execute("mute", Value::Null),
        pair.qmp.execute("mute", Value::Null),
        pair.qmp.execute("bye", Value::Null),
        pair.qmp.closed(),
    );
    for outcome in [one, two, bye, pair.qmp.execute("after", Value::Null).await] {
        let error = outcome.expect_err("the session is over");
        let QmpError::Closed { reason, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**reason, CloseReason::Peer), "{reason:?}");
        assert!(error.is_closed() && error.hint().is_some());
    }
    assert!(matches!(*reason, CloseReason::Peer));
    assert_eq!(next(&mut events).await.expect("the last words").name, EventName::Stop);
    assert_eq!(next(&mut events).await, Err(RecvError::Closed));
    assert_eq!(next(&mut pair.qmp.events()).await, Err(RecvError::Closed));
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let script = Script::new().on("query-status", [run_state("running")]);
    let Pair { qmp, fake, _home } = Pair::new(script).await;
    let clone = qmp.clone();
    drop(qmp);
    clone.query_status().await.expect("the clone keeps the session");
    drop(clone);
    // The fake serves one client at a time, so this one is greeted only when the other is gone.
    let next = Qmp::connect(fake.socket(), PATIENCE).await.expect("the monitor is free");
    next.query_status().await.expect("a reply");
}

#[tokio::test]
async fn events_are_kept_as_qemu_said_them() {
    let pair = Pair::new(Script::new()).await;
    let mut events = pair.qmp.events();
    pair.fake.act(Act::event("MIGRATION", json!({ "status": "active" }))).await;
    pair.fake.act(Act::event("COMET_SEEN", json!({ "tail": 3 }))).await;
    pair.fake.act(Act::raw("{\"event\": \"RESUME\"}\n")).await;
    let timestamp = EventTime { seconds: 1_700_000_000, microseconds: 250_000 };
    assert_eq!(timestamp.since_epoch(), Some(Duration::from_micros(1_700_000_000_250_000)));
    let known = next(&mut events).await.expect("an event");
    assert_eq!(known, Event { name: EventName::Migration, data: json!({ "status": "active" }), timestamp });
    let unknown = next(&mut events).await.expect("an event");
    assert_eq!(unknown.name, EventName::Other("COMET_SEEN".to_owned()));
    assert_eq!(unknown.data, json!({ "tail": 3 }));
    let bare = next(&mut events).await.expect("an event");
    assert_eq!((bare.name, bare.data, bare.timestamp.since_epoch()), (EventName::Resume, Value::Null, None));
    assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn a_slow_receiver_loses_the_oldest_events_only() {
    const MORE: usize = 10;
    let flood = (0..EVENT_BACKLOG + MORE).map(|n| Act::event("TICK", json!(n)));
    let script = Script::new().on("tick", flood.chain([Act::done()]));
    let pair = Pair::new(script).await;
    let mut events = pair.qmp.events();
    pair.qmp.execute("tick", Value::Null).await.expect("a reply after all the events");
    assert_eq!(next(&mut events).await, Err(RecvError::Lagged(MORE as u64)));
    for n in MORE..EVENT_BACKLOG + MORE {
        assert_eq!(next(&mut events).await.expect("an event").data, json!(n));
    }
    assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
}

#[derive(serde::Serialize)]
struct Echo {
    word: String,
}

impl Command for Echo {
    const NAME: &'static str = "echo";
    type Reply = String;
}

#[tokio::test]
async fn a_command_can_be_a_type() {
    let script = Script::new().answer("echo", |arguments| vec![Act::ret(arguments["word"].clone())]);
    let pair = Pair::new(script).await;
    let reply = pair.qmp.call(&Echo { word: "whimbrel".to_owned() }).await;
    assert_eq!(reply.expect("a reply"), "whimbrel");
}

#[tokio::test]
async fn a_request_is_bounded_too() {
    let pair = Pair::new(Script::new()).await;
    let outcome = pair.qmp.execute("long", json!({ "padding": "x".repeat(2 << 20) })).await;
    assert!(matches!(outcome, Err(QmpError::RequestTooLong { .. })), "{outcome:?}");
    assert!(pair.fake.commands().is_empty());
}

#[tokio::test]
async fn quit_counts_an_early_end_as_done() {
    for acts in [vec![Act::done(), Act::Hangup], vec![Act::Hangup]] {
        let pair = Pair::new(Script::new().on("quit", acts)).await;
        pair.qmp.quit().await.expect("done");
        assert!(matches!(*pair.qmp.closed().await, CloseReason::Peer));
    }
    let pair = Pair::new(Script::new().on("quit", [Act::fail("no")])).await;
    pair.qmp.quit().await.expect_err("refused");
}
