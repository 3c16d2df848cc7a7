//! Whether the guest runs, and the switches that change it.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::error::{QmpError, Result};
use crate::open_enum::open_enum;

open_enum! {
    pub enum RunState {
        Debug = "debug",
        Inmigrate = "inmigrate",
        InternalError = "internal-error",
        IoError = "io-error",
        Paused = "paused",
        Postmigrate = "postmigrate",
        Prelaunch = "prelaunch",
        FinishMigrate = "finish-migrate",
        RestoreVm = "restore-vm",
        Running = "running",
        SaveVm = "save-vm",
        Shutdown = "shutdown",
        Suspended = "suspended",
        Watchdog = "watchdog",
        GuestPanicked = "guest-panicked",
        Colo = "colo",
    }
}

impl RunState {
    /// The vCPUs execute.
    pub fn is_running(&self) -> bool {
        *self == Self::Running
    }
}

#[derive(Deserialize)]
struct StatusInfo {
    status: RunState,
}

impl Qmp {
    pub async fn query_status(&self) -> Result<RunState> {
        self.ask::<StatusInfo>("query-status", Value::Null).await.map(|info| info.status)
    }

    /// Stops the vCPUs, then drains what the guest's disks have in flight: returns once both are done.
    pub async fn stop(&self) -> Result<()> {
        self.tell_slow("stop", Value::Null).await
    }

    /// Lets the vCPUs run. On the target of a migration only the owner of the guest may say this, and only with no
    /// writable export left: QEMU merely warns on its stderr about one.
    pub async fn cont(&self) -> Result<()> {
        self.tell_slow("cont", Value::Null).await
    }

    /// Ends the QEMU process. A connection that ends before the reply counts as done.
    pub async fn quit(&self) -> Result<()> {
        match self.tell_slow("quit", Value::Null).await {
            Ok(()) | Err(QmpError::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Presses the power button; the guest decides what it does.
    pub async fn system_powerdown(&self) -> Result<()> {
        self.tell("system_powerdown", Value::Null).await
    }

    pub async fn system_reset(&self) -> Result<()> {
        self.tell("system_reset", Value::Null).await
    }

    /// One line of the human monitor, for what has no command of its own. Its errors come as text in the answer.
    pub async fn human_monitor_command(&self, line: &str) -> Result<String> {
        self.ask("human-monitor-command", json!({ "command-line": line })).await
    }
}
