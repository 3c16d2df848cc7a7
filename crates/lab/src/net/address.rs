//! Addresses: a block of 198.18.0.0/15, which is set aside for tests of network devices (RFC 2544), that nothing on this
//! machine uses yet.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::tool;

const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// A lab takes three /24 and leaves one free.
const BLOCK_ADDRESSES: u32 = 1024;
const BLOCKS: u32 = 128;
pub(crate) const PREFIX: u8 = 24;

/// The fabric's own address in a network: the controller's, the peer's.
const FABRIC: u8 = 254;
/// The root namespace's address on the control network.
const ROOT: u8 = 253;
/// Guests are numbered from here, hosts from 1.
const GUESTS: u8 = 100;
/// Between hosts and guests.
const CLOUD: (u8, u8) = (30, 99);

/// A /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subnet(Ipv4Addr);

impl Subnet {
    fn at(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0) | u32::from(last))
    }
    pub fn fabric(self) -> Ipv4Addr {
        self.at(FABRIC)
    }
    pub fn root(self) -> Ipv4Addr {
        self.at(ROOT)
    }
    /// Hosts are numbered from 0 here and from 1 in their addresses.
    pub fn host(self, index: u8) -> Ipv4Addr {
        self.at(index + 1)
    }
    pub fn base(self) -> Ipv4Addr {
        self.0
    }
    /// First and last of those that OpenStack's front door gives away.
    pub fn cloud(self) -> (Ipv4Addr, Ipv4Addr) {
        (self.at(CLOUD.0), self.at(CLOUD.1))
    }
    pub fn guest(self, index: u8) -> Ipv4Addr {
        self.at(GUESTS + index)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    pub control: Subnet,
    pub migration: Subnet,
    pub guest: Subnet,
}

impl Networks {
    fn block(index: u32) -> Networks {
        let subnet = |third: u32| Subnet(Ipv4Addr::from(u32::from(FIRST) + index * BLOCK_ADDRESSES + third * 256));
        Networks { control: subnet(0), migration: subnet(1), guest: subnet(2) }
    }

    /// The first block that no address or route of this namespace lies in.
    pub fn free() -> Result<Networks> {
        let taken =
            tool::run("ip", &["-o", "-4", "addr"])? + &tool::run("ip", &["-4", "route", "show", "table", "all"])?;
        Networks::free_of(&taken).context(
            "every block of 198.18.0.0/15 is in use on this machine; hint: `ip route`, and `whimbrel lab down` of other labs",
        )
    }

    fn free_of(taken: &str) -> Option<Networks> {
        let words = taken.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        let blocks: Vec<u32> = words.filter_map(|word| block_of(word.parse().ok()?)).collect();
        (0..BLOCKS).find(|index| !blocks.contains(index)).map(Networks::block)
    }
}

fn block_of(address: Ipv4Addr) -> Option<u32> {
    let offset = u32::from(address).checked_sub(u32::from(FIRST))?;
    (offset < BLOCKS * BLOCK_ADDRESSES).then_some(offset / BLOCK_ADDRESSES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_block_that_nobody_has() {
        let check = |taken: &str, control: &str| {
            let found = Networks::free_of(taken).map(|networks| networks.control.fabric().to_string());
            assert_eq!(found.as_deref(), Some(control), "with {taken}");
        };
        check("", "198.18.0.254");
        check("2: eth0 inet 192.0.2.2/24 brd 192.0.2.255", "198.18.0.254");
        check("5: wb-a inet 198.18.0.253/24 scope global", "198.18.4.254");
        check("198.18.4.0/24 dev x\n198.18.1.0/24 dev y", "198.18.8.254");
        check("198.19.255.1 dev x", "198.18.0.254");
        check("198.17.255.255 198.20.0.0", "198.18.0.254");
        let all: String = (0..BLOCKS).map(|index| format!("{} ", Networks::block(index).guest.fabric())).collect();
        assert_eq!(Networks::free_of(&all), None);
        assert_eq!(Networks::block(BLOCKS - 1).guest.host(0).to_string(), "198.19.254.1");
    }
}
