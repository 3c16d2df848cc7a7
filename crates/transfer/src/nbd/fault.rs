//! What can go wrong with an NBD export.

use std::{path::PathBuf, sync::Arc};

use super::wire::{Command, WireError, errno_name};

/// Which export, on which socket: part of every error.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub socket: PathBuf,
    pub export: String,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("NBD export '{}' on {}: {fault}", .place.export, .place.socket.display())]
pub struct NbdError {
    pub place: Arc<Place>,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{0}")]
    Wire(WireError),
    #[error("the server refused {what}: error {code} {message}")]
    Refused { what: &'static str, code: u32, message: String },
    #[error("the server offers no context '{0}'")]
    NoContext(String),
    #[error("the connection is lost: {0}")]
    Lost(String),
    #[error("{command:?} of {len} bytes at {offset} failed: {} {message}", errno_name(*.errno))]
    Failed { command: Command, offset: u64, len: u32, errno: u32, message: String },
    #[error("{command:?} of {len} bytes at {offset} got no answer in {waited_ms} ms")]
    Late { command: Command, offset: u64, len: u32, waited_ms: u64 },
    #[error("{command:?} of {len} bytes at {offset} is beyond the size of {size} bytes")]
    OutOfRange { command: Command, offset: u64, len: u64, size: u64 },
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

/// The server's disk is full (ENOSPC, or EDQUOT, which the protocol folds into it).
pub const ERRNO_NO_SPACE: u32 = 28;

impl NbdError {
    pub(super) fn new(place: &Arc<Place>, fault: Fault) -> Self {
        NbdError { place: place.clone(), fault }
    }

    pub fn is_no_space(&self) -> bool {
        matches!(self.fault, Fault::Failed { errno: ERRNO_NO_SPACE, .. })
    }
}
