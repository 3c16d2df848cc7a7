//! Asynchronous events of QEMU.
//!
//! An event is a hint to query again, nothing more: it may be stale (a job goes to standby for every drain), may be
//! dropped when a receiver lags, and a new QEMU may send one that nobody here has heard of.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::open_enum::open_enum;

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: EventName,
    /// The event's own members, `Null` where it has none.
    pub data: Value,
    pub timestamp: EventTime,
}

/// When QEMU says that the event happened, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct EventTime {
    /// -1 where QEMU could not read its clock.
    pub seconds: i64,
    pub microseconds: i64,
}

impl EventTime {
    /// The time since 1970, or nothing where QEMU could not tell.
    pub fn since_epoch(self) -> Option<Duration> {
        let seconds = u64::try_from(self.seconds).ok()?;
        let microseconds = u32::try_from(self.microseconds).ok().filter(|us| *us < 1_000_000)?;
        Some(Duration::new(seconds, microseconds * 1000))
    }
}

open_enum! {
    pub enum EventName {
        Stop = "STOP",
        Resume = "RESUME",
        Reset = "RESET",
        Shutdown = "SHUTDOWN",
        Powerdown = "POWERDOWN",
        Suspend = "SUSPEND",
        Wakeup = "WAKEUP",
        GuestPanicked = "GUEST_PANICKED",
        GuestCrashloaded = "GUEST_CRASHLOADED",
        Watchdog = "WATCHDOG",
        RtcChange = "RTC_CHANGE",
        Migration = "MIGRATION",
        MigrationPass = "MIGRATION_PASS",
        UnplugPrimary = "UNPLUG_PRIMARY",
        JobStatusChange = "JOB_STATUS_CHANGE",
        BlockJobCompleted = "BLOCK_JOB_COMPLETED",
        BlockJobCancelled = "BLOCK_JOB_CANCELLED",
        BlockJobError = "BLOCK_JOB_ERROR",
        BlockJobReady = "BLOCK_JOB_READY",
        BlockJobPending = "BLOCK_JOB_PENDING",
        BlockExportDeleted = "BLOCK_EXPORT_DELETED",
        BlockIoError = "BLOCK_IO_ERROR",
        BlockImageCorrupted = "BLOCK_IMAGE_CORRUPTED",
        BlockWriteThreshold = "BLOCK_WRITE_THRESHOLD",
        DeviceDeleted = "DEVICE_DELETED",
        NicRxFilterChanged = "NIC_RX_FILTER_CHANGED",
        AcpiDeviceOst = "ACPI_DEVICE_OST",
        BalloonChange = "BALLOON_CHANGE",
        VserportChange = "VSERPORT_CHANGE",
    }
}
