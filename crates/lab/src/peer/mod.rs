//! The peer: the witness outside the guest.
//!
//! A guest cannot prove by itself that it lost nothing: a disk rolled back together with its RAM looks sound from the
//! inside. So every durable journal record is acknowledged to this process over TCP, and what the guest reads back later
//! is compared with what it had acknowledged. The same connection, held for the guest's whole life, also proves that its
//! network survived, and the gaps between its heartbeats are the stalls that a user of the guest would have felt.
//!
//! ```text
//!   guest ==TCP, one connection==> [link] --> [ledger] <-- [control] <==unix socket, JSON lines== PeerControl
//! ```
//!
//! Ground rules: the ledger decides and does no I/O; nothing here is ever reset by a reconnect of the guest; every queue
//! and line is bounded.

mod client;
mod control;
mod ledger;
mod lines;
mod link;
#[path = "../../guest/src/wire.rs"]
mod wire;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};

pub use client::{ControlError, PeerControl};
pub use ledger::{Stall, Status, Verdict};
pub use wire::{Rates, ReadOnlyDisk, ReadOnlyFile};

/// Connections of guests and control clients together.
const CLIENTS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("cannot listen for the guest on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot open the control socket {path}")]
    Control { path: PathBuf, source: io::Error },
    #[error("cannot accept on {what}")]
    Accept { what: String, source: io::Error },
}

/// A request on the control socket, one JSON value per line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Status,
    ResetStall,
    Set(Rates),
    WriteChanges { bytes: u64, deadline_ms: u64 },
    Verify { deadline_ms: u64, resume: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Status),
    Done,
    Verdict(Verdict),
    Refused { why: String },
}

/// Listens for the guest on `listen` and for [`PeerControl`] on the unix socket `control`; ends only on an error.
pub async fn run(listen: SocketAddr, control: &Path) -> Result<(), PeerError> {
    Peer::bind(listen, control).await?.serve().await
}

/// A bound but not yet serving peer, for callers that need the port that was given.
pub struct Peer {
    guests: TcpListener,
    control: UnixListener,
    control_path: PathBuf,
}

impl Peer {
    pub async fn bind(listen: SocketAddr, control: &Path) -> Result<Peer, PeerError> {
        let guests = TcpListener::bind(listen).await.map_err(|source| PeerError::Listen { address: listen, source })?;
        let failed = |source| PeerError::Control { path: control.to_owned(), source };
        // The socket of a peer that was killed stays behind and would refuse the new one.
        match fs_err::remove_file(control) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(failed(error)),
        }
        let socket = UnixListener::bind(control).map_err(failed)?;
        Ok(Peer { guests, control: socket, control_path: control.to_owned() })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.guests.local_addr()
    }

    /// Serves until accepting fails.
    pub async fn serve(self) -> Result<(), PeerError> {
        let link = Arc::new(link::Link::new());
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            // Beyond the bound new connections wait in the kernel's own, equally bounded, queue.
            let place = clients.clone().acquire_owned().await;
            let link = link.clone();
            tokio::select! {
                accepted = self.guests.accept() => {
                    let (guest, from) =
                        accepted.map_err(|source| PeerError::Accept { what: "the guest's port".into(), source })?;
                    tokio::spawn(async move {
                        if let Err(error) = link.serve(guest).await {
                            tracing::warn!(%from, %error, "the guest's connection ended");
                        }
                        drop(place);
                    });
                }
                accepted = self.control.accept() => {
                    let what = || self.control_path.display().to_string();
                    let (client, _) = accepted.map_err(|source| PeerError::Accept { what: what(), source })?;
                    tokio::spawn(async move {
                        if let Err(error) = control::serve(&link, client).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        drop(place);
                    });
                }
            }
        }
    }
}
