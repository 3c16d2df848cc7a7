//! The fake's side of the socket.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::Request;
use super::script::{Act, Opening, Script};
use crate::codec::LineReader;
use crate::error::ErrorClass;

/// How much of a flood is written at once.
const FLOOD_CHUNK_BYTES: usize = 64 << 10;

/// Serves one client after the other.
pub(super) async fn serve(
    listener: UnixListener,
    mut script: Script,
    requests: Arc<Mutex<Vec<Request>>>,
    mut events: mpsc::Receiver<Act>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that goes away ends its conversation, not the fake.
        let _ = converse(stream, &mut script, &requests, &mut events).await;
    }
}

struct Conversation<'a> {
    writer: OwnedWriteHalf,
    script: &'a mut Script,
    requests: &'a Mutex<Vec<Request>>,
    negotiated: bool,
    oob: bool,
    held: Option<String>,
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(default)]
    execute: Option<String>,
    #[serde(default, rename = "exec-oob")]
    exec_oob: Option<String>,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    id: Value,
}

async fn converse(
    stream: UnixStream,
    script: &mut Script,
    requests: &Mutex<Vec<Request>>,
    events: &mut mpsc::Receiver<Act>,
) -> std::io::Result<()> {
    let (read, writer) = stream.into_split();
    let mut reader = LineReader::new(read);
    let opening = script.opening.clone();
    let mut talk = Conversation { writer, script, requests, negotiated: false, oob: false, held: None };
    if talk.open(opening).await?.is_break() {
        return Ok(());
    }
    loop {
        let next = tokio::select! {
            line = reader.next_line() => match line {
                Ok(line) => talk.request(&line).await?,
                Err(_gone) => return Ok(()),
            },
            Some(act) = events.recv(), if talk.negotiated => talk.act(act, &Value::Null).await?,
        };
        if next.is_break() {
            return Ok(());
        }
    }
}

type Next = std::io::Result<ControlFlow<()>>;

impl Conversation<'_> {
    async fn open(&mut self, opening: Opening) -> Next {
        match opening {
            Opening::Greet { version: [major, minor, micro], oob } => {
                let number = json!({ "major": major, "minor": minor, "micro": micro });
                let capabilities = if oob { json!(["oob"]) } else { json!([]) };
                let version = json!({ "qemu": number, "package": "fake" });
                self.say(&json!({ "QMP": { "version": version, "capabilities": capabilities } })).await?;
            }
            Opening::Raw(bytes) => self.writer.write_all(&bytes).await?,
            Opening::Silence => {}
            Opening::Hangup => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn request(&mut self, line: &[u8]) -> Next {
        let Ok(RawRequest { execute, exec_oob, arguments, id }) = serde_json::from_slice(line) else {
            return self.refuse(&Value::Null, &ErrorClass::GenericError, "JSON parse error").await;
        };
        let oob = exec_oob.is_some();
        let command = exec_oob.or(execute).unwrap_or_default();
        if !self.negotiated {
            return self.negotiate(&command, &arguments, &id).await;
        }
        if oob && !self.oob {
            return self.refuse(&id, &ErrorClass::GenericError, "QMP input member 'exec-oob' is unexpected").await;
        }
        let request = Request { command: command.clone(), arguments: arguments.clone(), oob };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let held = self.held.take();
        let next = match self.script.acts(&command, &arguments) {
            Some(acts) => self.act_all(acts, &id).await?,
            None if command == "quit" => self.act_all(vec![Act::done(), Act::Hangup], &id).await?,
            None => {
                let desc = format!("The command {command} has not been found");
                self.refuse(&id, &ErrorClass::CommandNotFound, &desc).await?
            }
        };
        if let Some(line) = held {
            self.writer.write_all(line.as_bytes()).await?;
        }
        Ok(next)
    }

    async fn negotiate(&mut self, command: &str, arguments: &Value, id: &Value) -> Next {
        if command != "qmp_capabilities" {
            let desc = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return self.refuse(id, &ErrorClass::CommandNotFound, desc).await;
        }
        let next = match self.script.acts(command, arguments) {
            Some(acts) => self.act_all(acts, id).await?,
            None => self.act(Act::done(), id).await?,
        };
        self.negotiated = true;
        self.oob = arguments["enable"] == json!(["oob"]);
        Ok(next)
    }

    async fn act_all(&mut self, acts: Vec<Act>, id: &Value) -> Next {
        for act in acts {
            if self.act(act, id).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn act(&mut self, act: Act, id: &Value) -> Next {
        match act {
            Act::Return(value) => self.say(&json!({ "return": value, "id": id })).await?,
            Act::Fail { class, desc } => return self.refuse(id, &class, &desc).await,
            Act::ReturnAfterNext(value) => {
                self.held = Some(format!("{}\r\n", json!({ "return": value, "id": id })));
            }
            Act::Event { name, data } => {
                let timestamp = json!({ "seconds": 1_700_000_000, "microseconds": 250_000 });
                self.say(&json!({ "event": name, "data": data, "timestamp": timestamp })).await?;
            }
            Act::Raw(bytes) => self.writer.write_all(&bytes).await?,
            Act::Flood { bytes } => {
                let chunk = vec![b' '; FLOOD_CHUNK_BYTES];
                for _ in 0..bytes.div_ceil(FLOOD_CHUNK_BYTES) {
                    self.writer.write_all(&chunk).await?;
                }
            }
            Act::Hangup => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn refuse(&mut self, id: &Value, class: &ErrorClass, desc: &str) -> Next {
        let mut reply = json!({ "error": { "class": class, "desc": desc } });
        if !id.is_null() {
            reply["id"] = id.clone();
        }
        self.say(&reply).await?;
        Ok(ControlFlow::Continue(()))
    }

    async fn say(&mut self, message: &Value) -> std::io::Result<()> {
        self.writer.write_all(format!("{message}\r\n").as_bytes()).await
    }
}
