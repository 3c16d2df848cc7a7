//! What is known of a host beside what its agent says: whether it may be used at all, and to which aggregates it belongs.

use std::collections::{BTreeMap, BTreeSet};

/// Of hosts that no aggregate gives a zone.
pub const DEFAULT_ZONE: &str = "nova";
/// The entry of an aggregate's metadata that names the zone of its hosts.
pub const ZONE_KEY: &str = "availability_zone";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    #[default]
    Up,
    /// No heartbeat.
    Silent,
    /// An administrator says that it is dead.
    ForcedDown,
}

/// The default is a host that is up, enabled and in no aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub reach: Reach,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    /// `None` is [`DEFAULT_ZONE`].
    pub zone: Option<String>,
    /// Of all its aggregates together.
    pub metadata: BTreeMap<String, BTreeSet<String>>,
}

pub(super) static PLAIN: Place =
    Place { reach: Reach::Up, disabled: false, disabled_reason: None, zone: None, metadata: BTreeMap::new() };

impl Place {
    pub fn zone(&self) -> &str {
        self.zone.as_deref().unwrap_or(DEFAULT_ZONE)
    }
}
