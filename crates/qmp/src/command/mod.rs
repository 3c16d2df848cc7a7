//! The commands that the agent uses, as methods of `Qmp`, grouped by what they act on.
//!
//! A reply type holds the fields that somebody reads and defaults the ones that a release may lack. Arguments that a
//! release may not know are sent only when asked for: `features.rs` says when that is safe.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::DEADLINE_DEFAULT;

pub mod bitmap;
pub mod block;
pub mod device;
pub mod export;
pub mod job;
pub mod migration;
pub mod status;

/// A command as a type, for the ones that this crate has no method for. Serializes to the arguments.
pub trait Command: Serialize {
    const NAME: &'static str;
    const DEADLINE: Duration = DEADLINE_DEFAULT;
    type Reply: DeserializeOwned;
}
