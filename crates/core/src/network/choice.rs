//! From what a port is asked to have to where its addresses come from.
//!
//! ```text
//! nothing said  ->  one of the IPv4 subnets, one of the IPv6 subnets
//! a subnet      ->  any address of it
//! an address    ->  that one
//! ```
//!
//! Which of the free addresses it becomes is known only where nobody else takes one meanwhile: in the store's transaction.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    address::{AddressRange, IpVersion},
    refusal::Refusal,
    subnet,
};
use crate::id::{NetworkId, SubnetId};

/// A subnet as far as addresses are given out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub subnet: SubnetId,
    pub net: IpNet,
    pub pools: Vec<AddressRange>,
}

/// One address that a port shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressWish {
    pub subnet: Option<SubnetId>,
    pub address: Option<IpAddr>,
}

/// Where one address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This one or none.
    Exactly { subnet: SubnetId, address: IpAddr },
    /// The first of these sources that has one left.
    FirstOf(Vec<Source>),
}

/// `wishes`: `None` where nothing was said of addresses; an empty list asks for none.
pub fn places(network: NetworkId, sources: &[Source], wishes: Option<&[AddressWish]>) -> Result<Vec<Place>, Refusal> {
    match wishes {
        None => Ok([IpVersion::V4, IpVersion::V6].into_iter().filter_map(|version| any_of(sources, version)).collect()),
        Some(wishes) => wishes.iter().map(|wish| place(network, sources, *wish)).collect(),
    }
}

fn any_of(sources: &[Source], version: IpVersion) -> Option<Place> {
    let of_version: Vec<Source> =
        sources.iter().filter(|source| subnet::version(&source.net) == version).cloned().collect();
    (!of_version.is_empty()).then_some(Place::FirstOf(of_version))
}

fn place(network: NetworkId, sources: &[Source], wish: AddressWish) -> Result<Place, Refusal> {
    let named = wish.subnet.map(|id| {
        let found = sources.iter().find(|source| source.subnet == id);
        found.ok_or(Refusal::SubnetElsewhere { network, subnet: id })
    });
    let fits = |source: &&Source, address: IpAddr| subnet::usable(&source.net).contains(address);
    match (named.transpose()?, wish.address) {
        (Some(source), None) => Ok(Place::FirstOf(vec![source.clone()])),
        (Some(source), Some(address)) => match fits(&source, address) {
            true => Ok(Place::Exactly { subnet: source.subnet, address }),
            false => Err(Refusal::AddressOutsideSubnet(address)),
        },
        (None, Some(address)) => {
            let source = sources.iter().find(|source| fits(source, address));
            let source = source.ok_or(Refusal::AddressOutsideNetwork(address))?;
            Ok(Place::Exactly { subnet: source.subnet, address })
        }
        (None, None) => any_of(sources, IpVersion::V4)
            .or_else(|| any_of(sources, IpVersion::V6))
            .ok_or(Refusal::NoAddressLeft(network)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn source(number: u128, net: &str) -> Source {
        let net = subnet::cidr(net).unwrap();
        let pools = subnet::default_pools(&net, subnet::default_gateway(&net));
        Source { subnet: SubnetId(Uuid::from_u128(number)), net, pools }
    }

    #[test]
    fn a_wish_becomes_a_place_or_a_refusal() {
        let network = NetworkId(Uuid::from_u128(9));
        let sources = [source(1, "10.0.0.0/24"), source(2, "10.0.1.0/24"), source(6, "fd00::/64")];
        let wish = |subnet: Option<u128>, address: Option<&str>| AddressWish {
            subnet: subnet.map(|number| SubnetId(Uuid::from_u128(number))),
            address: address.map(|text| text.parse().unwrap()),
        };
        let check = |wishes: Option<&[AddressWish]>, want: Result<Vec<Place>, Refusal>| {
            assert_eq!(places(network, &sources, wishes), want, "{wishes:?}");
        };
        let v4 = Place::FirstOf(sources[..2].to_vec());
        let v6 = Place::FirstOf(sources[2..].to_vec());
        let exactly =
            |at: usize, address: &str| Place::Exactly { subnet: sources[at].subnet, address: address.parse().unwrap() };
        check(None, Ok(vec![v4.clone(), v6]));
        check(Some(&[]), Ok(vec![]));
        check(Some(&[wish(Some(2), None)]), Ok(vec![Place::FirstOf(vec![sources[1].clone()])]));
        check(Some(&[wish(None, Some("10.0.1.7"))]), Ok(vec![exactly(1, "10.0.1.7")]));
        check(Some(&[wish(Some(1), Some("10.0.0.7"))]), Ok(vec![exactly(0, "10.0.0.7")]));
        check(Some(&[wish(None, None)]), Ok(vec![v4]));
        let outside = |text: &str| Err(Refusal::AddressOutsideNetwork(text.parse().unwrap()));
        check(Some(&[wish(None, Some("10.0.2.7"))]), outside("10.0.2.7"));
        check(Some(&[wish(None, Some("10.0.1.255"))]), outside("10.0.1.255"));
        check(Some(&[wish(None, Some("10.0.1.0"))]), outside("10.0.1.0"));
        let elsewhere = "10.0.1.7".parse().unwrap();
        check(Some(&[wish(Some(1), Some("10.0.1.7"))]), Err(Refusal::AddressOutsideSubnet(elsewhere)));
        let subnet = SubnetId(Uuid::from_u128(5));
        check(Some(&[wish(Some(5), None)]), Err(Refusal::SubnetElsewhere { network, subnet }));
        assert_eq!(places(network, &[], None), Ok(vec![]));
    }
}
