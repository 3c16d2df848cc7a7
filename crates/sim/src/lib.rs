//! Every order in which a move can go wrong, tried: an exhaustive explorer over the machines of `whimbrel_core::migration`.
//!
//! ```text
//!  coordinator --+            +-- source agent: machine, journal, work under way   -+
//!                +-- network -+                                                     +-- world: guests, files, claims
//!                             +-- target agent: machine, journal, work under way   -+
//! ```
//!
//! Ground rules:
//! - The network is the set of all messages ever sent: each may arrive at any later time, any number of times, in any order,
//!   or never; and at any time all of them may be lost together.
//! - An agent may die at any point, also between an act and its event; it comes back with what its journal holds. QEMU
//!   outlives it. Cancel, ticks, a lost link, a failed effect may come at any time.
//! - The machines under test are the shipped ones. `Fault` wraps their steps to prove that the explorer sees what it must.
//!
//! Checked in every reachable state:
//! - **I1** never two running guests;
//! - **I2** some side can always run it, and what ran at the target is never rolled back or incomplete;
//! - **I3** an end can be reached without any further death, cancel or failure;
//! - **I4** once the coordinator is done, no claim, job, file or process is left behind, whatever arrives later; and once it
//!   let the server go while the target still owes its clean-up, the source is at rest with the guest and the target's room
//!   is kept.

pub mod explore;
pub mod fault;
pub mod model;
pub mod roles;
