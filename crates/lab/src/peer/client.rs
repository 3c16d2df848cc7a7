//! Typed client of the peer's control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::BufReader,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{Rates, Reply, Request, Status, Verdict, lines};

/// On top of the deadline that the guest is given: the peer itself answers at once.
const GRACE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot talk to the peer at {path}; hint: is `whimbrel lab` up?")]
    Socket { path: PathBuf, source: io::Error },
    #[error("the peer at {path} did not answer within {deadline_ms} ms")]
    Deadline { path: PathBuf, deadline_ms: u64 },
    #[error("the peer at {path} answered something else than asked: {reply}")]
    Garbled { path: PathBuf, reply: String },
    #[error("the peer refused: {why}")]
    Refused { why: String },
}

/// A connection to a running peer.
pub struct PeerControl {
    path: PathBuf,
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl PeerControl {
    pub async fn connect(path: &Path) -> Result<PeerControl, ControlError> {
        let socket = UnixStream::connect(path).await;
        let socket = socket.map_err(|source| ControlError::Socket { path: path.to_owned(), source })?;
        let (from, to) = socket.into_split();
        Ok(PeerControl { path: path.to_owned(), from: BufReader::new(from), to })
    }

    pub async fn status(&mut self) -> Result<Status, ControlError> {
        match self.ask(&Request::Status, GRACE).await? {
            Reply::Status(status) => Ok(status),
            other => Err(self.garbled(&other)),
        }
    }

    /// Forgets the stalls so far.
    pub async fn reset_stall(&mut self) -> Result<(), ControlError> {
        self.done(&Request::ResetStall, GRACE).await
    }

    /// Changes the rates of the guest's work at once.
    pub async fn set(&mut self, rates: Rates) -> Result<(), ControlError> {
        self.done(&Request::Set(rates), GRACE).await
    }

    /// Lets the guest rewrite `bytes` of its load region, each block once, and waits until it has.
    pub async fn write_changes(&mut self, bytes: u64, deadline: Duration) -> Result<(), ControlError> {
        let request = Request::WriteChanges { bytes, deadline_ms: deadline.as_millis() as u64 };
        self.done(&request, deadline + GRACE).await
    }

    /// Lets the guest read everything back and judges it. With `resume` its work goes on afterwards.
    pub async fn verify(&mut self, deadline: Duration, resume: bool) -> Result<Verdict, ControlError> {
        let request = Request::Verify { deadline_ms: deadline.as_millis() as u64, resume };
        match self.ask(&request, deadline + GRACE).await? {
            Reply::Verdict(verdict) => Ok(verdict),
            other => Err(self.garbled(&other)),
        }
    }

    async fn done(&mut self, request: &Request, deadline: Duration) -> Result<(), ControlError> {
        match self.ask(request, deadline).await? {
            Reply::Done => Ok(()),
            other => Err(self.garbled(&other)),
        }
    }

    async fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, ControlError> {
        let exchange = async {
            lines::write(&mut self.to, request).await?;
            lines::read::<Reply>(&mut self.from).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        let path = self.path.clone();
        match timeout(deadline, exchange).await {
            Ok(Ok(Reply::Refused { why })) => Err(ControlError::Refused { why }),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(ControlError::Socket { path, source }),
            Err(_) => Err(ControlError::Deadline { path, deadline_ms: deadline.as_millis() as u64 }),
        }
    }

    fn garbled(&self, reply: &Reply) -> ControlError {
        ControlError::Garbled { path: self.path.clone(), reply: format!("{reply:?}") }
    }
}
