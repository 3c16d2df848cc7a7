//! What can go wrong on a monitor, told apart by what the caller should do next.
//!
//! `Command` means that QEMU understood and refused: the session is fine. `Deadline` means that QEMU may still do
//! what was asked: query before repeating. `Closed` means that the process is gone or that framing was lost:
//! connect again and query. Sources are chained, never printed inside a message.

use std::path::PathBuf;
use std::sync::Arc;

use crate::open_enum::open_enum;

pub type Result<T, E = QmpError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    #[error("cannot connect to the monitor {}", socket.display())]
    Connect {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The session ended before the reply came.
    #[error("the monitor {} closed while `{command}` was waiting", socket.display())]
    Closed {
        socket: PathBuf,
        command: String,
        #[source]
        reason: Arc<CloseReason>,
    },
    /// No reply in time. QEMU may still carry the command out.
    #[error("no reply to `{command}` on the monitor {} within {deadline_ms} ms", socket.display())]
    Deadline { socket: PathBuf, command: String, deadline_ms: u64 },
    /// QEMU refused.
    #[error("QEMU refused `{command}` on the monitor {}: {desc} ({class})", socket.display())]
    Command { socket: PathBuf, command: String, class: ErrorClass, desc: String },
    /// The reply is JSON, but not of the shape that the command promises.
    #[error("the reply to `{command}` on the monitor {} has an unexpected shape", socket.display())]
    Decode {
        socket: PathBuf,
        command: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the arguments of `{command}` cannot be written as JSON")]
    Encode {
        command: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{command}` is {bytes} bytes long, above the limit of {bytes_max}")]
    RequestTooLong { command: String, bytes: usize, bytes_max: usize },
    /// The monitor offers no out-of-band execution.
    #[error("the monitor {} does not offer out-of-band commands", socket.display())]
    OobMissing { socket: PathBuf },
    /// A wait for a state ended without it; `last` is what was seen last.
    #[error(
        "{awaited} was not reached on the monitor {} within {deadline_ms} ms; the last state seen was {last}",
        socket.display()
    )]
    NotReached { socket: PathBuf, awaited: String, last: String, deadline_ms: u64 },
}

impl QmpError {
    /// What a person can do about it, where this crate knows.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect { .. } => Some("is the QEMU process running, and was it started with this monitor?"),
            Self::Deadline { command, .. } if command == GREETING => {
                Some("a monitor serves one client at a time: is another client connected to it?")
            }
            Self::Deadline { .. } => {
                Some("QEMU may be waiting for storage; the command may still happen, so query before repeating it")
            }
            Self::Closed { .. } => Some("the QEMU process may have ended: its log has the reason"),
            Self::OobMissing { .. } => Some("out-of-band commands need a monitor on a socket of its own"),
            Self::Command { .. }
            | Self::Decode { .. }
            | Self::Encode { .. }
            | Self::RequestTooLong { .. }
            | Self::NotReached { .. } => None,
        }
    }

    /// QEMU has no such command (an older or newer release, or a storage daemon).
    pub fn is_command_not_found(&self) -> bool {
        matches!(self, Self::Command { class: ErrorClass::CommandNotFound, .. })
    }

    /// The session is over; only a new connection can help.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Nothing is known about what QEMU did with the command.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Deadline { .. })
    }
}

/// The name under which waiting for the greeting shows up in errors.
pub(crate) const GREETING: &str = "greeting";

open_enum! {
    /// The class of an error reply. QEMU uses `GenericError` for nearly everything.
    pub enum ErrorClass {
        GenericError = "GenericError",
        CommandNotFound = "CommandNotFound",
        DeviceNotActive = "DeviceNotActive",
        DeviceNotFound = "DeviceNotFound",
        KvmMissingCap = "KVMMissingCap",
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    #[error("QEMU closed the connection")]
    Peer,
    #[error("the connection ended inside a line, after {bytes} bytes of it")]
    Truncated { bytes: usize },
    #[error("QEMU sent a line longer than {bytes_max} bytes")]
    Oversized { bytes_max: usize },
    #[error("QEMU sent a line that is no JSON object: {excerpt}")]
    NotJson {
        excerpt: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the connection failed")]
    Io(#[source] std::io::Error),
    #[error("every handle of this session was dropped")]
    Dropped,
}
