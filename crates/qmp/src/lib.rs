//! A client for the QEMU monitor protocol, strict about framing and lenient about vocabulary.
//!
//! One crate speaks to QEMU 7.2 through 10.2 and to the storage daemon. Those differ in which events, enum
//! values and reply fields exist, so nothing here closes over a vocabulary: an unknown event or enum value is
//! kept as `Other(String)`, an unknown field is ignored, and neither ever ends a session. Framing is the
//! opposite: a line that is too long or is no JSON means that the two sides no longer agree on where a message
//! starts, so the session ends at once and every waiting command is told why.
//!
//! ```text
//!            Session<Greeting> --negotiate--> Session<Negotiated> --split--+
//!                                                                          |
//!   Qmp (cheap clones) --execute--> [bounded queue] --> writer task --> socket
//!        ^   ^                                                             |
//!        |   +---- reply by id <---- pending table <---- reader task <-----+
//!        +-------- events() <------- bounded broadcast <-----+
//! ```
//!
//! Ground rules:
//! - Events are hints, queries are truth: a lost event must cost time, never correctness (`wait.rs`).
//! - Every command has a deadline; a reply that comes after it is dropped, the session lives on.
//! - Features are probed in the schema (`features.rs`); versions are compared only for known bugs (`version.rs`).
//! - A monitor serves one client at a time: keep one `Qmp` per monitor and clone it.

mod client;
mod codec;
pub mod command;
mod error;
mod event;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod features;
mod lenient;
mod oob;
mod open_enum;
mod session;
mod version;
mod wait;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{DEADLINE_DEFAULT, DEADLINE_SLOW, EVENT_BACKLOG, IN_FLIGHT_MAX, Qmp};
pub use codec::LINE_BYTES_MAX;
pub use command::Command;
pub use command::bitmap::{BitmapAdd, BitmapMerge, BitmapName, BitmapSource, TransactionAction};
pub use command::block::{
    BlockCounters, BlockNode, BlockStats, DirtyBitmap, ImageInfo, IoThrottle, NodeCache, ThrottleLimits,
};
pub use command::device::{CpuDefinition, CpuInfo, IoThreadInfo, MachineInfo, PciBus, PciDevice, QomProperty};
pub use command::export::{ExportDelMode, ExportInfo, NbdExport};
pub use command::job::{BlockJobInfo, JobInfo, JobStatus};
pub use command::migration::{AnnounceRounds, DirtyRate, MigrateInfo, MigrationStatus, RamInfo};
pub use command::status::RunState;
pub use error::{CloseReason, ErrorClass, QmpError, Result};
pub use event::{Event, EventName, EventTime};
pub use features::{Features, Schema};
pub use oob::{Oob, YankInstance};
pub use version::{KnownBugs, Version, VersionNumber, known_bugs};
