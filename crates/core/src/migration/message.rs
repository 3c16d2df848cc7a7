//! What the three roles tell each other, and how each message becomes an event of its receiver.
//!
//! Asks and messages say what should be so, reports say what *is* so. Any of them may be lost, repeated or late; each
//! carries its migration and epoch (`Envelope`), and a receiver drops what does not fit.

use serde::{Deserialize, Serialize};

use super::{source, target};
use crate::{
    failure::Failure,
    id::{Epoch, MigrationId},
};

/// The epoch is the one that the target would own: the source's plus one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Envelope<M> {
    pub migration: MigrationId,
    pub epoch: Epoch,
    pub body: M,
}

impl<M> Envelope<M> {
    /// A message of another attempt or another epoch is noise, whatever it says.
    pub fn fits(&self, migration: MigrationId, epoch: Epoch) -> bool {
        self.migration == migration && self.epoch == epoch
    }
}

/// Source to target: on the data link, or relayed by the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToTarget {
    /// The source is here and wants to begin.
    Attach,
    /// The source's COMMIT is fsynced: the only permission to run.
    Commit,
    /// The source keeps the guest.
    Abort,
}

impl ToTarget {
    pub fn event(self) -> target::Event {
        match self {
            ToTarget::Attach => target::Event::Attach,
            ToTarget::Commit => target::Event::CommitReceived,
            ToTarget::Abort => target::Event::AbortReceived,
        }
    }
}

/// Target to source: on the data link, or relayed by the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToSource {
    /// Answer to `Attach`: files and storage daemon are ready.
    Prepared,
    /// Durably refused; nothing of this migration runs or will run here. After COMMIT this is the NACK.
    Refused { failure: Failure },
    /// Every disk is durable here and its digests agree with the source's.
    Sealed,
    /// OWN is fsynced; the guest is about to run here.
    Owned,
    /// The guest runs here.
    Running,
    /// Asked by a target that waits: COMMIT or ABORT?
    WhatIsSo,
}

impl ToSource {
    pub fn event(&self) -> source::Event {
        match self {
            ToSource::Prepared => source::Event::TargetPrepared,
            ToSource::Refused { failure } => source::Event::TargetRefused { failure: failure.clone() },
            ToSource::Sealed => source::Event::Sealed,
            ToSource::Owned => source::Event::TargetOwned,
            ToSource::Running => source::Event::TargetRunning,
            ToSource::WhatIsSo => source::Event::WhatIsSo,
        }
    }
}

/// Coordinator to source agent. Each is answered with a report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskSource {
    /// Move the guest to the target (that has said Prepared).
    Send,
    Cancel {
        failure: Failure,
    },
    Query,
    /// A durable word of the target, carried over the control path.
    Relay(ToSource),
}

impl AskSource {
    pub fn event(&self) -> source::Event {
        match self {
            AskSource::Send => source::Event::Start,
            AskSource::Cancel { failure } => source::Event::Cancel { failure: failure.clone() },
            AskSource::Query => source::Event::Query,
            AskSource::Relay(message) => message.event(),
        }
    }
}

/// Coordinator to target agent. Each is answered with a report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskTarget {
    /// Make room for the guest. Spec, credential and epoch travel beside.
    Receive,
    /// The source keeps the guest: leave nothing behind.
    Discard {
        failure: Failure,
    },
    Query,
    /// A durable word of the source, carried over the control path.
    Relay(ToTarget),
}

impl AskTarget {
    pub fn event(&self) -> target::Event {
        match self {
            AskTarget::Receive => target::Event::Receive,
            AskTarget::Discard { failure } => target::Event::Discard { failure: failure.clone() },
            AskTarget::Query => target::Event::Query,
            AskTarget::Relay(message) => message.event(),
        }
    }
}

/// What *is* so at an agent, told to the coordinator. Sent only after the phase is as durable as it needs to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Source(source::Phase),
    Target(target::Phase),
}
