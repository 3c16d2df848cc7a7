//! Addresses that ports have: given out one by one, in the turn of their network.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sqlx::{Any, Row, Transaction};
use whimbrel_core::{
    id::{NetworkId, PortId, SubnetId},
    network::{
        address::AddressRange,
        choice::{AddressWish, Place, Source, places},
        refusal::Refusal,
    },
};

use super::{Outcome, PortAddress, is_unique_violation, subnet::sources};
use crate::error::{Result, db};

const V4_DIGITS: usize = 8;

/// As it is kept: the order of these texts is that of the addresses.
pub(super) fn key(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
    }
}

pub(super) fn of_key(key: &str) -> std::result::Result<IpAddr, String> {
    let bad = |error: std::num::ParseIntError| format!("'{key}' is no address: {error}");
    match key.len() {
        V4_DIGITS => u32::from_str_radix(key, 16).map(|bits| Ipv4Addr::from_bits(bits).into()).map_err(bad),
        _ => u128::from_str_radix(key, 16).map(|bits| Ipv6Addr::from_bits(bits).into()).map_err(bad),
    }
}

/// After the network's turn was taken and the port's row was written: gives the port what it wishes.
pub(super) async fn give(
    transaction: &mut Transaction<'static, Any>,
    network: NetworkId,
    port: PortId,
    wishes: Option<&[AddressWish]>,
) -> Outcome<Vec<PortAddress>> {
    let sources = sources(transaction, network).await?;
    let mut given = Vec::new();
    for place in places(network, &sources, wishes)? {
        let PortAddress { subnet, address } = match place {
            Place::Exactly { subnet, address } => PortAddress { subnet, address },
            Place::FirstOf(sources) => {
                first_free(transaction, &sources).await?.ok_or(Refusal::NoAddressLeft(network))?
            }
        };
        let written = sqlx::query("INSERT INTO port_addresses (subnet, address, port) VALUES ($1, $2, $3)")
            .bind(subnet.to_string())
            .bind(key(address))
            .bind(port.to_string())
            .execute(&mut **transaction)
            .await;
        match written {
            Ok(_) => given.push(PortAddress { subnet, address }),
            Err(error) if is_unique_violation(&error) => {
                return Err(Refusal::AddressTaken { address, subnet }.into());
            }
            Err(error) => return Err(db("give an address")(error).into()),
        }
    }
    given.sort_by_key(|given| (given.subnet, given.address));
    Ok(given)
}

async fn first_free(transaction: &mut Transaction<'static, Any>, sources: &[Source]) -> Result<Option<PortAddress>> {
    for source in sources {
        for pool in &source.pools {
            let highest = highest(transaction, source.subnet, pool).await?;
            let address = match pool.behind(highest) {
                Some(address) => Some(address),
                // The pool's end is taken: only now is it worth to look at all that are.
                None => pool.lowest_free(&taken(transaction, source.subnet, pool).await?),
            };
            if let Some(address) = address {
                return Ok(Some(PortAddress { subnet: source.subnet, address }));
            }
        }
    }
    Ok(None)
}

async fn highest(
    transaction: &mut Transaction<'static, Any>,
    subnet: SubnetId,
    pool: &AddressRange,
) -> Result<Option<IpAddr>> {
    let row = sqlx::query(
        "SELECT address FROM port_addresses WHERE subnet = $1 AND address >= $2 AND address <= $3 \
         ORDER BY address DESC LIMIT 1",
    )
    .bind(subnet.to_string())
    .bind(key(pool.first))
    .bind(key(pool.last))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(db("read the highest address"))?;
    row.as_ref().map(read).transpose()
}

async fn taken(
    transaction: &mut Transaction<'static, Any>,
    subnet: SubnetId,
    pool: &AddressRange,
) -> Result<BTreeSet<IpAddr>> {
    let rows = sqlx::query("SELECT address FROM port_addresses WHERE subnet = $1 AND address >= $2 AND address <= $3")
        .bind(subnet.to_string())
        .bind(key(pool.first))
        .bind(key(pool.last))
        .fetch_all(&mut **transaction)
        .await
        .map_err(db("read addresses"))?;
    rows.iter().map(read).collect()
}

fn read(row: &sqlx::any::AnyRow) -> Result<IpAddr> {
    let record = crate::record::Record::new("address", row)?;
    let key: String = row.try_get("address").map_err(db("read addresses"))?;
    of_key(&key).map_err(|reason| record.corrupt("address", reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_addresses() {
        let addresses = ["0.0.0.0", "9.255.0.1", "10.0.0.9", "10.0.0.10", "255.255.255.255"];
        let keys: Vec<String> = addresses.iter().map(|text| key(text.parse().unwrap())).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        for text in addresses.into_iter().chain(["::", "fd00::1", "ffff::"]) {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(of_key(&key(address)), Ok(address));
        }
        assert!(of_key("xyz").is_err() && of_key("").is_err());
    }
}
