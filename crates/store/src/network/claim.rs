//! A server's ports: all of them taken in one transaction, and given back together.
//!
//! ```text
//! claim:    made for the server (hold = made), or there before and free (hold = bound)
//! release:  made -> deleted with its addresses; bound -> free again, with its addresses
//! ```

use whimbrel_core::{
    id::{NetworkId, PortId},
    network::refusal::Refusal,
};

use super::{NewPort, Outcome, PortHold, PortRow, port, take_turn};
use crate::{
    Store,
    error::{Result, db},
};

/// One NIC of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortWish {
    Make(Box<NewPort>),
    Take(PortId),
}

impl Store {
    /// The ports of `wishes`, in their order, for a device that has none yet: all or none.
    pub async fn claim_ports(
        &self,
        device: &str,
        owner: &str,
        wishes: &[PortWish],
        now_us: i64,
    ) -> Outcome<Vec<PortRow>> {
        let failed = db("claim ports");
        let mut transaction = self.begin("claim ports").await?;
        let mut taken: Vec<(PortId, usize)> = Vec::new();
        let mut made: Vec<(NetworkId, usize, &NewPort)> = Vec::new();
        for (nic, wish) in wishes.iter().enumerate() {
            match wish {
                PortWish::Take(port) => taken.push((*port, nic)),
                PortWish::Make(new) => made.push((new.network, nic, new)),
            }
        }
        // In the order of ids, so that two who want the same wait for each other at most once.
        taken.sort_unstable();
        made.sort_by_key(|(network, nic, _)| (*network, *nic));
        for (port, nic) in taken {
            let done = sqlx::query(
                "UPDATE ports SET device = $2, device_owner = $3, hold = $4, nic = $5, updated_us = $6, \
                 generation = generation + 1 WHERE id = $1 AND device = ''",
            )
            .bind(port.to_string())
            .bind(device)
            .bind(owner)
            .bind(PortHold::Bound.as_str())
            .bind(crate::record::bigint(nic))
            .bind(now_us)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
            if done.rows_affected() == 0 {
                transaction.rollback().await.map_err(failed)?;
                let PortRow { id: port, network, device, .. } = self.port(port).await?;
                return Err(Refusal::PortInUse { port, network, device }.into());
            }
        }
        let mut turn = None;
        for (network, nic, new) in made {
            if turn != Some(network) {
                take_turn(&mut transaction, network).await?;
                turn = Some(network);
            }
            let new = NewPort {
                device: device.to_owned(),
                device_owner: owner.to_owned(),
                hold: PortHold::Made,
                nic: u32::try_from(nic).unwrap_or(u32::MAX),
                now_us,
                ..new.clone()
            };
            port::insert(&mut transaction, &new).await?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(self.ports_of(&[device.to_owned()]).await?)
    }

    /// Nothing to do where it has none.
    pub async fn release_ports(&self, device: &str, now_us: i64) -> Result<()> {
        let failed = db("release ports");
        let mut transaction = self.begin("release ports").await?;
        sqlx::query("DELETE FROM ports WHERE device = $1 AND hold = $2")
            .bind(device)
            .bind(PortHold::Made.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        sqlx::query(
            "UPDATE ports SET device = '', device_owner = '', host = '', hold = $3, nic = 0, updated_us = $4, \
             generation = generation + 1 WHERE device = $1 AND hold = $2",
        )
        .bind(device)
        .bind(PortHold::Bound.as_str())
        .bind(PortHold::Free.as_str())
        .bind(now_us)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Devices that ports were claimed for before `before_us` and that are no servers: their making was broken off.
    pub async fn claims_of_nobody(&self, before_us: i64) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT DISTINCT device FROM ports WHERE hold <> $1 AND updated_us < $2 \
             AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = ports.device) ORDER BY device LIMIT $3",
        )
        .bind(PortHold::Free.as_str())
        .bind(before_us)
        .bind(i64::from(crate::PAGE_MAX))
        .fetch_all(&self.reads)
        .await
        .map_err(db("look for ports of nobody"))?;
        rows.iter().map(|row| crate::record::Record::new("port", row)?.text("device")).collect()
    }
}
