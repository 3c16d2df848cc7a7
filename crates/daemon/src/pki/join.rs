//! One-time join tokens: the secret that lets a host in once, and the CA's fingerprint that lets the host know whom it joins.

use std::{fmt, str::FromStr};

use super::{Fingerprint, PkiError};
use crate::tls;

const PREFIX: &str = "whimbrel-join";
const SECRET_BYTES: usize = 32;
/// Separates these hashes from every other use of BLAKE3.
const HASH_CONTEXT: &str = "whimbrel 2026 hash of a bearer secret";

/// 256 random bits. Shown once, to the one who is to hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    pub fn generate() -> Result<Self, PkiError> {
        let mut bytes = [0; SECRET_BYTES];
        tls::fill_random(&mut bytes)?;
        Ok(Secret(bytes))
    }

    /// 64 lower-case hex digits.
    pub fn reveal(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// What the store keeps. No salt and no slow hash are needed: 256 random bits cannot be guessed.
    pub fn hash(&self) -> SecretHash {
        SecretHash(blake3::Hash::from_bytes(blake3::derive_key(HASH_CONTEXT, &self.0)))
    }
}

impl FromStr for Secret {
    type Err = PkiError;
    fn from_str(text: &str) -> Result<Self, PkiError> {
        blake3::Hash::from_hex(text).map(|hash| Secret(*hash.as_bytes())).map_err(|_| PkiError::BadJoinToken)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Compares in constant time. Display: 64 hex digits, for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretHash(blake3::Hash);

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

/// What an operator carries to a new host. Display and FromStr: `whimbrel-join:<CA fingerprint>:<secret>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub ca: Fingerprint,
    pub secret: Secret,
}

impl JoinToken {
    pub fn generate(ca: Fingerprint) -> Result<Self, PkiError> {
        Ok(JoinToken { ca, secret: Secret::generate()? })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}:{}:{}", self.ca, self.secret.reveal())
    }
}

impl FromStr for JoinToken {
    type Err = PkiError;
    fn from_str(text: &str) -> Result<Self, PkiError> {
        let mut parts = text.trim().split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(PREFIX), Some(ca), Some(secret), None) => Ok(JoinToken { ca: ca.parse()?, secret: secret.parse()? }),
            _ => Err(PkiError::BadJoinToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_damaged_one_does_not() {
        let token = JoinToken::generate(Fingerprint::of_der(b"ca")).unwrap();
        let text = token.to_string();
        assert_eq!(text.parse::<JoinToken>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token);
        let check = |bad: String| assert!(bad.parse::<JoinToken>().is_err(), "{bad} was taken");
        check(text[..text.len() - 1].to_owned());
        check(format!("{text}:0"));
        check(text.replace("whimbrel-join", "whimbrel"));
        check(String::new());
    }

    #[test]
    fn secrets_differ_do_not_show_and_hash_to_something_else() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one, other);
        assert_ne!(one.hash(), other.hash());
        assert_ne!(one.hash().to_string(), one.reveal());
        assert!(!format!("{one:?}").contains(&one.reveal()[..4]));
        assert_eq!(one.reveal().parse::<Secret>().unwrap().hash(), one.hash());
    }
}
