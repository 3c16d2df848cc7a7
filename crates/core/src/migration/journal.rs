//! What of a machine's phase survives a death, and who owns a guest by the journals of one host.
//!
//! Ground rules:
//! - A record is smaller than a phase: what a restart gives up anyway is not told apart, so the switchover pays for one
//!   fsync on each side (COMMIT, OWN) and no more.
//! - Every entry carries its version; an unknown one is refused by name, never guessed at.
//! - A journal that cannot be written holds nobody's guest up: what a restart from the old record would do anyway may be
//!   done before the new one is on disk (`leads_to`), and nothing else.
//! - Nothing starts a guest on this host unless `owner` says `Here`.

use serde::{Deserialize, Serialize};

use super::{coordinator, source, target};
use crate::{
    failure::Failure,
    id::{Epoch, InstanceId, MigrationId},
};

pub const JOURNAL_VERSION: u32 = 1;

/// Durable state of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceRecord {
    /// Preparing, Copying or Switching: a restart aborts it.
    Moving,
    Committed,
    HandedOver {
        retired: bool,
    },
    Aborting {
        failure: Failure,
    },
    Aborted {
        failure: Failure,
    },
    Reowned {
        failure: Failure,
        undone: bool,
    },
}

impl SourceRecord {
    /// `None`: nothing is to be journaled.
    pub fn of(phase: &source::Phase) -> Option<Self> {
        match phase {
            source::Phase::Idle => None,
            source::Phase::Preparing | source::Phase::Copying | source::Phase::Switching(_) => {
                Some(SourceRecord::Moving)
            }
            source::Phase::Committed => Some(SourceRecord::Committed),
            source::Phase::HandedOver { retired } => Some(SourceRecord::HandedOver { retired: *retired }),
            source::Phase::Aborting { failure } => Some(SourceRecord::Aborting { failure: failure.clone() }),
            source::Phase::Aborted { failure } => Some(SourceRecord::Aborted { failure: failure.clone() }),
            source::Phase::Reowned { failure, undone } => {
                Some(SourceRecord::Reowned { failure: failure.clone(), undone: *undone })
            }
        }
    }

    /// A restart from this record begins to do what `next` does: `next` may be acted on while the journal refuses it. Never
    /// an end, which is told to others as settled.
    pub fn leads_to(&self, next: &source::Phase) -> bool {
        match self {
            SourceRecord::Moving | SourceRecord::Aborting { .. } => match next {
                source::Phase::Aborting { .. } => true,
                source::Phase::Idle
                | source::Phase::Preparing
                | source::Phase::Copying
                | source::Phase::Switching(_)
                | source::Phase::Committed
                | source::Phase::HandedOver { .. }
                | source::Phase::Aborted { .. }
                | source::Phase::Reowned { .. } => false,
            },
            SourceRecord::Committed
            | SourceRecord::HandedOver { .. }
            | SourceRecord::Aborted { .. }
            | SourceRecord::Reowned { .. } => false,
        }
    }

    /// The phase after a restart; the shell steps it with `Restarted` next.
    pub fn phase(&self) -> source::Phase {
        match self {
            SourceRecord::Moving => source::Phase::Preparing,
            SourceRecord::Committed => source::Phase::Committed,
            SourceRecord::HandedOver { retired } => source::Phase::HandedOver { retired: *retired },
            SourceRecord::Aborting { failure } => source::Phase::Aborting { failure: failure.clone() },
            SourceRecord::Aborted { failure } => source::Phase::Aborted { failure: failure.clone() },
            SourceRecord::Reowned { failure, undone } => {
                source::Phase::Reowned { failure: failure.clone(), undone: *undone }
            }
        }
    }
}

/// Durable state of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRecord {
    /// Preparing to Loaded: a restart refuses it.
    Receiving,
    Owned,
    Running,
    Refusing {
        failure: Failure,
    },
    Refused {
        failure: Failure,
    },
}

impl TargetRecord {
    /// `None`: nothing is to be journaled.
    pub fn of(phase: &target::Phase) -> Option<Self> {
        match phase {
            target::Phase::Unknown => None,
            target::Phase::Preparing
            | target::Phase::Prepared
            | target::Phase::Receiving
            | target::Phase::Sealed
            | target::Phase::Loaded => Some(TargetRecord::Receiving),
            target::Phase::Owned => Some(TargetRecord::Owned),
            target::Phase::Running => Some(TargetRecord::Running),
            target::Phase::Refusing { failure } => Some(TargetRecord::Refusing { failure: failure.clone() }),
            target::Phase::Refused { failure } => Some(TargetRecord::Refused { failure: failure.clone() }),
        }
    }

