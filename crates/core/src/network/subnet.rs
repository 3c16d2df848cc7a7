//! What a subnet may be: gateway, pools, and what follows where nothing is said of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    address::{AddressRange, IpVersion, next, previous},
    refusal::Refusal,
};

const SHOWN_CHARS_MAX: usize = 64;
/// Networks of two (RFC 3021, RFC 6164) and of one address have no network or broadcast address.
const POINT_TO_POINT_BITS: u8 = 1;

/// `10.0.0.5/24` is taken for `10.0.0.0/24`, as Neutron does it; an address without a length is no network.
pub fn cidr(text: &str) -> Result<IpNet, Refusal> {
    let bad = || Refusal::BadCidr(text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect());
    let net: IpNet = text.parse().map_err(|_| bad())?;
    Ok(net.trunc())
}

pub fn version(net: &IpNet) -> IpVersion {
    IpVersion::of(net.network())
}

fn is_point_to_point(net: &IpNet) -> bool {
    net.max_prefix_len() - net.prefix_len() <= POINT_TO_POINT_BITS
}

/// What can be a host's address: neither the network's own (in IPv6, that of any router) nor the broadcast address.
pub fn usable(net: &IpNet) -> AddressRange {
    let (first, last) = (net.network(), net.broadcast());
    if is_point_to_point(net) {
        return AddressRange { first, last };
    }
    let last_usable = match version(net) {
        IpVersion::V4 => previous(last).unwrap_or(last),
        IpVersion::V6 => last,
    };
    AddressRange { first: next(first).unwrap_or(first), last: last_usable }
}

/// The first usable address; none where every address is needed for hosts.
pub fn default_gateway(net: &IpNet) -> Option<IpAddr> {
    (!is_point_to_point(net)).then(|| usable(net).first)
}

/// All that is usable but the gateway.
pub fn default_pools(net: &IpNet, gateway: Option<IpAddr>) -> Vec<AddressRange> {
    usable(net).without(gateway)
}

pub fn check(net: &IpNet, gateway: Option<IpAddr>, pools: &[AddressRange]) -> Result<(), Refusal> {
    if let Some(gateway) = gateway
        && !is_gateway_of(net, gateway)
    {
        return Err(Refusal::GatewayOutside { gateway, net: *net });
    }
    let usable = usable(net);
    for (at, pool) in pools.iter().enumerate() {
        let versions = [IpVersion::of(pool.first), IpVersion::of(pool.last)];
        if pool.first > pool.last || versions != [version(net); 2] {
            return Err(Refusal::BadPool(*pool));
        }
        if !usable.contains(pool.first) || !usable.contains(pool.last) {
            return Err(Refusal::PoolOutside { pool: *pool, net: *net });
        }
        if let Some(other) = pools[..at].iter().find(|other| other.overlaps(pool)) {
            return Err(Refusal::PoolsOverlap { one: *other, other: *pool, net: *net });
        }
        if let Some(gateway) = gateway.filter(|gateway| pool.contains(*gateway)) {
            return Err(Refusal::GatewayInPool { gateway, pool: *pool });
        }
    }
    Ok(())
}

/// In IPv6 a router may also go by its link-local address.
fn is_gateway_of(net: &IpNet, gateway: IpAddr) -> bool {
    match gateway {
        IpAddr::V4(_) => usable(net).contains(gateway),
        IpAddr::V6(v6) => {
            version(net) == IpVersion::V6 && (v6.is_unicast_link_local() || usable(net).contains(gateway))
        }
    }
}

pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        let (first, last) = text.split_once('-').unwrap();
        AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
    }

    #[test]
    fn a_network_is_read_in_its_plain_form() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(cidr(text).ok().map(|net| net.to_string()).as_deref(), want, "{text:?}");
        };
        check("10.0.0.5/24", Some("10.0.0.0/24"));
        check("fd00::5/64", Some("fd00::/64"));
        check("10.0.0.0", None);
        check("10.0.0.0/33", None);
        check("10.0.0.0/-1", None);
        check("example", None);
        check("", None);
    }

    #[test]
    fn gateway_and_pools_follow_from_the_network() {
        let check = |net: &str, gateway: Option<&str>, pools: &[&str]| {
            let net = cidr(net).unwrap();
            let found = default_gateway(&net);
            assert_eq!(found.map(|ip| ip.to_string()).as_deref(), gateway, "{net}");
            let want: Vec<AddressRange> = pools.iter().map(|text| range(text)).collect();
            assert_eq!(default_pools(&net, found), want, "{net}");
            super::check(&net, found, &want).unwrap();
        };
        check("10.0.0.0/24", Some("10.0.0.1"), &["10.0.0.2-10.0.0.254"]);
        check("10.0.0.16/28", Some("10.0.0.17"), &["10.0.0.18-10.0.0.30"]);
        check("10.0.0.0/30", Some("10.0.0.1"), &["10.0.0.2-10.0.0.2"]);
        check("10.0.0.0/31", None, &["10.0.0.0-10.0.0.1"]);
        check("10.0.0.0/32", None, &["10.0.0.0-10.0.0.0"]);
        check("fd00::/64", Some("fd00::1"), &["fd00::2-fd00::ffff:ffff:ffff:ffff"]);
        check("fd00::/127", None, &["fd00::-fd00::1"]);
        let net = cidr("10.0.0.0/29").unwrap();
        let split = default_pools(&net, Some("10.0.0.4".parse().unwrap()));
        assert_eq!(split, [range("10.0.0.1-10.0.0.3"), range("10.0.0.5-10.0.0.6")]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |gateway: Option<&str>, pools: &[&str], want: Option<&str>| {
            let pools: Vec<AddressRange> = pools.iter().map(|text| range(text)).collect();
            let gateway = gateway.map(|text| text.parse().unwrap());
            let found = super::check(&cidr("10.0.0.0/24").unwrap(), gateway, &pools);
            match want {
                None => found.unwrap(),
                Some(part) => {
                    let refusal = found.expect_err(part);
                    assert!(refusal.to_string().contains(part), "{refusal}");
                }
            }
        };
        check(Some("10.0.0.1"), &["10.0.0.10-10.0.0.19", "10.0.0.20-10.0.0.20"], None);
        check(None, &[], None);
        check(Some("10.0.1.1"), &[], Some("10.0.1.1 is not valid on subnet 10.0.0.0/24"));
        check(Some("10.0.0.0"), &[], Some("is not valid on subnet"));
        check(Some("10.0.0.255"), &[], Some("is not valid on subnet"));
        check(Some("fe80::1"), &[], Some("is not valid on subnet"));
        check(Some("10.0.0.5"), &["10.0.0.2-10.0.0.9"], Some("conflicts with allocation pool 10.0.0.2-10.0.0.9"));
        check(None, &["10.0.0.9-10.0.0.2"], Some("10.0.0.9-10.0.0.2 is not valid"));
        check(None, &["10.0.0.2-10.0.1.2"], Some("spans beyond"));
        check(None, &["10.0.0.2-10.0.0.255"], Some("spans beyond"));
        check(None, &["fd00::1-fd00::2"], Some("is not valid"));
        check(None, &["10.0.0.2-10.0.0.9", "10.0.0.9-10.0.0.12"], Some("overlapping"));
        let v6 = cidr("fd00::/64").unwrap();
        super::check(&v6, Some("fe80::1".parse().unwrap()), &[]).unwrap();
    }

    #[test]
    fn networks_overlap_where_one_is_in_the_other() {
        let check = |one: &str, other: &str, want: bool| {
            let (one, other) = (cidr(one).unwrap(), cidr(other).unwrap());
            assert_eq!((overlap(&one, &other), overlap(&other, &one)), (want, want), "{one} {other}");
        };
        check("10.0.0.0/24", "10.0.0.128/25", true);
        check("10.0.0.0/24", "10.0.1.0/24", false);
        check("0.0.0.0/0", "fd00::/8", false);
    }
}
