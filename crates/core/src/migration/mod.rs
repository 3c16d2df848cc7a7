//! The migration machines: who may do what to the guest, and when.
//!
//! ```text
//!  coordinator (controller)      source (its agent, journal)            target (its agent, journal)
//!  Queued
//!  Preparing  --Receive----------------------------------------------> Unknown -> Preparing -> Prepared
//!             <-report Prepared------------------------------------------/
//!  Running    --Send-----------> Idle -> Preparing   --Attach---------> Prepared -> Receiving
//!                                                    <-Prepared---------/
//!                                Copying             ==rounds, RAM====>
//!                                Switching/Stopping    (stop: downtime begins)
//!                                Switching/Finishing ==last round=====> disks durable, digests agree
//!                                                    <-Sealed---------- Sealed
//!                                Switching/Loading   ==last RAM=======> Loaded
//!                                Committed *fsync*   --Commit---------> Owned *fsync*: cont (downtime ends)
//!                                                    <-Running--------- Running
//!  Settling   <-report---------- HandedOver: retire
//!  Done       <-report---------- HandedOver, retired
//!
//!  cancel or any fault before Committed:
//!  Cancelling --Cancel---------> Aborting *fsync*: undo, cont --Abort-> Refusing: undo
//!  Clearing   <-report---------- Aborted (tombstone)
//!             --Discard-----------------------------------------------> Refused (tombstone)
//!  Done       <-report---------------------------------------------------/
//!  or, if that report does not come:
//!  Owing      the server is free; Discard is asked for until the report comes, then Done
//!
//!  the target cannot run it although COMMIT was given:
//!                                Committed           --Commit---------> Owned -> Refusing -> Refused
//!                                Reowned *fsync*     <-Refused (NACK)---/
//! ```
//!
//! Ground rules:
//! - Persist, then act: when `Step::persist` is set, `next` is journaled (fsync) before any effect runs. An effect that
//!   runs twice does no harm. A journal that refuses delays every step but the beginning of a way back that a restart would
//!   take as well (`SourceRecord::leads_to`): a full disk keeps no guest stopped.
//! - Only COMMIT lets a target run. It never decides to run alone and never times out into running.
//! - The source sends COMMIT only after Sealed and QEMU's `completed` + `postmigrate`; from then on it resumes only after
//!   the target's *durable* refusal. Before COMMIT it may abort alone, at any time.
//! - Each end is a tombstone: an aborted source ignores a late Send, a refused target refuses a late Receive or COMMIT.
//!   The shell may forget an ended migration only when the coordinator has seen both ends.
//! - A target may refuse at any time before OWN; a refusal after COMMIT is a NACK and brings the guest back. After OWN it
//!   answers an abort with what it is, and everyone goes forward.
//! - An agent that restarts before COMMIT (source) or before OWN (target) gives the attempt up: QEMU outlives it, so the
//!   guest goes on at the source.
//! - Work effects (copy, stop, undo, retire, activate, …) are kept at by the shell until it can tell the event that ends
//!   them; only `Restarted` asks for them again. Messages are asked for again by `Tick`.
//! - Nothing waits for ever with a guest that stands still before COMMIT: [`overrun`] says when that is a failure.
//!
//! Kept, and proved by the explorer in `crates/sim`: never two running guests (I1); some side can always run it (I2);
//! every state reaches an end (I3); an end leaves no claim, job, file or process behind (I4).

pub mod coordinator;
pub mod journal;
pub mod message;
pub mod overrun;
pub mod source;
pub mod target;

use serde::{Deserialize, Serialize};

/// What a machine says to one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<P, E> {
    pub next: P,
    /// `next` must be journaled (fsync) before any of `effects` runs.
    pub persist: bool,
    /// In the order in which to begin them; they may overlap.
    pub effects: Vec<E>,
    pub note: Note,
}

/// Why a step did what it did; the shell counts and logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The phase changed.
    Moved,
    /// An answer or a repeated ask; the phase stays.
    Told,
    /// What was asked is so already.
    AlreadySo,
    /// The event came too early, too late or twice.
    Stale,
    /// After the point of no return.
    TooLate,
    /// A tombstone or a missing precondition forbids it.
    Refused,
    /// Nothing to do but wait for the peer.
    Waiting,
    /// The other side says what cannot be: log it loudly, touch nothing.
    Contradiction,
}
