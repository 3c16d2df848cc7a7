//! The two verifiers: chain, validity and purpose by webpki, then the identity.
//!
//! Names of DNS and addresses are not looked at on purpose: the identity URI is the name, and only our CA writes it.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{Expect, Refusal, TlsError, provider};
use crate::pki::{CaCert, Fingerprint, PeerIdentity, Role};

fn refused(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// What the connecting side trusts.
#[derive(Debug)]
enum Trust {
    Roots(RootCertStore),
    /// Whatever certificate of the shown chain has this fingerprint.
    Pinned(Fingerprint),
}

#[derive(Debug)]
pub(super) struct Servers {
    trust: Trust,
    expect: Expect,
}

impl Servers {
    pub(super) fn of_ca(ca: &CaCert, expect: Expect) -> Result<Self, TlsError> {
        let roots = ca.roots().map_err(|source| TlsError::Pki { source })?;
        Ok(Servers { trust: Trust::Roots(roots), expect })
    }

    pub(super) fn pinned(ca: Fingerprint) -> Self {
        Servers { trust: Trust::Pinned(ca), expect: Expect::Any(Role::Controller) }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned_roots;
        let roots = match &self.trust {
            Trust::Roots(roots) => roots,
            Trust::Pinned(fingerprint) => {
                let ca = intermediates.iter().find(|der| Fingerprint::of_der(der) == *fingerprint);
                let mut roots = RootCertStore::empty();
                roots.add(ca.ok_or_else(|| refused(Refusal::OtherCa))?.clone().into_owned())?;
                pinned_roots = roots;
                &pinned_roots
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms.all)?;
        let presented = PeerIdentity::of_certificate(end_entity).map_err(|_| refused(Refusal::NoIdentity))?;
        if self.expect.admits(&presented) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused(Refusal::OtherIdentity { presented, expected: self.expect.clone() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Lets in clients with an identity of this CA, and, where certificates are optional, those that show none.
#[derive(Debug)]
pub(super) struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    pub(super) fn required(ca: &CaCert) -> Result<Self, TlsError> {
        Clients::new(ca, false)
    }

    pub(super) fn optional(ca: &CaCert) -> Result<Self, TlsError> {
        Clients::new(ca, true)
    }

    fn new(ca: &CaCert, optional: bool) -> Result<Self, TlsError> {
        let roots = Arc::new(ca.roots().map_err(|source| TlsError::Pki { source })?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let builder = if optional { builder.allow_unauthenticated() } else { builder };
        let chain = builder.build().map_err(|error| TlsError::Config { source: Error::General(error.to_string()) })?;
        Ok(Clients { chain })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        PeerIdentity::of_certificate(end_entity).map_err(|_| refused(Refusal::NoIdentity))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
