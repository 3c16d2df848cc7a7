//! What the guest does while it is moved, and over what link.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{net::LinkRate, peer::Rates};

const MB: u64 = 1_000_000;
/// Rewritten before the way back.
pub(super) const CHANGES_BYTES: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Nothing but heartbeats
    Idle,
    /// 20 MB/s of random 64 KiB writes, journals with fsync, some RAM
    Write20,
    /// 60 MB/s of the same
    Write60,
    /// An idle guest comes home after 64 MiB of changes
    Back,
    /// No guest: one controller with 1,000 hosts and 20,000 servers that are only told of; where it is asked for
    Api,
}

impl Scenario {
    pub(super) fn rates(self) -> Rates {
        let writing = |mb: u64| Rates { write_bps: mb * MB, fsync_hz: 10, ram_bps: MB };
        match self {
            Scenario::Idle | Scenario::Back | Scenario::Api => Rates { write_bps: 0, fsync_hz: 0, ram_bps: 0 },
            Scenario::Write20 => writing(20),
            Scenario::Write60 => writing(60),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scenario::Idle => "idle",
            Scenario::Write20 => "write20",
            Scenario::Write60 => "write60",
            Scenario::Back => "back",
            Scenario::Api => "api",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub scenario: Scenario,
    pub link: LinkRate,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over link {}", self.scenario, self.link)
    }
}

/// All moves that were asked for, or all.
pub(super) fn settings(scenarios: &[Scenario], links: &[LinkRate]) -> Result<Vec<Setting>> {
    let all = Scenario::value_variants();
    let scenarios = if scenarios.is_empty() { all } else { scenarios };
    let scenarios: Vec<Scenario> = scenarios.iter().copied().filter(|scenario| *scenario != Scenario::Api).collect();
    let links = if links.is_empty() { super::links_default()? } else { links.to_vec() };
    let of = |link: LinkRate| scenarios.clone().into_iter().map(move |scenario| Setting { scenario, link });
    Ok(links.into_iter().flat_map(of).collect())
}
