//! The second monitor, for what must get through while the first is stuck.
//!
//! QEMU executes these commands in the monitor's own thread, ahead of the main loop: `yank` answers in under a
//! millisecond while a `stop` hangs on dead storage. Only few commands exist out of band, so the handle offers
//! those and nothing else; a command of the normal kind on this monitor could block it.
//!
//! A `yank` of a block node under a job while QEMU stops a guest with an iothread aborts QEMU: yank only while the
//! guest runs, or after the job was paused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Qmp;
use crate::error::{CloseReason, Result};
use crate::version::Version;
use crate::wire::Lane;

/// The out-of-band handle of one QEMU. Clones share the session.
#[derive(Debug, Clone)]
pub struct Oob(Qmp);

/// A connection of QEMU that can be cut by force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum YankInstance {
    #[serde(rename_all = "kebab-case")]
    BlockNode {
        node_name: String,
    },
    Chardev {
        id: String,
    },
    Migration,
}

impl Oob {
    /// Connects to a monitor of its own and negotiates out-of-band execution.
    pub async fn connect(path: &Path, deadline: Duration) -> Result<Self> {
        Qmp::establish(path, Lane::OutOfBand, deadline).await.map(Self)
    }

    /// The same session with another deadline.
    pub fn within(&self, deadline: Duration) -> Self {
        Self(self.0.within(deadline))
    }

    /// Cuts connections by force. Refused as a whole when one of them is unknown.
    pub async fn yank(&self, instances: &[YankInstance]) -> Result<()> {
        self.0.tell("yank", json!({ "instances": instances })).await
    }

    /// Pauses a post-copy migration whose link is dead, so that it can be recovered.
    pub async fn migrate_pause(&self) -> Result<()> {
        self.0.tell("migrate-pause", Value::Null).await
    }

    /// On the target of a paused post-copy migration: listens at `uri` for the source.
    pub async fn migrate_recover(&self, uri: &str) -> Result<()> {
        self.0.tell("migrate-recover", json!({ "uri": uri })).await
    }

    /// Executes any other command that QEMU allows out of band.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.0.execute(command, arguments).await
    }

    pub async fn closed(&self) -> Arc<CloseReason> {
        self.0.closed().await
    }

    pub fn version(&self) -> &Version {
        self.0.version()
    }
}
