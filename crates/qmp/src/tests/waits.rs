//! Waiting for a state: reached, never reached, or overtaken by the end of the session.

use serde_json::json;

use super::{PATIENCE, Pair, SHORT, run_state, told};
use crate::fake::{Act, Script};
use crate::{MigrationStatus, RunState};

async fn check(script: Script, want: &str) {
    let pair = Pair::new(script).await;
    let deadline = if want.contains("not reached") { SHORT } else { PATIENCE };
    let outcome = pair.qmp.wait_run_state(RunState::is_running, deadline).await;
    let got = outcome.map_or_else(|error| told(&error, pair.fake.socket()), |state| state.to_string());
    assert_eq!(got, want);
}

#[tokio::test]
async fn a_run_state_is_waited_for() {
    let states =
        |words: &[&str]| words.iter().fold(Script::new(), |script, word| script.on("query-status", [run_state(word)]));
    check(states(&["running"]), "running").await;
    check(states(&["prelaunch", "paused", "from-the-future", "running"]), "running").await;
    let stuck = "the run state was not reached on the monitor SOCKET within 40 ms; the last state seen was";
    check(states(&["prelaunch", "paused"]), &format!("{stuck} paused")).await;
    check(Script::new().on("query-status", []), &format!("{stuck} none, QEMU did not answer")).await;
    let closed = "the monitor SOCKET closed while `query-status` was waiting: QEMU closed the connection";
    check(states(&["paused"]).on("query-status", [Act::Hangup]), closed).await;
    let refused = "QEMU refused `query-status` on the monitor SOCKET: no (GenericError)";
    check(states(&["paused"]).on("query-status", [Act::fail("no")]), refused).await;
}

#[tokio::test]
async fn a_stale_event_does_not_end_a_wait() {
    let script = Script::new()
        .on("query-status", [run_state("paused"), Act::event("RESUME", json!(null))])
        .on("query-status", [Act::event("RESUME", json!(null)), run_state("paused")])
        .on("query-status", [run_state("running")]);
    check(script, "running").await;
}

#[tokio::test]
async fn a_migration_is_waited_for() {
    let status = |word: &str| Act::ret(json!({ "status": word, "error-desc": "load failed" }));
    let script = Script::new()
        .on("query-migrate", [Act::done()])
        .on("query-migrate", [status("active")])
        .on("query-migrate", [status("failed")]);
    let pair = Pair::new(script).await;
    let over = |info: &crate::MigrateInfo| info.status.is_over();
    let info = pair.qmp.wait_migration(over, PATIENCE).await.expect("an end");
    assert_eq!(info.status, MigrationStatus::Failed);
    let never = |info: &crate::MigrateInfo| info.status == MigrationStatus::Completed;
    let error = pair.qmp.wait_migration(never, SHORT).await.expect_err("it failed");
    let want = "the migration's state was not reached on the monitor SOCKET within 40 ms; \
                the last state seen was failed (load failed)";
    assert_eq!(told(&error, pair.fake.socket()), want);
}

#[tokio::test]
async fn an_export_s_end_is_waited_for() {
    let export = |id: &str| json!({ "id": id, "type": "nbd", "node-name": "n", "shutting-down": true });
    let script = Script::new()
        .on("query-block-exports", [Act::ret(json!([export("x0"), export("x1")]))])
        .on("query-block-exports", [Act::ret(json!([export("x1")]))]);
    let pair = Pair::new(script).await;
    pair.qmp.wait_no_export("x0", PATIENCE).await.expect("gone");
    pair.qmp.wait_no_export("x1", SHORT).await.expect_err("still there");
}
