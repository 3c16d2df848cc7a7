//! Why two peers did not come together, said so that an operator can act.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::Expect;
use crate::{clock::Timestamp, pki::PeerIdentity};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("its certificate is not of this Whimbrel's CA")]
    OtherCa,
    #[error("its certificate expired at {not_after}")]
    Expired { not_after: Timestamp },
    #[error("its certificate is valid only from {not_before}")]
    NotYetValid { not_before: Timestamp },
    #[error("certificate of {presented} presented where {expected} was expected")]
    OtherIdentity { presented: PeerIdentity, expected: Expect },
    #[error("its certificate holds no identity of Whimbrel")]
    NoIdentity,
    #[error("it showed no certificate")]
    NoCertificate,
    /// The peer's verdict on our certificate; with TLS 1.3 it comes with the first read, after our handshake is done.
    #[error("the peer refuses our certificate ({verdict})")]
    RefusedByPeer { verdict: &'static str },
    #[error("TLS failed: {reason}")]
    Protocol { reason: String },
}

impl Refusal {
    pub fn hint(&self) -> &'static str {
        match self {
            Refusal::OtherCa => "the host belongs to another controller, or the CA was made anew: let it join again",
            Refusal::Expired { .. } => "check the clocks; if they are right, let the host join again with a new token",
            Refusal::NotYetValid { .. } => "check the clocks of both hosts",
            Refusal::OtherIdentity { .. } => "check the address: another host answers there",
            Refusal::NoIdentity => "only certificates issued by the controller can be used",
            Refusal::NoCertificate => "only hosts that joined can connect here",
            Refusal::RefusedByPeer { .. } => {
                "check both clocks; see the peer's log; let this host join again if need be"
            }
            Refusal::Protocol { .. } => "check that a Whimbrel daemon listens there",
        }
    }

    /// Of an error of any read, write or handshake; `None` if TLS has no part in it.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        let tls = error.get_ref()?.downcast_ref::<Error>()?;
        Some(Refusal::of_tls(tls))
    }

    fn of_tls(error: &Error) -> Self {
        let at =
            |time: &rustls::pki_types::UnixTime| Timestamp::from_unix_s(i64::try_from(time.as_secs()).unwrap_or(0));
        match error {
            Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::OtherCa,
                CertificateError::ExpiredContext { not_after, .. } => Refusal::Expired { not_after: at(not_after) },
                CertificateError::NotValidYetContext { not_before, .. } => {
                    Refusal::NotYetValid { not_before: at(not_before) }
                }
                CertificateError::Other(other) => match other.0.downcast_ref::<Refusal>() {
                    Some(refusal) => refusal.clone(),
                    None => Refusal::Protocol { reason: other.to_string() },
                },
                unusual => Refusal::Protocol { reason: unusual.to_string() },
            },
            Error::NoCertificatesPresented => Refusal::NoCertificate,
            Error::AlertReceived(alert) => Refusal::of_alert(*alert),
            unusual => Refusal::Protocol { reason: unusual.to_string() },
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        let verdict = match alert {
            AlertDescription::UnknownCA => "it is of another CA",
            AlertDescription::CertificateExpired => "it is expired or not valid yet",
            AlertDescription::CertificateRequired => "we showed none",
            AlertDescription::DecryptError => "its signature is wrong",
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied => "it holds no identity that the peer accepts",
            other => return Refusal::Protocol { reason: format!("the peer ended the handshake: {other:?}") },
        };
        Refusal::RefusedByPeer { verdict }
    }
}