    /// As [`SourceRecord::leads_to`].
    pub fn leads_to(&self, next: &target::Phase) -> bool {
        match self {
            TargetRecord::Receiving | TargetRecord::Refusing { .. } => match next {
                target::Phase::Refusing { .. } => true,
                target::Phase::Unknown
                | target::Phase::Preparing
                | target::Phase::Prepared
                | target::Phase::Receiving
                | target::Phase::Sealed
                | target::Phase::Loaded
                | target::Phase::Owned
                | target::Phase::Running
                | target::Phase::Refused { .. } => false,
            },
            TargetRecord::Owned | TargetRecord::Running | TargetRecord::Refused { .. } => false,
        }
    }

    /// The phase after a restart; the shell steps it with `Restarted` next.
    pub fn phase(&self) -> target::Phase {
        match self {
            TargetRecord::Receiving => target::Phase::Preparing,
            TargetRecord::Owned => target::Phase::Owned,
            TargetRecord::Running => target::Phase::Running,
            TargetRecord::Refusing { failure } => target::Phase::Refusing { failure: failure.clone() },
            TargetRecord::Refused { failure } => target::Phase::Refused { failure: failure.clone() },
        }
    }
}

/// One machine's state as it is written: whole, each time. `payload` is the shell's (peer address, spec, credential).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<P> {
    pub version: u32,
    pub migration: MigrationId,
    pub instance: InstanceId,
    /// The epoch that the target would own.
    pub epoch: Epoch,
    pub role: Role,
    pub payload: P,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Source(SourceRecord),
    Target(TargetRecord),
    /// The controller's; says nothing of ownership.
    Coordinator(coordinator::Phase),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal of migration {migration} has version {version}; this release reads up to {JOURNAL_VERSION}")]
pub struct UnknownVersion {
    pub migration: MigrationId,
    pub version: u32,
}

impl<P> Entry<P> {
    pub fn new(migration: MigrationId, instance: InstanceId, epoch: Epoch, role: Role, payload: P) -> Self {
        Entry { version: JOURNAL_VERSION, migration, instance, epoch, role, payload }
    }

    pub fn check_version(&self) -> Result<(), UnknownVersion> {
        match self.version == JOURNAL_VERSION {
            true => Ok(()),
            false => Err(UnknownVersion { migration: self.migration, version: self.version }),
        }
    }
}

/// Who owns an instance, as far as this host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// This host, at this epoch: it may run the guest.
    Here(Epoch),
    /// COMMIT was given for this epoch and not answered yet: run nothing, ask the target.
    Given(Epoch),
    /// Another host, at this epoch or a later one.
    Elsewhere(Epoch),
    /// It was never this host's.
    Nobody,
}

/// The fold of one instance's entries on one host. `created` is the epoch at which the instance was made here (or put here
/// by an operator), if it was.
pub fn owner<'a>(created: Option<Epoch>, entries: impl IntoIterator<Item = (Epoch, &'a Role)>) -> Owner {
    let start = match created {
        Some(epoch) => Owner::Here(epoch),
        None => Owner::Nobody,
    };
    entries.into_iter().filter_map(|(epoch, role)| decided(epoch, role)).fold(start, later)
}

/// What one entry decides; `None` if ownership is as it was before.
fn decided(epoch: Epoch, role: &Role) -> Option<Owner> {
    match role {
        Role::Source(record) => match record {
            SourceRecord::Moving | SourceRecord::Aborting { .. } | SourceRecord::Aborted { .. } => None,
            SourceRecord::Committed => Some(Owner::Given(epoch)),
            SourceRecord::HandedOver { .. } => Some(Owner::Elsewhere(epoch)),
            SourceRecord::Reowned { .. } => Some(Owner::Here(epoch.next())),
        },
        Role::Target(record) => match record {
            TargetRecord::Receiving | TargetRecord::Refusing { .. } | TargetRecord::Refused { .. } => None,
            TargetRecord::Owned | TargetRecord::Running => Some(Owner::Here(epoch)),
        },
        Role::Coordinator(_) => None,
    }
}

/// The higher epoch wins, in whatever order the journals were read.
fn later(a: Owner, b: Owner) -> Owner {
    let epoch = |owner: &Owner| match owner {
        Owner::Here(epoch) | Owner::Given(epoch) | Owner::Elsewhere(epoch) => Some(*epoch),
        Owner::Nobody => None,
    };
    if epoch(&b) >= epoch(&a) { b } else { a }
}
