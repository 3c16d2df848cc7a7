//! The lab's networks: namespaces, bridges and veth pairs, their rates, and what their counters say.

mod address;
mod fabric;
mod link;
mod shape;

use std::path::{Path, PathBuf};

pub use address::{Networks, Subnet};
pub(crate) use fabric::{HostPort, make_fabric, make_host, make_root_link};
pub use link::{Counters, counters};
pub(crate) use link::{cut, heal};
pub(crate) use shape::shape;
pub use shape::{BadRate, LinkChange, LinkRate};

/// Bridge in every host's namespace that carries the guests' network.
pub const GUEST_BRIDGE: &str = "br-guest";
pub const CONTROL_DEVICE: &str = "ctl0";
pub const MIGRATION_DEVICE: &str = "mig0";

/// One of the three networks of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    Control,
    Migration,
    Guest,
}

impl Network {
    const ALL: [Network; 3] = [Network::Control, Network::Migration, Network::Guest];

    /// Device inside a host's namespace.
    pub fn device(self) -> &'static str {
        match self {
            Network::Control => CONTROL_DEVICE,
            Network::Migration => MIGRATION_DEVICE,
            Network::Guest => "up0",
        }
    }

    /// Bridge in the fabric's namespace.
    fn bridge(self) -> &'static str {
        match self {
            Network::Control => "br-ctl",
            Network::Migration => "br-mig",
            Network::Guest => GUEST_BRIDGE,
        }
    }

    /// The fabric's end of a host's cable.
    fn port(self, host: &str) -> String {
        match self {
            Network::Control => format!("ctl-{host}"),
            Network::Migration => format!("mig-{host}"),
            Network::Guest => format!("gst-{host}"),
        }
    }
}

pub(crate) fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}
