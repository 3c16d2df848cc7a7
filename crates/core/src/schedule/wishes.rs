//! What is wanted of the host, beside room: by the user, by the flavor, by the server's group, by an administrator.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    disk::Storage,
    id::{HostName, InstanceId},
};

/// The default wishes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub host: Option<HostName>,
    /// An administrator named the host: it may be disabled.
    pub disabled_too: bool,
    pub ignored: BTreeSet<HostName>,
    pub zone: Option<String>,
    /// Of the flavor, with those that are not for the choice of a host.
    pub extra_specs: BTreeMap<String, String>,
    pub group: Option<Group>,
    /// On none of their hosts.
    pub different_from: Vec<Neighbour>,
    /// On the host of one of them.
    pub same_as: Vec<Neighbour>,
    /// Of a move, Nova's `block_migration`: `Local` wants the disks copied, `Shared` wants them left where they are.
    pub storage: Option<Storage>,
}

/// For whoever has none.
pub static NO_WISHES: Wishes = Wishes {
    host: None,
    disabled_too: false,
    ignored: BTreeSet::new(),
    zone: None,
    extra_specs: BTreeMap::new(),
    group: None,
    different_from: Vec::new(),
    same_as: Vec::new(),
    storage: None,
};

/// A server group as one of its servers sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub policy: GroupPolicy,
    /// How many of its other servers live on, or are on their way to, each host.
    pub others: BTreeMap<HostName, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPolicy {
    Affinity,
    AntiAffinity { max_server_per_host: u32 },
    SoftAffinity,
    SoftAntiAffinity,
}

impl Group {
    pub(super) fn others_on(&self, host: &HostName) -> u32 {
        self.others.get(host).copied().unwrap_or(0)
    }
}

/// Another server that a hint names, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub server: InstanceId,
    pub host: HostName,
}
