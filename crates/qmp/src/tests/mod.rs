//! Trials of the client: against the scripted fake, where every fault comes on demand, and against real QEMU of
//! both ends of the supported range, where the words are QEMU's own.

mod arguments;
mod faults;
mod opening;
mod real;
mod replies;
mod session;
mod waits;

use std::time::Duration;

use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::fake::{Act, FakeQemu, Script};
use crate::{Event, Qmp, QmpError};

/// Long enough for a loaded machine; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// For what is expected not to happen.
const SHORT: Duration = Duration::from_millis(40);

/// A client in conversation with a scripted fake.
struct Pair {
    qmp: Qmp,
    fake: FakeQemu,
    /// Holds the socket.
    _home: tempfile::TempDir,
}

impl Pair {
    async fn new(script: Script) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let fake = FakeQemu::start(&home.path().join("qmp"), script).expect("a socket");
        let qmp = Qmp::connect(fake.socket(), PATIENCE).await.expect("a session");
        Self { qmp, fake, _home: home }
    }
}

/// The next word from a receiver, which must come or end soon.
async fn next(events: &mut Receiver<Event>) -> Result<Event, RecvError> {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event or the end of them")
}

fn run_state(word: &str) -> Act {
    Act::ret(json!({ "status": word, "running": word == "running" }))
}

/// An error with its chain of sources, without the socket's path.
fn told(error: &QmpError, pair_socket: &std::path::Path) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.replace(&pair_socket.display().to_string(), "SOCKET")
}
