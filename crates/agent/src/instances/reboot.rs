//! A restart that is asked for: done once per number, however often it is asked for.
//!
//! ```text
//! ask with reboot n -> n noted as done? nothing -> off (softly, or at once) -> note n -> run
//! ```
//!
//! Ground rules: the note is durable before the guest runs again, so an agent that dies in between switches off at most
//! twice what nobody had started yet; a host that an instance moved to begins without a note, and numbers only rise.

use std::{path::PathBuf, sync::Arc};

use whimbrel_api::agent::{RebootAsk, RebootHow};
use whimbrel_core::failure::Failure;
use whimbrel_daemon::durable;

use super::{Instance, Instances};
use crate::fault;

const NOTE: &str = "rebooted";
const NOTE_BYTES_MAX: u64 = 32;

impl Instances {
    pub(super) async fn reboot(&self, instance: &Arc<Instance>, ask: RebootAsk) -> Result<(), Failure> {
        if last(instance)? >= ask.number {
            return Ok(());
        }
        tracing::info!(instance = %instance.id(), how = ?ask.how, "reboot");
        // Whoever restarts a guest that sleeps wants it without what it remembers.
        self.forget_memory(instance).await?;
        match ask.how {
            RebootHow::Soft => self.stop(instance).await?,
            RebootHow::Hard => self.switch_off(instance).await?,
        }
        let path = note(instance);
        durable::write(&path, ask.number.to_string().as_bytes()).map_err(|error| fault::of_file("write", &path, &error))
    }
}

fn note(instance: &Instance) -> PathBuf {
    instance.dir().join(NOTE)
}

fn last(instance: &Instance) -> Result<u64, Failure> {
    let path = note(instance);
    let bytes = durable::read(&path, NOTE_BYTES_MAX).map_err(|error| fault::of_file("read", &path, &error))?;
    // What is no number is no note: the guest is restarted once more.
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()).unwrap_or(0))
}
