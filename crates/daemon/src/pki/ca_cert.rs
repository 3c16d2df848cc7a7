//! The CA's certificate as everyone else sees it: what to trust, and the fingerprint by which to recognise it.

use std::{fmt, path::Path, str::FromStr};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{PEM_BYTES_MAX, PkiError};
use crate::durable;

/// BLAKE3 of the CA certificate's DER, as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(blake3::Hash);

impl Fingerprint {
    pub fn of_der(der: &[u8]) -> Self {
        Fingerprint(blake3::hash(der))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl FromStr for Fingerprint {
    type Err = PkiError;
    fn from_str(text: &str) -> Result<Self, PkiError> {
        blake3::Hash::from_hex(text).map(Fingerprint).map_err(|_| PkiError::BadJoinToken)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCert {
    der: CertificateDer<'static>,
    pem: String,
}

impl CaCert {
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        let what = || "CA certificate".to_owned();
        if pem.len() > PEM_BYTES_MAX {
            return Err(PkiError::TooLarge { what: what() });
        }
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| PkiError::BadPem { what: what(), reason: error.to_string() })?;
        let ca = CaCert { der, pem: pem.to_owned() };
        ca.add_to(&mut RootCertStore::empty())?;
        Ok(ca)
    }

    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let file = |source| PkiError::File { path: path.to_owned(), source };
        let bytes = durable::read(path, PEM_BYTES_MAX as u64).map_err(file)?;
        let bytes = bytes.ok_or_else(|| file(std::io::ErrorKind::NotFound.into()))?;
        CaCert::from_pem(&String::from_utf8_lossy(&bytes))
    }

    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        durable::write(path, self.pem.as_bytes()).map_err(|source| PkiError::File { path: path.to_owned(), source })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_der(&self.der)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        self.add_to(&mut roots)?;
        Ok(roots)
    }

    fn add_to(&self, roots: &mut RootCertStore) -> Result<(), PkiError> {
        roots.add(self.der.clone()).map_err(|source| PkiError::Unusable { what: "CA certificate".to_owned(), source })
    }
}
