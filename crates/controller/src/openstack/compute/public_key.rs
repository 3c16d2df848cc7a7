//! Public keys that users bring: looked into before they are kept, and known by their fingerprints.
//!
//! ```text
//! ssh-ed25519 AAAAC3Nza… comment    base64 ▶ text "ssh-ed25519", then the parts of that type and nothing else
//! ```
//!
//! Ground rules: a key that no guest could read is refused here, while somebody is there to hear of it; fingerprints are those
//! that Nova gives: MD5 of an SSH key, SHA-1 of a certificate.
//! Sources: nova, crypto.py; RFC 4253, 5656 and 8709; OpenSSH, PROTOCOL.u2f.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use whimbrel_store::KeyKind;
use x509_parser::pem::Pem;

/// As long as Nova's column.
const BYTES_MAX: usize = 65_535;
const CERTIFICATE: &str = "CERTIFICATE";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKey {
    #[error("the public key is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("failed to generate fingerprint: {0}")]
    Ssh(&'static str),
    #[error("failed to generate X509 fingerprint. Error message: {0}")]
    X509(&'static str),
}

pub(super) fn fingerprint(kind: KeyKind, text: &str) -> Result<String, BadKey> {
    if text.len() > BYTES_MAX {
        return Err(BadKey::TooLong);
    }
    Ok(match kind {
        KeyKind::Ssh => colons(&Md5::digest(ssh_key(text).map_err(BadKey::Ssh)?)),
        KeyKind::X509 => colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate(text).map_err(BadKey::X509)?).as_ref()),
    })
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn certificate(text: &str) -> Result<Vec<u8>, &'static str> {
    let pem = Pem::iter_from_buffer(text.as_bytes()).next();
    let pem = pem.and_then(Result::ok).filter(|pem| pem.label == CERTIFICATE).ok_or("it is no certificate in PEM")?;
    pem.parse_x509().map_err(|_| "it is no X.509 certificate")?;
    Ok(pem.contents)
}

/// What a key consists of, after its type.
#[derive(Clone, Copy)]
enum Part {
    /// Greater than 0.
    Number,
    Bytes(usize),
    /// An uncompressed point of a curve.
    Point(usize),
    Word(&'static str),
    Text,
}

const TYPES: &[(&str, &[Part])] = &[
    ("ssh-rsa", &[Part::Number, Part::Number]),
    ("ssh-dss", &[Part::Number, Part::Number, Part::Number, Part::Number]),
    ("ssh-ed25519", &[Part::Bytes(32)]),
    ("ecdsa-sha2-nistp256", &[Part::Word("nistp256"), Part::Point(65)]),
    ("ecdsa-sha2-nistp384", &[Part::Word("nistp384"), Part::Point(97)]),
    ("ecdsa-sha2-nistp521", &[Part::Word("nistp521"), Part::Point(133)]),
    ("sk-ssh-ed25519@openssh.com", &[Part::Bytes(32), Part::Text]),
    ("sk-ecdsa-sha2-nistp256@openssh.com", &[Part::Word("nistp256"), Part::Point(65), Part::Text]),
];

/// The key in SSH's own form, of which it has a fingerprint.
fn ssh_key(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut words = text.split_ascii_whitespace();
    let (Some(name), Some(body)) = (words.next(), words.next()) else { return Err("a type and a key are needed") };
    let (_, parts) = TYPES.iter().find(|(known, _)| *known == name).ok_or("its type is not known")?;
    let key = STANDARD.decode(body).map_err(|_| "it is not in base64")?;
    let mut rest = key.as_slice();
    if next(&mut rest) != Some(name.as_bytes()) {
        return Err("the key is of another type than it says");
    }
    let whole = parts.iter().all(|part| next(&mut rest).is_some_and(|bytes| part.fits(bytes)));
    if whole && rest.is_empty() { Ok(key) } else { Err("the key is damaged") }
}

impl Part {
    fn fits(self, bytes: &[u8]) -> bool {
        const UNCOMPRESSED: u8 = 4;
        const SIGN: u8 = 0x80;
        match self {
            Part::Number => bytes.first().is_some_and(|first| first & SIGN == 0) && bytes.iter().any(|byte| *byte != 0),
            Part::Bytes(count) => bytes.len() == count,
            Part::Point(count) => bytes.len() == count && bytes.first() == Some(&UNCOMPRESSED),
            Part::Word(word) => bytes == word.as_bytes(),
            Part::Text => std::str::from_utf8(bytes).is_ok(),
        }
    }
}

/// A length of four bytes, and so many bytes.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests;
