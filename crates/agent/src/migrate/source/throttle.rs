//! The limit on the guest's disk writes, while it writes faster than the link carries.
//!
//! Ground rules: QEMU holds all disks to the limit together, as the policy means it, by one throttle group; lifting works
//! from the spec and not from what was limited, so it serves after a restart of the agent and where there is no limit. The
//! limit belongs to the source's QEMU and is no part of its stream: the target knows nothing of it.

use whimbrel_core::instance::InstanceSpec;
use whimbrel_qmp::{IoThrottle, Qmp, QmpError};

use crate::vm::spec::disk_backend;

/// The disks' throttle group.
const GROUP: &str = "whimbrel-move";

pub async fn limit(qmp: &Qmp, spec: &InstanceSpec, bps_max: u64) -> Result<(), QmpError> {
    for disk in &spec.disks {
        let (id, group) = (disk_backend(&disk.name), Some(GROUP.to_owned()));
        qmp.block_set_io_throttle(&IoThrottle { id, group, bps_wr: bps_max, ..IoThrottle::default() }).await?;
    }
    Ok(())
}

pub async fn lift(qmp: &Qmp, spec: &InstanceSpec) -> Result<(), QmpError> {
    for disk in &spec.disks {
        qmp.block_set_io_throttle(&IoThrottle { id: disk_backend(&disk.name), ..IoThrottle::default() }).await?;
    }
    Ok(())
}
