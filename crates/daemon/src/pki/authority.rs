//! The CA, inside the controller: its key and certificate in the state directory, and what it signs.

use std::{net::IpAddr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
    SigningKey,
};

use super::{
    CA_LIFETIME, CERTIFICATE_LIFETIME, CLOCK_SKEW, CaCert, KeyAndChain, PEM_BYTES_MAX, PeerIdentity, PkiError,
};
use crate::{clock::Timestamp, durable, tls};

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.crt";
const SERIAL_BYTES: usize = 16;

/// Names beside the identity, for those who look at DNS names and addresses: operators (curl, browsers, `whimbrel`). None for
/// agents: to an operator, a name is all that tells the controller from another holder of a certificate of this CA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// A signed certificate, with what the store wants to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, then the CA's.
    pub chain_pem: String,
    /// Lower-case hex.
    pub serial: String,
    pub not_after: Timestamp,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CaCert,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.certificate.fingerprint())
    }
}

impl Authority {
    /// The CA of this state directory: `ca.key` (0600) and `ca.crt`, made on the first start.
    ///
    /// The key is written first, so a start that died in between leaves a key without a certificate, and the next start
    /// signs one with it.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        durable::make_dir(dir).map_err(|source| PkiError::File { path: dir.to_owned(), source })?;
        let certificate_pem = read_pem(&certificate_path)?;
        let key = match read_pem(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| PkiError::BadPem {
                what: key_path.display().to_string(),
                reason: error.to_string(),
            })?,
            None if certificate_pem.is_some() => {
                return Err(PkiError::KeyMissing { key: key_path, certificate: certificate_path });
            }
            None => {
                let key = new_key()?;
                durable::write_private(&key_path, key.serialize_pem().as_bytes())
                    .map_err(|source| PkiError::File { path: key_path.clone(), source })?;
                key
            }
        };
        let certificate = match certificate_pem {
            Some(pem) => CaCert::from_pem(&pem)?,
            None => {
                let certificate = self_sign(&key, now)?;
                certificate.save(&certificate_path)?;
                certificate
            }
        };
        if !belongs_to(&certificate, &key) {
            return Err(PkiError::KeyMismatch { key: key_path, certificate: certificate_path });
        }
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key).map_err(make("CA"))?;
        Ok(Authority { issuer, certificate })
    }

    pub fn certificate(&self) -> &CaCert {
        &self.certificate
    }

    /// Signs the public key of `csr_pem` for `identity`. The caller has checked that the asker is (or may become) `identity`.
    pub fn sign(
        &self,
        csr_pem: &str,
        identity: &PeerIdentity,
        names: &Names,
        now: Timestamp,
    ) -> Result<Issued, PkiError> {
        let refuse = |reason: String| PkiError::BadRequest { reason };
        if csr_pem.len() > PEM_BYTES_MAX {
            return Err(refuse(format!("it is larger than {PEM_BYTES_MAX} bytes")));
        }
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|error| refuse(error.to_string()))?;
        if csr.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(refuse("its key is not ECDSA P-256".to_owned()));
        }
        let (params, serial, not_after) = leaf_params(identity, names, now)?;
        csr.params = params;
        let certificate = csr.signed_by(&self.issuer).map_err(make("certificate"))?;
        let chain_pem = format!("{}{}", certificate.pem(), self.certificate.pem());
        Ok(Issued { chain_pem, serial, not_after })
    }

    /// Makes a key and a certificate for it: for the controller's own identity, which lives where the CA lives.
    pub fn issue(&self, identity: &PeerIdentity, names: &Names, now: Timestamp) -> Result<KeyAndChain, PkiError> {
        let request = super::new_signing_request()?;
        let issued = self.sign(&request.csr_pem, identity, names, now)?;
        request.finish(&issued.chain_pem)
    }
}

fn read_pem(path: &Path) -> Result<Option<String>, PkiError> {
    let bytes =
        durable::read(path, PEM_BYTES_MAX as u64).map_err(|source| PkiError::File { path: path.to_owned(), source })?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

pub(super) fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make("key"))
}

fn make(what: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Make { what, source }
}

fn belongs_to(certificate: &CaCert, key: &KeyPair) -> bool {
    rustls::server::ParsedCertificate::try_from(certificate.der()).is_ok_and(|parsed| {
        parsed.subject_public_key_info().as_ref() == rcgen::PublicKeyData::subject_public_key_info(key)
    })
}

fn self_sign(key: &impl SigningKey, now: Timestamp) -> Result<CaCert, PkiError> {
    let (serial, serial_hex) = new_serial()?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial);
    // A name of its own, so that a certificate of another Whimbrel's CA is seen as such, and not as a bad signature.
    params.distinguished_name = common_name(&format!("Whimbrel CA {}", &serial_hex[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now.minus(CLOCK_SKEW).date_time();
    params.not_after = now.plus(CA_LIFETIME).date_time();
    CaCert::from_pem(&params.self_signed(key).map_err(make("CA certificate"))?.pem())
}

fn leaf_params(
    identity: &PeerIdentity,
    names: &Names,
    now: Timestamp,
) -> Result<(CertificateParams, String, Timestamp), PkiError> {
    let (serial, serial_hex) = new_serial()?;
    let not_after = now.plus(CERTIFICATE_LIFETIME);
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial);
    params.distinguished_name = common_name(&identity.to_string());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now.minus(CLOCK_SKEW).date_time();
    params.not_after = not_after.date_time();
    let text = |text: &str| text.try_into().map_err(make("name in a certificate"));
    params.subject_alt_names.push(SanType::URI(text(&identity.uri())?));
    for name in &names.dns {
        params.subject_alt_names.push(SanType::DnsName(text(name)?));
    }
    params.subject_alt_names.extend(names.addresses.iter().copied().map(SanType::IpAddress));
    Ok((params, serial_hex, not_after))
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Random, positive and of full length, as RFC 5280 wants it.
fn new_serial() -> Result<(SerialNumber, String), PkiError> {
    let mut bytes = [0; SERIAL_BYTES];
    tls::fill_random(&mut bytes)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((SerialNumber::from_slice(&bytes), hex))
}
