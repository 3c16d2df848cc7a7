//! The guest's kernel command line: how a lab tells a guest who it is and what to do from its first second.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::peer::Rates;

/// Displays as the kernel command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootLine {
    pub name: String,
    /// Address and prefix length on the lab network; `None` for a guest without a NIC.
    pub ip: Option<(Ipv4Addr, u8)>,
    /// Where the peer listens; `None`: the work runs all the same and nobody checks it.
    pub peer: Option<SocketAddrV4>,
    pub rates: Rates,
    /// Checked RAM in MiB.
    pub ram_mb: u32,
    /// The kernel says little on the console.
    pub quiet: bool,
    /// Region of the root disk that the write load works on, in MiB.
    pub region_mb: u32,
}

impl Default for BootLine {
    fn default() -> Self {
        BootLine {
            name: "guest".into(),
            ip: None,
            peer: None,
            rates: Rates { write_bps: 0, fsync_hz: 10, ram_bps: 1_000_000 },
            ram_mb: 64,
            quiet: true,
            region_mb: 512,
        }
    }
}

impl fmt::Display for BootLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quiet = if self.quiet { " quiet" } else { "" };
        write!(f, "console=ttyS0{quiet} panic=-1 whimbrel.name={}", self.name)?;
        if let Some((address, prefix)) = self.ip {
            write!(f, " whimbrel.ip={address}/{prefix}")?;
        }
        if let Some(peer) = self.peer {
            write!(f, " whimbrel.peer={peer}")?;
        }
        let Rates { write_bps, fsync_hz, ram_bps } = self.rates;
        write!(f, " whimbrel.write_bps={write_bps} whimbrel.fsync_hz={fsync_hz} whimbrel.ram_bps={ram_bps}")?;
        write!(f, " whimbrel.ram_mb={} whimbrel.region_mb={}", self.ram_mb, self.region_mb)
    }
}
