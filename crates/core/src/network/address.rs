//! Arithmetic on addresses: what comes next, what is in a range, what of it is free.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => IpVersion::V4,
            IpAddr::V6(_) => IpVersion::V6,
        }
    }

    pub fn number(self) -> u8 {
        match self {
            IpVersion::V4 => 4,
            IpVersion::V6 => 6,
        }
    }
}

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    #[serde(rename = "start")]
    pub first: IpAddr,
    #[serde(rename = "end")]
    pub last: IpAddr,
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl AddressRange {
    pub fn contains(&self, address: IpAddr) -> bool {
        IpVersion::of(self.first) == IpVersion::of(address) && self.first <= address && address <= self.last
    }

    pub fn overlaps(&self, other: &AddressRange) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The one behind the highest that is taken, so that an address that was just given back rests as long as possible.
    pub fn behind(&self, highest: Option<IpAddr>) -> Option<IpAddr> {
        match highest {
            None => Some(self.first),
            Some(highest) => next(highest).filter(|address| self.contains(*address)),
        }
    }

    /// The lowest that is not taken: at most one step for each that is.
    pub fn lowest_free(&self, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let mut candidate = self.first;
        for address in taken.range(self.first..=self.last) {
            if *address != candidate {
                break;
            }
            candidate = next(candidate)?;
        }
        self.contains(candidate).then_some(candidate)
    }

    /// What is left of it without `address`.
    pub fn without(self, address: Option<IpAddr>) -> Vec<AddressRange> {
        let Some(address) = address.filter(|address| self.contains(*address)) else { return vec![self] };
        let below = previous(address).map(|last| AddressRange { first: self.first, last });
        let above = next(address).map(|first| AddressRange { first, last: self.last });
        [below, above].into_iter().flatten().filter(|range| range.first <= range.last).collect()
    }
}

pub fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

pub fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn range(first: &str, last: &str) -> AddressRange {
        AddressRange { first: ip(first), last: ip(last) }
    }

    #[test]
    fn the_next_address_is_given_until_there_is_none() {
        let check = |pool: AddressRange, taken: &[&str], behind: Option<&str>, lowest: Option<&str>| {
            let taken: BTreeSet<IpAddr> = taken.iter().map(|text| ip(text)).collect();
            let highest = taken.range(pool.first..=pool.last).next_back().copied();
            assert_eq!(pool.behind(highest), behind.map(ip), "{pool} behind {taken:?}");
            assert_eq!(pool.lowest_free(&taken), lowest.map(ip), "{pool} less {taken:?}");
        };
        let pool = range("10.0.0.2", "10.0.0.5");
        check(pool, &[], Some("10.0.0.2"), Some("10.0.0.2"));
        check(pool, &["10.0.0.1", "10.0.0.2"], Some("10.0.0.3"), Some("10.0.0.3"));
        check(pool, &["10.0.0.4"], Some("10.0.0.5"), Some("10.0.0.2"));
        check(pool, &["10.0.0.2", "10.0.0.3", "10.0.0.5"], None, Some("10.0.0.4"));
        check(pool, &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"], None, None);
        check(range("255.255.255.255", "255.255.255.255"), &["255.255.255.255"], None, None);
        let v6 = range("fd00::1", "fd00::ffff:ffff:ffff:ffff");
        check(v6, &["fd00::1", "fd00::2"], Some("fd00::3"), Some("fd00::3"));
    }

    #[test]
    fn ranges_know_what_they_share() {
        let check = |one: AddressRange, other: AddressRange, want: bool| {
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (want, want), "{one} {other}");
        };
        let one = range("10.0.0.10", "10.0.0.20");
        check(one, range("10.0.0.20", "10.0.0.30"), true);
        check(one, range("10.0.0.12", "10.0.0.13"), true);
        check(one, range("10.0.0.21", "10.0.0.30"), false);
        check(one, range("::a00:a", "::a00:14"), false);
    }

    #[test]
    fn a_range_is_cut_where_an_address_is_left_out() {
        let check = |address: Option<&str>, want: &[AddressRange]| {
            assert_eq!(range("10.0.0.1", "10.0.0.6").without(address.map(ip)), want, "{address:?}");
        };
        check(None, &[range("10.0.0.1", "10.0.0.6")]);
        check(Some("10.0.0.9"), &[range("10.0.0.1", "10.0.0.6")]);
        check(Some("10.0.0.1"), &[range("10.0.0.2", "10.0.0.6")]);
        check(Some("10.0.0.6"), &[range("10.0.0.1", "10.0.0.5")]);
        check(Some("10.0.0.3"), &[range("10.0.0.1", "10.0.0.2"), range("10.0.0.4", "10.0.0.6")]);
        assert_eq!(range("10.0.0.1", "10.0.0.1").without(Some(ip("10.0.0.1"))), []);
    }
}
