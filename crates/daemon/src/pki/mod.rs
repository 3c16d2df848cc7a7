//! The PKI that nobody has to look after: the controller is the CA, certificates live a week and renew themselves.
//!
//! ```text
//! operator   whimbrel host token NAME -> join token: whimbrel-join:<CA fingerprint>:<secret>
//! agent      makes its key and a CSR; connects, trusting only a chain to the CA with that fingerprint; shows the secret
//! controller checks the secret's hash (used once, not expired), signs the CSR     -> chain
//! agent      keeps key and chain in one file (0600); at 2/3 of the lifetime asks for a new one, by its old certificate
//! ```
//!
//! Ground rules:
//! - a private key never leaves the process or the state directory where it was made;
//! - the CA writes identity and names itself; of a CSR it takes nothing but the public key;
//! - secrets are kept by their hash only, and never show in `Debug`.
mod authority;
mod ca_cert;
mod identity;
mod join;
mod peer;
pub mod renewal;

use std::{io, path::PathBuf, time::Duration};

pub use authority::{Authority, Issued, Names};
pub use ca_cert::{CaCert, Fingerprint};
pub use identity::{Identity, KeyAndChain, SigningRequest, new_signing_request};
pub use join::{JoinToken, Secret, SecretHash};
pub use peer::{PeerIdentity, Role};

/// Lifetime of agents' and controllers' certificates.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Lifetime of the CA's own certificate: ten years.
pub const CA_LIFETIME: Duration = Duration::from_secs(3653 * 24 * 3600);
/// A certificate is valid from this long before it was made, for hosts whose clock is behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// Bound of any PEM text that a peer sends or a file holds.
pub const PEM_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot read or write {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{what} is no valid PEM: {reason}")]
    BadPem { what: String, reason: String },
    #[error("{what} is larger than {PEM_BYTES_MAX} bytes")]
    TooLarge { what: String },
    #[error("{key} and {certificate} do not belong together (hint: restore both files from the same backup)")]
    KeyMismatch { key: PathBuf, certificate: PathBuf },
    #[error(
        "{certificate} is there but {key} is missing (hint: restore it from a backup; a new CA means that every host must join again)"
    )]
    KeyMissing { key: PathBuf, certificate: PathBuf },
    #[error("certificate signing request is refused: {reason}")]
    BadRequest { reason: String },
    #[error("cannot make {what}")]
    Make { what: &'static str, source: rcgen::Error },
    #[error("{what} cannot be used for TLS")]
    Unusable { what: String, source: rustls::Error },
    #[error("'{text}' is no peer identity: whimbrel://agent/<host> or whimbrel://controller/<name> is needed")]
    BadIdentity { text: String },
    #[error("certificate holds no identity of Whimbrel")]
    NoIdentity,
    #[error(
        "this is no join token: whimbrel-join:<64 hex digits>:<64 hex digits> is needed (hint: make one with `whimbrel host token HOST`)"
    )]
    BadJoinToken,
    #[error("the system gave no random bytes")]
    NoRandomness,
}
