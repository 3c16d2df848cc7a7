//! TLS 1.3 with our own CA: who may speak with whom, decided in the handshake by the identity in the certificate.
//!
//! ```text
//! agent  <-> agent        both show certificates; the one that connects names whom it expects
//! controller -> agent     the same
//! agent  -> controller    the same; expects any controller of this CA
//! operator -> controller  only the controller shows a certificate; the operator's token follows inside
//! joining host -> controller   trusts only a chain to the CA whose fingerprint is in the join token
//! ```
//!
//! Ground rules: no trust in names that DNS or an operator's address book could change; no resumption, so that every
//! connection proves a certificate that is valid now; the provider is chosen here and nowhere else.
mod connect;
mod refusal;
mod verify;

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs, ring},
    server::NoServerSessionStorage,
};

pub(crate) use connect::accept_within;
pub use connect::{Connector, HANDSHAKE_TIME_MAX, TlsStream, accept, peer_identity};
pub use refusal::Refusal;

use crate::pki::{CaCert, Fingerprint, Identity, PeerIdentity, PkiError, Role};

/// What is spoken inside; told in ALPN, so that a data connection never reaches an HTTP handler, nor the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    /// Frames between agents.
    Data,
}

impl Protocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Protocol::Data => vec![b"whimbrel-data/1".to_vec()],
        }
    }
}

/// Whom the connecting side expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    Exactly(PeerIdentity),
    Any(Role),
}

impl Expect {
    fn admits(&self, presented: &PeerIdentity) -> bool {
        match self {
            Expect::Exactly(expected) => expected == presented,
            Expect::Any(role) => *role == presented.role,
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expect::Exactly(expected) => expected.fmt(f),
            Expect::Any(role) => write!(f, "any {role}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no TLS handshake with {address} within {after_ms} ms")]
    HandshakeTimeout { address: SocketAddr, after_ms: u128 },
    #[error("no secure connection with {address}: {refusal}")]
    Refused { address: SocketAddr, refusal: Refusal },
    #[error("cannot set up TLS")]
    Config { source: rustls::Error },
    #[error("cannot set up TLS")]
    Pki { source: PkiError },
}

impl TlsError {
    pub fn hint(&self) -> &'static str {
        match self {
            TlsError::Connect { .. } => "check that the host is up, its daemon runs and the port is open",
            TlsError::HandshakeTimeout { .. } => "check that a Whimbrel daemon listens there, and the network between",
            TlsError::Refused { refusal, .. } => refusal.hint(),
            TlsError::Config { .. } | TlsError::Pki { .. } => "check the certificate files in the state directory",
        }
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            // aws-lc brings the hybrid key exchange; ring has AES-GCM for CPUs with VAES and no AVX-512, about twice as fast.
            let cipher_suites = vec![
                ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
                ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
                ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ];
            Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
        })
        .clone()
}

/// From the source that keys and tokens come from.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), PkiError> {
    provider().secure_random.fill(bytes).map_err(|_| PkiError::NoRandomness)
}

/// For a port where every peer shows a certificate of this CA: agents.
pub fn mutual(identity: &Arc<Identity>, ca: &CaCert, protocol: Protocol) -> Result<Arc<ServerConfig>, TlsError> {
    server(identity, verify::Clients::required(ca)?, protocol)
}

/// For the controller's port, where operators come without a certificate. One that is shown is verified all the same.
pub fn mutual_optional(
    identity: &Arc<Identity>,
    ca: &CaCert,
    protocol: Protocol,
) -> Result<Arc<ServerConfig>, TlsError> {
    server(identity, verify::Clients::optional(ca)?, protocol)
}

fn server(
    identity: &Arc<Identity>,
    clients: verify::Clients,
    protocol: Protocol,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { source })?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(identity.clone());
    config.alpn_protocols = protocol.alpn();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For a peer with an identity of its own: agents and controllers. The config follows renewals of `identity`.
pub fn client_config(
    identity: &Arc<Identity>,
    ca: &CaCert,
    expect: Expect,
    protocol: Protocol,
) -> Result<ClientConfig, TlsError> {
    let servers = verify::Servers::of_ca(ca, expect)?;
    Ok(finish_client(verified_by(servers)?.with_client_cert_resolver(identity.clone()), protocol))
}

/// For operators: only the controller shows a certificate.
pub fn operator_config(ca: &CaCert) -> Result<ClientConfig, TlsError> {
    let servers = verify::Servers::of_ca(ca, Expect::Any(Role::Controller))?;
    Ok(finish_client(verified_by(servers)?.with_no_client_auth(), Protocol::Http))
}

/// For a host that joins and knows of the CA only the fingerprint in its join token.
pub fn join_config(ca: Fingerprint) -> Result<ClientConfig, TlsError> {
    let servers = verify::Servers::pinned(ca);
    Ok(finish_client(verified_by(servers)?.with_no_client_auth(), Protocol::Http))
}

fn verified_by(
    servers: verify::Servers,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers)))
}

fn finish_client(mut config: ClientConfig, protocol: Protocol) -> ClientConfig {
    config.alpn_protocols = protocol.alpn();
    config.resumption = Resumption::disabled();
    config
}
