//! What a monitor may say instead of a plain answer, and what becomes of the command and of the session.

use serde_json::json;

use super::{PATIENCE, Pair, SHORT, run_state, told};
use crate::fake::{Act, Script};
use crate::{ErrorClass, LINE_BYTES_MAX};

/// Does `acts` at a `query-status`; `want` is the run state or the error. Then asks again and tells whether the
/// session still works.
async fn check(acts: Vec<Act>, want: &str, lives: bool) {
    let script = Script::new().on("query-status", acts.clone()).on("query-status", [run_state("running")]);
    let pair = Pair::new(script).await;
    let silent = !acts.iter().any(|act| !matches!(act, Act::Event { .. }));
    let patient = pair.qmp.within(if silent { SHORT } else { PATIENCE });
    let got = match patient.query_status().await {
        Ok(state) => state.to_string(),
        Err(error) => told(&error, pair.fake.socket()),
    };
    assert_eq!(got, want, "{acts:?}");
    let again = pair.qmp.query_status().await;
    assert_eq!(again.is_ok(), lives, "{acts:?} then {again:?}");
    assert_eq!(pair.qmp.is_closed(), !lives, "{acts:?}");
}

#[tokio::test]
async fn vocabulary_is_lenient() {
    check(vec![run_state("paused")], "paused", true).await;
    check(vec![run_state("dreaming")], "dreaming", true).await;
    let extra = json!({ "status": "paused", "running": false, "singlestep": false, "mood": ["calm", 1] });
    check(vec![Act::ret(extra)], "paused", true).await;
    check(vec![Act::event("COMET_SEEN", json!({ "tail": 3 })), run_state("paused")], "paused", true).await;
    check(vec![Act::raw("{\"event\": \"BARE\"}\n"), run_state("paused")], "paused", true).await;
    check(vec![Act::raw("\r\n\n"), run_state("paused")], "paused", true).await;
    check(vec![Act::raw("{\"surprise\": 1}\n"), run_state("paused")], "paused", true).await;
    check(vec![Act::raw("{\"error\": \"odd\", \"id\": []}\n"), run_state("paused")], "paused", true).await;
    check(vec![Act::raw("{\"return\": {}, \"id\": 4096}\n"), run_state("paused")], "paused", true).await;
}

#[tokio::test]
async fn a_refusal_leaves_the_session() {
    let refused = "QEMU refused `query-status` on the monitor SOCKET";
    check(vec![Act::fail("not now")], &format!("{refused}: not now (GenericError)"), true).await;
    let class = ErrorClass::Other("Astonishment".to_owned());
    let act = Act::Fail { class, desc: "oh".to_owned() };
    check(vec![act], &format!("{refused}: oh (Astonishment)"), true).await;
    let shape = "the reply to `query-status` on the monitor SOCKET has an unexpected shape";
    let missing = "missing field `status`";
    check(vec![Act::done()], &format!("{shape}: {missing}"), true).await;
    let null = "invalid type: null, expected struct StatusInfo";
    check(vec![Act::ret(json!(null))], &format!("{shape}: {null}"), true).await;
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_leaves_the_session() {
    let late = "no reply to `query-status` on the monitor SOCKET within 40 ms";
    check(vec![], late, true).await;
    check(vec![Act::event("STOP", json!(null))], late, true).await;
}

#[tokio::test]
async fn broken_framing_ends_the_session() {
    let closed = "the monitor SOCKET closed while `query-status` was waiting";
    check(vec![Act::Hangup], &format!("{closed}: QEMU closed the connection"), false).await;
    let truncated = "the connection ended inside a line, after 11 bytes of it";
    check(vec![Act::raw("{\"return\": "), Act::Hangup], &format!("{closed}: {truncated}"), false).await;
    let flood = Act::Flood { bytes: LINE_BYTES_MAX + (1 << 20) };
    let oversized = format!("QEMU sent a line longer than {LINE_BYTES_MAX} bytes");
    check(vec![flood], &format!("{closed}: {oversized}"), false).await;
    let garbage = "QEMU sent a line that is no JSON object: SeaBIOS \\u{7}: expected value at line 1 column 1";
    check(vec![Act::raw("SeaBIOS \x07\r\n")], &format!("{closed}: {garbage}"), false).await;
}
