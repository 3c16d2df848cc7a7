//! What two agents tell each other on the control stream of a migration's link.
//!
//! ```text
//! source                                             target
//!   | Offer{disks}  ------------------------------->  |
//!   | <----------------------- WantImages{digests}    |  only where a base image is missing
//!   | ==== images, on streams of their own =========> |
//!   | ImagesEnd{totals} ---------------------------->  |  their digests are their names; make files, start the storage daemon
//!   | <----------------------------- Accept{disks}    |
//!   | ======== chunks on the data streams ==========> |
//!   | RoundEnd{0, totals} -------------------------->  |  every chunk written, totals equal
//!   | <------------------------------ RoundDone{0}    |
//!   | StartQemu (small disks: before round 0) ------>  |  QEMU -S -incoming defer
//!   | <--------------------------------- QemuReady    |
//!   |   … rounds go on beside the RAM stream …        |
//!   | RoundEnd{last, seal: true} ------------------->  |  flush, compare, storage daemon gone
//!   | <----------------------------- Word(Sealed)     |
//!   | Word(Commit) ---------------------------------->  |  journal OWN, cont
//!   | <-------------------- Word(Owned), Word(Running)|
//! ```
//!
//! Of disks that both hosts see, the target accepts each as `shared`: no data stream, no round but the last, which is empty.
//!
//! Ground rules: `Word` carries what the machines in `core` say and is the only thing that decides ownership; the
//! rest moves data and may be lost with the link, which before COMMIT means that the move is given up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whimbrel_core::{
    disk::{CopyMode, DiskName, DiskSpec},
    failure::Failure,
    id::{Epoch, ImageDigest, InstanceId, MigrationId},
    migration::message::{Envelope, ToSource, ToTarget},
};
use whimbrel_transfer::totals::DiskTotals;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSource {
    Word(Envelope<ToTarget>),
    Offer(Offer),
    /// Every image that the target wanted is sent.
    ImagesEnd {
        totals: Vec<DiskTotals>,
    },
    RoundEnd {
        round: u32,
        totals: Vec<DiskTotals>,
        seal: bool,
    },
    StartQemu,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromTarget {
    Word(Envelope<ToSource>),
    /// Base images that must come before the disks that lie on them.
    WantImages {
        images: Vec<ImageDigest>,
    },
    /// The answer to the offer takes longer: an image that it needs comes from another migration, or from the controller.
    Waiting,
    /// The images that came are on the target's disk: the guest may be stopped.
    ImagesDurable,
    Accept {
        disks: Vec<AcceptedDisk>,
    },
    RoundDone {
        round: u32,
    },
    QemuReady,
    /// The target's half of the receipt; told before each `Running`.
    Receipt(TargetReceipt),
    /// Something failed on the target before COMMIT; it gives up and cleans up.
    Failed {
        failure: Failure,
    },
}

/// The disks as they are on the source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    pub migration: MigrationId,
    pub instance: InstanceId,
    /// Epoch that the source owns.
    pub source_epoch: Epoch,
    /// Data streams that the source has opened or is opening.
    pub streams: u16,
    /// The guest was running: a guest that was paused stays paused on the target.
    pub running: bool,
    pub disks: Vec<OfferedDisk>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferedDisk {
    /// `base` says what this disk's file really lies on now.
    pub spec: DiskSpec,
    pub allocated_bytes: u64,
    /// The hand-over since which a trusted bitmap holds every change.
    pub changed_since: Option<Epoch>,
}

/// How the target wants one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedDisk {
    pub name: DiskName,
    pub mode: CopyMode,
    /// The image that the target's file lies on; what only that image holds need not travel.
    pub base: Option<ImageDigest>,
}

/// What only the target can measure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TargetReceipt {
    /// From COMMIT's arrival to the guest running.
    pub commit_to_running_ms: f64,
    pub phases_ms: BTreeMap<String, f64>,
    pub cpu_seconds: f64,
}

/// Both directions of the control stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Source(FromSource),
    Target(FromTarget),
}
