//! The agent of one host: QEMU processes, disks and networks, and the executors of migrations.
//!
//! ```text
//! controller --mTLS--> api --> instances --> vm (QEMU)          taps (network)
//!                       |         |--------> storage (images, storage daemon)
//!                       '--> migrate (executors, journal) <==mTLS data==> another agent
//! heartbeat --mTLS--> controller
//! ```
//!
//! Ground rules:
//! - a guest is started only by an ask of the controller, and only when `owner.json` says that this host owns it at the
//!   epoch of the ask; the agent's own start starts nothing;
//! - QEMU outlives the agent, which finds it again by a recorded process id and start time, never by name;
//! - the controller may be away: nothing here waits for it but a first join and the fetch of an image;
//! - nothing is deleted by a name derived after the fact.
pub mod api;
pub mod config;
pub mod context;
pub mod cpu;
pub mod cpu_info;
pub mod facts;
pub mod fault;
pub mod fences;
pub mod heartbeat;
pub mod hold;
pub mod hypervisor;
pub mod instances;
pub mod join;
pub mod migrate;
pub mod network;
pub mod owner;
pub mod paths;
pub mod process;
pub mod reach;
pub mod sampler;
pub mod start;
pub mod storage;
#[cfg(test)]
mod trial;
pub mod uptime;
pub mod vm;
pub mod wire;

use std::path::Path;

pub use config::AgentConfig;
pub use start::run;
use whimbrel_daemon::config::ConfigError;

/// The agent's configuration from its TOML file.
pub fn load(path: &Path) -> Result<AgentConfig, ConfigError> {
    AgentConfig::load(path)
}
