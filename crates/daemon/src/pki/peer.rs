//! Who a peer is: a role and a name, as a URI in its certificate.

use std::{fmt, str::FromStr};

use whimbrel_core::id::HostName;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::PkiError;

const SCHEME: &str = "whimbrel://";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Agent,
    Controller,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Controller => "controller",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The identity that a certificate proves. Display: `agent 'h1'`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    pub role: Role,
    pub name: HostName,
}

impl PeerIdentity {
    pub fn agent(host: HostName) -> Self {
        PeerIdentity { role: Role::Agent, name: host }
    }

    pub fn controller(name: HostName) -> Self {
        PeerIdentity { role: Role::Controller, name }
    }

    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.role, self.name)
    }

    /// The host, if this is an agent.
    pub fn agent_host(&self) -> Option<&HostName> {
        match self.role {
            Role::Agent => Some(&self.name),
            Role::Controller => None,
        }
    }

    /// Of a certificate in DER. A certificate with two identities is as bad as one with none: nobody could say which counts.
    pub fn of_certificate(der: &[u8]) -> Result<Self, PkiError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PkiError::NoIdentity)?;
        let names = certificate.subject_alternative_name().ok().flatten().ok_or(PkiError::NoIdentity)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse(),
            (None, _) | (Some(_), Some(_)) => Err(PkiError::NoIdentity),
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.role, self.name)
    }
}

impl FromStr for PeerIdentity {
    type Err = PkiError;
    fn from_str(text: &str) -> Result<Self, PkiError> {
        let bad = || PkiError::BadIdentity { text: text.chars().take(100).collect() };
        let (role, name) = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(bad)?;
        let role = [Role::Agent, Role::Controller].into_iter().find(|known| known.as_str() == role).ok_or_else(bad)?;
        Ok(PeerIdentity { role, name: name.parse().map_err(|_| bad())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_nothing_else() {
        let check = |text: &str, good: bool| match text.parse::<PeerIdentity>() {
            Ok(identity) => assert!(good && identity.uri() == text, "{text} was taken as {identity}"),
            Err(error) => assert!(!good, "{error}"),
        };
        check("whimbrel://agent/h1", true);
        check("whimbrel://controller/c-1.example", true);
        check("whimbrel://agent/", false);
        check("whimbrel://agent/h1/x", false);
        check("whimbrel://operator/h1", false);
        check("whimbrel://agent/H1", false);
        check("https://agent/h1", false);
        check("agent/h1", false);
    }
}
