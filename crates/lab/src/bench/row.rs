//! One measurement, as it is printed.

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::net::LinkRate;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub scenario: Scenario,
    pub link: LinkRate,
    /// `whimbrel` or `libvirt`.
    pub subject: String,
    pub repetition: u32,
    /// Version of the hosts' QEMU.
    pub qemu: String,
    /// Whether the move ended within its time, with a guest that is connected and sound.
    pub completed: bool,
    /// Wall time of the command; of a move that was given up, the time until then.
    pub total_s: f64,
    /// Guest stopped to guest running, as the hosts say.
    pub downtime_ms: Option<f64>,
    /// Received on the target's migration interface during the command.
    pub wire_bytes: u64,
    /// Of every process of both hosts during the command, above their idle rate before it; sampled alike for each subject.
    pub cpu_s: f64,
    /// The same as the subject itself says, where it does.
    pub receipt_cpu_s: Option<f64>,
    /// The guest's disk write rate during the move over before.
    pub guest_write_ratio: Option<f64>,
    /// Longest gap between heartbeats of the guest, as seen by its peer.
    pub longest_stall_ms: u64,
    /// Payload of the disks on the wire, where the subject tells it.
    pub disk_bytes: Option<u64>,
    /// Most memory that the two agents had resident, the larger one.
    pub agent_rss_bytes: Option<u64>,
    /// The guest proved afterwards that it lost nothing; `None` if it did not arrive.
    pub guest_sound: Option<bool>,
}

impl Row {
    /// A guest that lost something makes every other number of the row worthless.
    pub(super) fn unsound(&self) -> bool {
        self.guest_sound == Some(false)
    }
}
