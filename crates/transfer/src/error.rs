//! What can go wrong while bytes move, each error naming the object that it happened to.

use std::{io, sync::Arc};

use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::MigrationId,
};

use crate::{frame::FrameError, nbd::NbdError};

#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    #[error("disk {disk}: {doing} failed")]
    Disk {
        disk: String,
        doing: &'static str,
        #[source]
        source: NbdError,
    },
    #[error("image {path}: {doing} failed")]
    Image {
        path: String,
        doing: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
    /// Bytes changed on their way, or a chunk is missing, doubled or misplaced.
    #[error("{what} of disk {disk} at offset {offset} on stream {stream} is corrupt: {why}")]
    CorruptFrame { what: &'static str, disk: String, offset: u64, stream: usize, why: String },
    #[error("stream {stream}: bad frame")]
    BadFrame {
        stream: usize,
        #[source]
        source: FrameError,
    },
    #[error("stream {stream}: ended in the middle of {what}, after {after_bytes} bytes")]
    Truncated { stream: usize, what: String, after_bytes: u64 },
    #[error("stream {stream}: {doing} failed")]
    Stream {
        stream: usize,
        doing: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("round {round} of disk {disk}: source sent {sent}, target wrote {written}")]
    TotalsDiffer { round: u32, disk: String, sent: String, written: String },
    #[error("round {round} of disk {disk}: {written} of {sent} chunks written after {waited_ms} ms")]
    RoundLate { round: u32, disk: String, sent: u64, written: u64, waited_ms: u64 },
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    #[error("the peer refused the stream: {0}")]
    Refused(String),
    #[error("nothing was heard from the peer for {silent_ms} ms")]
    PeerSilent { silent_ms: u64 },
    #[error("link: {doing} failed")]
    Link {
        doing: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the link is closed: {0}")]
    Closed(String),
    #[error("migration {migration}: {doing} failed")]
    Tunnel {
        migration: MigrationId,
        doing: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
}

impl TransferError {
    pub(crate) fn image(path: &std::path::Path, doing: &'static str, error: io::Error) -> TransferError {
        TransferError::Image { path: path.display().to_string(), doing, source: Arc::new(error) }
    }

    pub fn code(&self) -> FailureCode {
        match self {
            TransferError::CorruptFrame { .. }
            | TransferError::BadFrame { .. }
            | TransferError::TotalsDiffer { .. } => FailureCode::Corrupt,
            TransferError::Truncated { .. }
            | TransferError::Stream { .. }
            | TransferError::PeerSilent { .. }
            | TransferError::Link { .. }
            | TransferError::Closed(_)
            | TransferError::Tunnel { .. } => FailureCode::PeerLost,
            TransferError::Disk { source, .. } if source.is_no_space() => FailureCode::NoDisk,
            TransferError::Disk { .. } => FailureCode::QemuFailed,
            TransferError::Image { source, .. } if source.kind() == io::ErrorKind::StorageFull => FailureCode::NoDisk,
            TransferError::Image { .. } => FailureCode::Internal,
            TransferError::RoundLate { .. } => FailureCode::DeadlinePassed,
            TransferError::Refused(_) => FailureCode::Conflict,
            TransferError::Protocol(_) => FailureCode::Internal,
        }
    }

    /// With the whole chain of sources in words, for a client.
    pub fn failure(&self) -> Failure {
        let mut detail = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(source) = next {
            detail.push_str(": ");
            detail.push_str(&source.to_string());
            next = source.source();
        }
        Failure::new(self.code(), detail)
    }
}
