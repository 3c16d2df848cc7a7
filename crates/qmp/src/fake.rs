//! A QEMU that is nothing but its monitor, scripted by a test.
//!
//! It answers what the script says and misbehaves where the script says so: the faults that real QEMU shows once in a
//! thousand moves (silence in a drain, death in the middle of a line, words from the future) come here on demand.
//!
//! ```text
//! Script::new()
//!     .on("query-status", [Act::ret(json!({"status": "prelaunch", "running": false}))])   // the first time
//!     .on("query-status", [Act::ret(json!({"status": "running", "running": true}))])      // and from then on
//!     .answer("qom-get", |arguments| vec![Act::ret(arguments["path"].clone())])
//! ```
//!
//! Like QEMU it serves one client at a time, refuses commands before the negotiation, and answers a command that the
//! script does not know with `CommandNotFound`. The negotiation and `quit` are built in unless scripted.

mod conversation;
mod script;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use script::{Act, Opening, Script};

/// Events of a test that wait for a client, at most.
const EVENT_QUEUE: usize = 256;

/// A request as the fake read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub command: String,
    pub arguments: Value,
    /// Asked to be executed out of band.
    pub oob: bool,
}

/// A listening fake. Dropping it closes the socket and every conversation.
pub struct FakeQemu {
    socket: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
    events: mpsc::Sender<Act>,
    serving: JoinHandle<()>,
}

impl FakeQemu {
    /// Listens on `socket`, which must not exist yet.
    pub fn start(socket: &Path, script: Script) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let requests = Arc::default();
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let serving = tokio::spawn(conversation::serve(listener, script, Arc::clone(&requests), queue));
        Ok(Self { socket: socket.to_owned(), requests, events, serving })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Every request so far, the negotiation excepted.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the commands so far.
    pub fn commands(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.command).collect()
    }

    /// Does something that no command asked for, as soon as a client has negotiated.
    pub async fn act(&self, act: Act) {
        // The queue closes only with the fake itself.
        let _ = self.events.send(act).await;
    }
}

impl Drop for FakeQemu {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
