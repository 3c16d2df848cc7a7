//! The accept loop: an axum router over TLS, with every request told who asks.
//!
//! ```text
//! accept -> [one of connections_max] -> handshake (deadline) -> first byte (deadline) -> HTTP/2 or 1.1 by ALPN -> router
//! ```
//!
//! Ground rules: a peer that is slow in any step before its request is dropped; one more connection than the bound waits
//! in the kernel's backlog; on shutdown no request is accepted any more, and those that run get a grace period.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, response::Response};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    pki::PeerIdentity,
    tls::{self, Protocol, TlsStream},
};

/// After an accept that failed (out of file descriptors): time for connections to end.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Images come in these; the least that HTTP/2 allows is 16 KiB.
const H2_FRAME_BYTES_MAX: u32 = 256 << 10;
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_TIME_MAX: Duration = Duration::from_secs(20);
const READ_BUFFER_BYTES: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub struct ServeLimits {
    pub connections_max: usize,
    pub handshake_time_max: Duration,
    /// From the end of the handshake to the first byte of a request, and for the headers of each HTTP/1.1 request.
    pub header_time_max: Duration,
    /// How long running requests may take to end at a shutdown.
    pub grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            connections_max: 4096,
            handshake_time_max: tls::HANDSHAKE_TIME_MAX,
            header_time_max: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

/// Who asks; in the extensions of every request: `Extension<Peer>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` if no certificate was shown, which only a port with optional certificates allows.
    pub identity: Option<PeerIdentity>,
    pub address: SocketAddr,
}

/// Serves until `shutdown`, then waits for running requests at most `limits.grace`.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "listening");
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let connections = TaskTracker::new();
    let limits = Arc::new(limits);
    // Dropping this future (not only the token) must end its connections too.
    let abort = CancellationToken::new();
    let _abort_on_drop = abort.clone().drop_guard();
    while let Some((tcp, peer, slot)) = next(&listener, &slots, &shutdown).await {
        let connection = Connection {
            peer,
            config: config.clone(),
            router: router.clone(),
            limits: limits.clone(),
            shutdown: shutdown.clone(),
            _slot: slot,
        };
        let abort = abort.clone();
        connections.spawn(async move {
            tokio::select! {
                () = abort.cancelled() => {}
                () = connection.run(tcp) => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        tracing::warn!(%address, connections = connections.len(), grace_s = limits.grace.as_secs(), "cutting requests off");
    }
    Ok(())
}

/// The next connection with its slot, or `None` at shutdown.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accept = async {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => return Some((tcp, peer, slot)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        next = accept => next,
    }
}

struct Connection {
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    router: Router,
    limits: Arc<ServeLimits>,
    shutdown: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, tcp: TcpStream) {
        let accepted = tokio::select! {
            () = self.shutdown.cancelled() => return,
            accepted = tls::accept_within(self.limits.handshake_time_max, tcp, self.peer, &self.config, Protocol::Http) => accepted,
        };
        match accepted {
            Ok(stream) => self.speak(stream).await,
            // The peer is told in the handshake; here it is one line, since a port scan must not fill the log.
            Err(error) => tracing::info!(peer = %self.peer, %error, "connection refused"),
        }
    }

    async fn speak(&self, stream: TlsStream) {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let peer = Peer { identity: tls::peer_identity(&stream), address: self.peer };
        let mut buffered = BufReader::with_capacity(READ_BUFFER_BYTES, stream);
        let begun = tokio::select! {
            () = self.shutdown.cancelled() => return,
            begun = tokio::time::timeout(self.limits.header_time_max, buffered.fill_buf()) => begun,
        };
        match begun {
            Ok(Ok([])) => return,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return tracing::debug!(peer = %self.peer, %error, "connection lost"),
            Err(_) => return tracing::info!(peer = %self.peer, "no request in time: connection dropped"),
        }
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let answer = router.clone().oneshot(request);
            async move { answer.await as Result<Response, Infallible> }
        });
        let builder = self.builder(http2);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(buffered), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %self.peer, %error, "connection ended");
        }
    }

    fn builder(&self, http2: bool) -> auto::Builder<TokioExecutor> {
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.header_time_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .max_frame_size(H2_FRAME_BYTES_MAX)
            .keep_alive_interval(H2_PING_EVERY)
            .keep_alive_timeout(H2_PING_TIME_MAX);
        builder
    }
}
