//! This process's own identity: key and certificate, replaced in place when renewed, so that no listener restarts.

use std::{
    path::Path,
    sync::{Arc, RwLock},
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{PEM_BYTES_MAX, PeerIdentity, PkiError, authority::new_key};
use crate::{clock::Timestamp, durable, tls};

/// Renewal is due when this part of the lifetime has gone.
const RENEW_AFTER_NUMERATOR: i64 = 2;
const RENEW_AFTER_DENOMINATOR: i64 = 3;

/// A private key and its chain, as one PEM text: one file, so a crash cannot leave a key beside another's certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAndChain(String);

impl std::fmt::Debug for KeyAndChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyAndChain(…)")
    }
}

impl KeyAndChain {
    /// `None` where there is no such file: this host has not joined yet.
    pub fn load(path: &Path) -> Result<Option<Self>, PkiError> {
        let bytes = durable::read(path, PEM_BYTES_MAX as u64)
            .map_err(|source| PkiError::File { path: path.to_owned(), source })?;
        Ok(bytes.map(|bytes| KeyAndChain(String::from_utf8_lossy(&bytes).into_owned())))
    }

    /// Mode 0600, durable.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        durable::write_private(path, self.0.as_bytes())
            .map_err(|source| PkiError::File { path: path.to_owned(), source })
    }
}

/// A key made here and the request for its certificate. Only `csr_pem` travels.
pub struct SigningRequest {
    pub csr_pem: String,
    key: KeyPair,
}

pub fn new_signing_request() -> Result<SigningRequest, PkiError> {
    let key = new_key()?;
    let make = |source| PkiError::Make { what: "certificate signing request", source };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr_pem = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(make)?;
    Ok(SigningRequest { csr_pem, key })
}

impl SigningRequest {
    /// Joins the key with the chain that the CA sent. Fails if the certificate is for another key.
    pub fn finish(self, chain_pem: &str) -> Result<KeyAndChain, PkiError> {
        if chain_pem.len() > PEM_BYTES_MAX {
            return Err(PkiError::TooLarge { what: "certificate chain".to_owned() });
        }
        let both = KeyAndChain(format!("{}{chain_pem}", self.key.serialize_pem()));
        Current::parse(&both).map(|_| both)
    }
}

/// The identity in use, shared by every listener and connection.
#[derive(Debug)]
pub struct Identity {
    current: RwLock<Arc<Current>>,
}

#[derive(Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    who: PeerIdentity,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Current {
    fn parse(both: &KeyAndChain) -> Result<Self, PkiError> {
        let what = || "key and certificate chain".to_owned();
        let bad = |reason: String| PkiError::BadPem { what: what(), reason };
        let key = PrivateKeyDer::from_pem_slice(both.0.as_bytes()).map_err(|error| bad(error.to_string()))?;
        let chain = CertificateDer::pem_slice_iter(both.0.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| bad("it holds no certificate".to_owned()))?.clone();
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|error| bad(error.to_string()))?;
        let certified = CertifiedKey::from_der(chain, key, &tls::provider())
            .map_err(|source| PkiError::Unusable { what: what(), source })?;
        Ok(Current {
            certified: Arc::new(certified),
            who: PeerIdentity::of_certificate(&leaf)?,
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: Timestamp::from_unix_s(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_unix_s(parsed.validity().not_after.timestamp()),
        })
    }
}

impl Identity {
    pub fn new(both: &KeyAndChain) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Identity { current: RwLock::new(Arc::new(Current::parse(both)?)) }))
    }

    /// From now on every new handshake shows this certificate; connections that stand are not touched.
    pub fn replace(&self, both: &KeyAndChain) -> Result<(), PkiError> {
        let next = Arc::new(Current::parse(both)?);
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
        Ok(())
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn who(&self) -> PeerIdentity {
        self.current().who.clone()
    }

    /// Lower-case hex.
    pub fn serial(&self) -> String {
        self.current().serial.clone()
    }

    pub fn not_after(&self) -> Timestamp {
        self.current().not_after
    }

    /// When a new certificate is due: at 2/3 of the lifetime.
    pub fn renew_at(&self) -> Timestamp {
        let current = self.current();
        let lifetime_us = current.not_after.0 - current.not_before.0;
        Timestamp(current.not_before.0 + lifetime_us / RENEW_AFTER_DENOMINATOR * RENEW_AFTER_NUMERATOR)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified.clone())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
