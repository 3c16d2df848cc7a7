//! The first seconds of a connection.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PATIENCE, Pair, SHORT, told};
use crate::fake::{Act, FakeQemu, Opening, Script};
use crate::{Oob, Qmp, YankInstance};

const GREET: Opening = Opening::Greet { version: [7, 2, 22], oob: false };

/// Connects to a fake that behaves as in `script`; `want` is QEMU's version or the error.
async fn check(script: Script, oob: bool, deadline: Duration, want: &str) {
    let home = tempfile::tempdir().expect("a directory");
    let fake = FakeQemu::start(&home.path().join("qmp"), script).expect("a socket");
    let outcome = match oob {
        false => Qmp::connect(fake.socket(), deadline).await.map(|qmp| qmp.version().to_string()),
        true => Oob::connect(fake.socket(), deadline).await.map(|oob| oob.version().to_string()),
    };
    let got = outcome.unwrap_or_else(|error| told(&error, fake.socket()));
    assert_eq!(got, want);
}

#[tokio::test]
async fn openings_end_in_a_session_or_a_clear_error() {
    let open = |opening| Script::new().opening(opening);
    check(open(GREET), false, PATIENCE, "7.2.22").await;
    check(open(Opening::Greet { version: [11, 0, 0], oob: true }), true, PATIENCE, "11.0.0").await;
    let missing = "the monitor SOCKET does not offer out-of-band commands";
    check(open(GREET), true, PATIENCE, missing).await;
    let silent = "no reply to `greeting` on the monitor SOCKET within 40 ms";
    check(open(Opening::Silence), false, SHORT, silent).await;
    let closed = "the monitor SOCKET closed while `greeting` was waiting: QEMU closed the connection";
    check(open(Opening::Hangup), false, PATIENCE, closed).await;
    let ssh = "the reply to `greeting` on the monitor SOCKET has an unexpected shape: \
               expected value at line 1 column 1";
    check(open(Opening::Raw(b"SSH-2.0\r\n".to_vec())), false, PATIENCE, ssh).await;
    let other = "the reply to `greeting` on the monitor SOCKET has an unexpected shape: \
                 missing field `QMP` at line 1 column 13";
    check(open(Opening::Raw(b"{\"hello\":[1]}\n".to_vec())), false, PATIENCE, other).await;
}

#[tokio::test]
async fn negotiations_end_in_a_session_or_a_clear_error() {
    let negotiate = |acts: Vec<Act>| Script::new().opening(GREET).on("qmp_capabilities", acts);
    let event = Act::event("COMET_SEEN", json!({}));
    check(negotiate(vec![event, Act::done()]), false, PATIENCE, "7.2.22").await;
    let refused = "QEMU refused `qmp_capabilities` on the monitor SOCKET: no (GenericError)";
    check(negotiate(vec![Act::fail("no")]), false, PATIENCE, refused).await;
    let silent = "no reply to `qmp_capabilities` on the monitor SOCKET within 40 ms";
    check(negotiate(vec![]), false, SHORT, silent).await;
    let closed = "the monitor SOCKET closed while `qmp_capabilities` was waiting: QEMU closed the connection";
    check(negotiate(vec![Act::Hangup]), false, PATIENCE, closed).await;
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_waited_for() {
    let home = tempfile::tempdir().expect("a directory");
    let socket = home.path().join("qmp");
    let error = Qmp::connect(&socket, SHORT).await.expect_err("nothing is there");
    let want = "cannot connect to the monitor SOCKET: No such file or directory (os error 2)";
    assert_eq!(told(&error, &socket), want);
    assert!(error.hint().is_some());
    let (session, _fake) = tokio::join!(Qmp::connect(&socket, PATIENCE), async {
        tokio::task::yield_now().await;
        FakeQemu::start(&socket, Script::new()).expect("a socket")
    });
    assert_eq!(session.expect("a session").version().to_string(), "10.0.2");
}

#[tokio::test]
async fn a_second_client_is_told_what_may_be_wrong() {
    let pair = Pair::new(Script::new()).await;
    let error = Qmp::connect(pair.fake.socket(), SHORT).await.expect_err("the monitor is taken");
    let want = "no reply to `greeting` on the monitor SOCKET within 40 ms";
    assert_eq!(told(&error, pair.fake.socket()), want);
    assert!(error.hint().is_some_and(|hint| hint.contains("another client")));
}

#[tokio::test]
async fn out_of_band_commands_are_sent_as_such() {
    let home = tempfile::tempdir().expect("a directory");
    let script =
        Script::new().on("yank", [Act::done()]).on("migrate-pause", [Act::done()]).on("migrate-recover", [Act::done()]);
    let fake = FakeQemu::start(&home.path().join("qmp"), script).expect("a socket");
    let oob = Oob::connect(fake.socket(), PATIENCE).await.expect("a session");
    let node = YankInstance::BlockNode { node_name: "n0".to_owned() };
    let chardev = YankInstance::Chardev { id: "c0".to_owned() };
    oob.yank(&[node, chardev, YankInstance::Migration]).await.expect("done");
    oob.migrate_pause().await.expect("done");
    oob.migrate_recover("unix:/run/m").await.expect("done");
    let requests = fake.requests();
    assert!(requests.iter().all(|request| request.oob), "{requests:?}");
    let arguments: Vec<Value> = requests.into_iter().map(|request| request.arguments).collect();
    let instances = json!([
        { "type": "block-node", "node-name": "n0" },
        { "type": "chardev", "id": "c0" },
        { "type": "migration" },
    ]);
    assert_eq!(arguments, [json!({ "instances": instances }), Value::Null, json!({ "uri": "unix:/run/m" })]);
}
