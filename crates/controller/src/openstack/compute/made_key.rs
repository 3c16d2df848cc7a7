//! Key pairs made here, for clients older than 2.92: RSA, as Nova makes them.
//!
//! Ground rules: the private half is told once and kept nowhere; it is written in the one form that all clients of that age read,
//! PKCS #1 in PEM. A few are made at a time, off the threads that serve.
//! Sources: RFC 8017, A.1; RFC 5958; RFC 4253, 6.6.

use std::time::Duration;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::sync::Semaphore;

const SSH_RSA: &str = "ssh-rsa";
const COMMENT: &str = "Generated-by-Nova";
const PEM_COLUMNS: usize = 64;
const AT_ONCE_MAX: usize = 2;
const TURN_TIME_MAX: Duration = Duration::from_secs(20);
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE_MAX);

/// Without `Debug`: half of it is secret.
pub(super) struct MadeKey {
    pub public_key: String,
    pub private_pem: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Unmade {
    #[error("too many keys are made at once")]
    Busy,
    #[error("{0}")]
    Failed(&'static str),
}

pub(super) async fn make() -> Result<MadeKey, Unmade> {
    let turn = tokio::time::timeout(TURN_TIME_MAX, TURNS.acquire()).await;
    let turn = turn.map_err(|_| Unmade::Busy)?.map_err(|_| Unmade::Busy)?;
    // The turn goes with the work, which goes on if the one who asked does not wait.
    let made = tokio::task::spawn_blocking(move || {
        let made = make_here();
        drop(turn);
        made
    });
    made.await.map_err(|_| Unmade::Failed("its thread ended"))?
}

fn make_here() -> Result<MadeKey, Unmade> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| Unmade::Failed("the generator failed"))?;
    let pkcs8: Pkcs8V1Der = pair.as_der().map_err(|_| Unmade::Failed("it has no PKCS #8 form"))?;
    let private = private_pkcs1(pkcs8.as_ref()).ok_or(Unmade::Failed("its PKCS #8 form is not known"))?;
    let public = ssh_form(pair.public_key().as_ref()).ok_or(Unmade::Failed("its public form is not known"))?;
    Ok(MadeKey {
        public_key: format!("{SSH_RSA} {} {COMMENT}", STANDARD.encode(public)),
        private_pem: pem("RSA PRIVATE KEY", private),
    })
}

/// From `RSAPublicKey { n, e }`. An INTEGER holds the same bytes as SSH's number.
fn ssh_form(public: &[u8]) -> Option<Vec<u8>> {
    let (inner, _) = value(public, Tag::Sequence)?;
    let (modulus, inner) = value(inner, Tag::Integer)?;
    let (exponent, _) = value(inner, Tag::Integer)?;
    let mut form = Vec::new();
    for part in [SSH_RSA.as_bytes(), exponent, modulus] {
        form.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
        form.extend(part);
    }
    Some(form)
}

/// From `PrivateKeyInfo { version, algorithm, key }`.
fn private_pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let (inner, _) = value(pkcs8, Tag::Sequence)?;
    let (_, inner) = value(inner, Tag::Integer)?;
    let (_, inner) = value(inner, Tag::Sequence)?;
    value(inner, Tag::Octets).map(|(key, _)| key)
}

#[derive(Clone, Copy)]
enum Tag {
    Integer = 0x02,
    Octets = 0x04,
    Sequence = 0x30,
}

/// A DER value's content, and what follows it.
fn value(der: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    const LONG: u8 = 0x80;
    let ([found, length], rest) = der.split_first_chunk::<2>()?;
    if *found != tag as u8 {
        return None;
    }
    let (length, rest) = if *length < LONG {
        (usize::from(*length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*length - LONG))?;
        (digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add((*digit).into()))?, rest)
    };
    rest.split_at_checked(length)
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut line = 0;
    for character in STANDARD.encode(der).chars() {
        if line == PEM_COLUMNS {
            text.push('\n');
            line = 0;
        }
        text.push(character);
        line += 1;
    }
    text + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use whimbrel_store::KeyKind;

    use super::*;
    use crate::openstack::compute::public_key;

    #[test]
    fn both_halves_are_of_one_key_and_in_known_forms() {
        let made = make_here().unwrap();
        let (one, other) = (make_here().unwrap(), made.public_key.clone());
        assert_ne!(one.public_key, other);
        public_key::fingerprint(KeyKind::Ssh, &made.public_key).unwrap();
        let lines: Vec<&str> = made.private_pem.lines().collect();
        assert_eq!(
            (lines[0], lines[lines.len() - 1]),
            ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----")
        );
        assert!(lines.iter().all(|line| line.len() <= PEM_COLUMNS), "{} lines", lines.len());
        let private = STANDARD.decode(lines[1..lines.len() - 1].concat()).unwrap();
        let again = KeyPair::from_der(&private).unwrap();
        let form = STANDARD.encode(ssh_form(again.public_key().as_ref()).unwrap());
        assert_eq!(made.public_key, format!("ssh-rsa {form} Generated-by-Nova"));
    }

    #[test]
    fn der_that_ends_early_is_none() {
        let check = |der: &[u8], want: Option<(&[u8], &[u8])>| assert_eq!(value(der, Tag::Octets), want, "{der:?}");
        check(&[4, 1, 7, 8], Some((&[7], &[8])));
        check(&[4, 0x81, 1, 7], Some((&[7], &[])));
        check(&[4, 2, 7], None);
        check(&[4, 0x82, 1], None);
        check(&[4, 0x89, 255, 255, 255, 255, 255, 255, 255, 255, 255], None);
        check(&[2, 1, 7], None);
        check(&[4], None);
    }
}
