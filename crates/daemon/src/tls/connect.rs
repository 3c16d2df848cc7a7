//! Connections: TCP with our options, then a handshake under a deadline, on either side.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ServerConfig, pki_types::ServerName};
use tokio::{io::BufReader, net::TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Expect, Protocol, Refusal, TlsError, client_config};
use crate::{
    pki::{CaCert, Identity, PeerIdentity},
    tcp::{self, TcpOptions},
};

/// From the first byte of the handshake to its last.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Bulk data: a record is 16 KiB, and a call of the kernel for each would cost more than its copy.
const DATA_READ_AHEAD_BYTES: usize = 128 << 10;
const HTTP_READ_AHEAD_BYTES: usize = 32 << 10;

pub type TlsStream = tokio_rustls::TlsStream<BufReader<TcpStream>>;

/// Makes connections as `identity` to peers of `ca`.
#[derive(Clone, Debug)]
pub struct Connector {
    pub identity: Arc<Identity>,
    pub ca: CaCert,
    pub protocol: Protocol,
    pub options: TcpOptions,
}

impl Connector {
    /// Returns only when the peer has proved that it is `expect`. Whether the peer accepts us shows with the first read:
    /// see [`Refusal::of_io`].
    pub async fn connect(&self, address: SocketAddr, expect: &PeerIdentity) -> Result<TlsStream, TlsError> {
        let config = client_config(&self.identity, &self.ca, Expect::Exactly(expect.clone()), self.protocol)?;
        let tcp = tcp::connect(address, &self.options).await.map_err(|source| TlsError::Connect { address, source })?;
        let name = ServerName::IpAddress(address.ip().into());
        let tcp = BufReader::with_capacity(self.protocol.read_ahead_bytes(), tcp);
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        within(HANDSHAKE_TIME_MAX, address, async { handshake.await.map(TlsStream::from) }).await
    }
}

/// The accepting side of a data connection; `config` of [`super::mutual`].
pub async fn accept(tcp: TcpStream, address: SocketAddr, config: &Arc<ServerConfig>) -> Result<TlsStream, TlsError> {
    accept_within(HANDSHAKE_TIME_MAX, tcp, address, config, Protocol::Data).await
}

pub(crate) async fn accept_within(
    time_max: Duration,
    tcp: TcpStream,
    address: SocketAddr,
    config: &Arc<ServerConfig>,
    protocol: Protocol,
) -> Result<TlsStream, TlsError> {
    tcp::tune(&tcp, &TcpOptions::default()).map_err(|source| TlsError::Connect { address, source })?;
    let tcp = BufReader::with_capacity(protocol.read_ahead_bytes(), tcp);
    let handshake = TlsAcceptor::from(config.clone()).accept(tcp);
    within(time_max, address, async { handshake.await.map(TlsStream::from) }).await
}

impl Protocol {
    fn read_ahead_bytes(self) -> usize {
        match self {
            Protocol::Http => HTTP_READ_AHEAD_BYTES,
            Protocol::Data => DATA_READ_AHEAD_BYTES,
        }
    }
}

async fn within(
    time_max: Duration,
    address: SocketAddr,
    handshake: impl Future<Output = std::io::Result<TlsStream>>,
) -> Result<TlsStream, TlsError> {
    let begun = Instant::now();
    match tokio::time::timeout(time_max, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(match Refusal::of_io(&source) {
            Some(refusal) => TlsError::Refused { address, refusal },
            None => TlsError::Connect { address, source },
        }),
        Err(_) => Err(TlsError::HandshakeTimeout { address, after_ms: begun.elapsed().as_millis() }),
    }
}

/// Who the peer proved to be; `None` only where certificates are optional and none was shown.
pub fn peer_identity(stream: &TlsStream) -> Option<PeerIdentity> {
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates()?.first()?;
    PeerIdentity::of_certificate(leaf).ok()
}
