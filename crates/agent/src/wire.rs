//! Bytes on the wire: counters of the interface that holds an address, all headers and retransmissions included.
//!
//! `/proc/self/net/dev` is of the agent's own network namespace, which `/sys` need not be.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireBytes {
    pub received: u64,
    pub sent: u64,
}

/// Counters of the interface that holds `address`; `None` where no interface does.
pub fn bytes_of(address: IpAddr) -> Option<WireBytes> {
    bytes_of_interface(&interface_of(address)?)
}

pub fn interface_of(address: IpAddr) -> Option<String> {
    let holds = |held: &SockaddrStorage| match held.family()? {
        AddressFamily::Inet => held.as_sockaddr_in().map(|held| IpAddr::from(held.ip()) == address),
        AddressFamily::Inet6 => held.as_sockaddr_in6().map(|held| IpAddr::from(held.ip()) == address),
        _ => None,
    };
    let found = getifaddrs().ok()?.find(|entry| entry.address.as_ref().and_then(holds) == Some(true))?;
    Some(found.interface_name)
}

pub fn bytes_of_interface(name: &str) -> Option<WireBytes> {
    parse(&fs_err::read_to_string("/proc/self/net/dev").ok()?, name)
}

fn parse(text: &str, name: &str) -> Option<WireBytes> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    Some(WireBytes { received: *numbers.first()?, sent: *numbers.get(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_one_interface_and_not_its_namesakes() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes packets\n  eth0: 1 2 0 0 0 0 0 0 9 8 0 0 0 0 0 0\n eth01:5 0 0 0 0 0 0 0 6 0\n";
        assert_eq!(parse(text, "eth0"), Some(WireBytes { received: 1, sent: 9 }));
        assert_eq!(parse(text, "eth01"), Some(WireBytes { received: 5, sent: 6 }));
        assert_eq!(parse(text, "eth"), None);
    }

    #[test]
    fn finds_the_loopback_by_its_address() {
        assert_eq!(interface_of([127, 0, 0, 1].into()).as_deref(), Some("lo"));
        assert!(bytes_of([127, 0, 0, 1].into()).is_some());
        assert_eq!(interface_of([192, 0, 2, 1].into()), None);
    }
}
