//! The four messages of the protocol: greeting, request, reply and event.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{CloseReason, ErrorClass, QmpError, Result};
use crate::event::{Event, EventName, EventTime};
use crate::version::Version;

/// The longest request that is sent.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 20;

/// How much of an unreadable line an error shows.
const EXCERPT_BYTES: usize = 120;

/// How a command is executed: in turn, or ahead of everything on a monitor that negotiated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    InBand,
    OutOfBand,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GreetingLine {
    #[serde(rename = "QMP")]
    pub(crate) qmp: Greeting,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) version: Version,
    #[serde(default)]
    pub(crate) capabilities: Vec<Value>,
}

impl Greeting {
    pub(crate) fn offers_oob(&self) -> bool {
        self.capabilities.iter().any(|capability| capability == "oob")
    }
}

#[derive(Debug)]
pub(crate) enum Message {
    Reply {
        id: u64,
        outcome: Outcome,
    },
    Event(Event),
    /// JSON that belongs to no command of ours: a reply without a usable id, or a kind of message from the future.
    Stray(Value),
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Return(Value),
    Error { class: ErrorClass, desc: String },
}

#[derive(Deserialize)]
struct RawMessage {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default, rename = "return", deserialize_with = "present")]
    ret: Option<Value>,
    #[serde(default)]
    error: Option<RawError>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    timestamp: Option<EventTime>,
}

/// `"return": null` is a reply; only a missing member is none.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default = "generic")]
    class: ErrorClass,
    #[serde(default)]
    desc: String,
}

fn generic() -> ErrorClass {
    ErrorClass::GenericError
}

impl Message {
    pub(crate) fn parse(line: &[u8]) -> Result<Self, CloseReason> {
        let raw: RawMessage = match serde_json::from_slice(line) {
            Ok(raw) => raw,
            // Valid JSON of a shape from the future is kept, broken JSON means that framing is lost.
            Err(source) => {
                return match serde_json::from_slice::<Value>(line) {
                    Ok(value) if value.is_object() => Ok(Self::Stray(value)),
                    Ok(_) | Err(_) => Err(CloseReason::NotJson { excerpt: excerpt(line), source }),
                };
            }
        };
        if let Some(name) = raw.event {
            let timestamp = raw.timestamp.unwrap_or(EventTime { seconds: -1, microseconds: -1 });
            return Ok(Self::Event(Event { name: EventName::from(name.as_str()), data: raw.data, timestamp }));
        }
        let id = raw.id.as_ref().and_then(Value::as_u64);
        Ok(match (id, raw.ret, raw.error) {
            (Some(id), Some(value), None) => Self::Reply { id, outcome: Outcome::Return(value) },
            (Some(id), _, Some(RawError { class, desc })) => {
                Self::Reply { id, outcome: Outcome::Error { class, desc } }
            }
            (_, _, error) => Self::Stray(json!({ "id": raw.id, "error": error.map(|e| e.desc) })),
        })
    }
}

pub(crate) fn request_line(lane: Lane, command: &str, arguments: &Value, id: u64) -> Result<Vec<u8>> {
    let verb = match lane {
        Lane::InBand => "execute",
        Lane::OutOfBand => "exec-oob",
    };
    let mut request = json!({ verb: command, "id": id });
    // QEMU refuses `"arguments": null`; a command without arguments goes without the member.
    if !arguments.is_null() {
        request["arguments"] = arguments.clone();
    }
    let mut line =
        serde_json::to_vec(&request).map_err(|source| QmpError::Encode { command: command.to_owned(), source })?;
    if line.len() > REQUEST_BYTES_MAX {
        let (command, bytes) = (command.to_owned(), line.len());
        return Err(QmpError::RequestTooLong { command, bytes, bytes_max: REQUEST_BYTES_MAX });
    }
    line.push(b'\n');
    Ok(line)
}

pub(crate) fn excerpt(line: &[u8]) -> String {
    let cut = &line[..line.len().min(EXCERPT_BYTES)];
    let more = if cut.len() < line.len() { "…" } else { "" };
    format!("{}{more}", String::from_utf8_lossy(cut).escape_debug())
}
