//! Typed names: an instance cannot be passed where a migration is meant.
//!
//! Ids are made by the shell (UUIDv7) and only carried here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

typed_uuid!(/// One guest; a *server* in the API.
    InstanceId);
typed_uuid!(/// One attempt to move one instance. A retry is a new migration.
    MigrationId);
typed_uuid!(/// A directory that several hosts have mounted; its own mark, whatever each of them calls the path.
    StorageId);
typed_uuid!(/// A disk or kernel image known to the controller.
    ImageId);
typed_uuid!(/// A size template.
    FlavorId);
typed_uuid!(/// What guests are connected by.
    NetworkId);
typed_uuid!(/// A range of addresses on a network.
    SubnetId);
typed_uuid!(/// Where a NIC meets its network.
    PortId);
typed_uuid!(SecurityGroupId);
typed_uuid!(SecurityGroupRuleId);

/// Rises by one at every hand-over of an instance. The first owner has epoch 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    pub const FIRST: Epoch = Epoch(1);

    pub fn next(self) -> Self {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub const HOST_NAME_BYTES_MAX: usize = 63;

/// Name of a host; also the identity in its certificate. `[a-z0-9][a-z0-9.-]*`, at most 63 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no host name: use 1 to {HOST_NAME_BYTES_MAX} of a-z, 0-9, '.', '-', and begin with a letter or digit"
)]
pub struct BadHostName(String);

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = BadHostName;
    fn from_str(text: &str) -> Result<Self, BadHostName> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = (1..=HOST_NAME_BYTES_MAX).contains(&bytes.len())
            && plain(bytes[0])
            && bytes.iter().all(|&c| plain(c) || c == b'.' || c == b'-');
        if good { Ok(HostName(text.to_owned())) } else { Err(BadHostName(text.to_owned())) }
    }
}
impl TryFrom<String> for HostName {
    type Error = BadHostName;
    fn try_from(text: String) -> Result<Self, BadHostName> {
        text.parse()
    }
}
impl From<HostName> for String {
    fn from(name: HostName) -> String {
        name.0
    }
}
impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({})", self.0)
    }
}

/// Name of an image by its content: BLAKE3 of the file's bytes, lower-case hex. Names a file under `images/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no image digest: 64 lower-case hex digits (BLAKE3) are needed")]
pub struct BadImageDigest(String);

impl ImageDigest {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for ImageDigest {
    type Err = BadImageDigest;
    fn from_str(text: &str) -> Result<Self, BadImageDigest> {
        let good = text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        if good { Ok(ImageDigest(text.to_owned())) } else { Err(BadImageDigest(text.to_owned())) }
    }
}
impl TryFrom<String> for ImageDigest {
    type Error = BadImageDigest;
    fn try_from(text: String) -> Result<Self, BadImageDigest> {
        text.parse()
    }
}
impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> String {
        digest.0
    }
}
impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageDigest({})", &self.0[..12])
    }
}
