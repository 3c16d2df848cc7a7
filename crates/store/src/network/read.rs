//! Ports as they are read: each with its addresses and security groups, in a bounded number of statements.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, any::AnyRow};
use whimbrel_core::id::{NetworkId, PortId, SecurityGroupId};

use super::{PortAddress, PortFilter, PortRow, address::of_key};
use crate::{
    Page, PageAsk, Store,
    error::{Result, db},
    record::Record,
};

/// Values of one `IN`: far below what either engine takes.
const VALUES_MAX: usize = 200;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, network, project, name, description, mac, admin_up, device, device_owner, host, hold, nic, \
             generation, created_us, updated_us FROM ports ",
            $rest
        )
    };
}

/// By which column ports are looked up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Among {
    Ids,
    Devices,
}

fn read(row: &AnyRow) -> Result<PortRow> {
    let record = Record::new("port", row)?;
    Ok(PortRow {
        id: record.parsed("id")?,
        network: record.parsed("network")?,
        project: record.parsed("project")?,
        name: record.text("name")?,
        description: record.text("description")?,
        mac: record.text("mac")?,
        admin_up: record.flag("admin_up")?,
        device: record.text("device")?,
        device_owner: record.text("device_owner")?,
        host: record.text("host")?,
        hold: record.parsed("hold")?,
        nic: record.number("nic")?,
        addresses: Vec::new(),
        groups: Vec::new(),
        generation: record.number("generation")?,
        created_us: record.us("created_us")?,
        updated_us: record.us("updated_us")?,
    })
}

fn read_address(row: &AnyRow) -> Result<(PortId, PortAddress)> {
    let record = Record::new("port", row)?;
    let address = of_key(&record.text("address")?).map_err(|reason| record.corrupt("address", reason))?;
    Ok((record.parsed("port")?, PortAddress { subnet: record.parsed("subnet")?, address }))
}

fn read_group(row: &AnyRow) -> Result<(PortId, SecurityGroupId)> {
    let record = Record::new("port", row)?;
    Ok((record.parsed("port")?, record.parsed("security_group")?))
}

impl Store {
    pub async fn list_ports(&self, filter: &PortFilter, ask: &PageAsk) -> Result<Page<PortRow>> {
        let rows = sqlx::query(select!(
            "WHERE id > $1 AND ($3 = '' OR network = $3) AND ($4 = '' OR project = $4) ORDER BY id LIMIT $2"
        ))
        .bind(ask.after())
        .bind(ask.rows())
        .bind(filter.network.as_ref().map(NetworkId::to_string).unwrap_or_default())
        .bind(filter.project.as_ref().map_or("", |project| project.as_str()))
        .fetch_all(&self.reads)
        .await
        .map_err(db("list ports"))?;
        let mut page = ask.page(&rows, read, |port| port.id.to_string())?;
        self.complete(&mut page.items).await?;
        Ok(page)
    }

    /// Of all these servers, each one's in the order of its NICs.
    pub async fn ports_of(&self, devices: &[String]) -> Result<Vec<PortRow>> {
        let mut ports = self.ports_with(Among::Devices, devices).await?;
        ports.sort_by(|one, other| (&one.device, one.nic, one.id).cmp(&(&other.device, other.nic, other.id)));
        Ok(ports)
    }

    pub(super) async fn ports_with(&self, among: Among, values: &[String]) -> Result<Vec<PortRow>> {
        let start = match among {
            Among::Ids => select!("WHERE id IN "),
            Among::Devices => select!("WHERE device IN "),
        };
        let mut ports = self.fetch_in(start, values, read).await?;
        self.complete(&mut ports).await?;
        Ok(ports)
    }

    async fn complete(&self, ports: &mut [PortRow]) -> Result<()> {
        let ids: Vec<String> = ports.iter().map(|port| port.id.to_string()).collect();
        let addresses = "SELECT port, subnet, address FROM port_addresses WHERE port IN ";
        let addresses = by_port(self.fetch_in(addresses, &ids, read_address).await?);
        let groups = "SELECT port, security_group FROM port_security_groups WHERE port IN ";
        let groups = by_port(self.fetch_in(groups, &ids, read_group).await?);
        for port in ports {
            port.addresses = addresses.get(&port.id).cloned().unwrap_or_default();
            port.addresses.sort_by_key(|given| (given.subnet, given.address));
            port.groups = groups.get(&port.id).cloned().unwrap_or_default();
            port.groups.sort_unstable();
        }
        Ok(())
    }

    async fn fetch_in<T>(
        &self,
        start: &'static str,
        values: &[String],
        read: impl Fn(&AnyRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for values in values.chunks(VALUES_MAX) {
            let places: Vec<String> = (1..=values.len()).map(|at| format!("${at}")).collect();
            // Only numbers of places are put into the text.
            let mut query = sqlx::query(AssertSqlSafe(format!("{start}({})", places.join(", "))));
            for value in values {
                query = query.bind(value.clone());
            }
            let rows = query.fetch_all(&self.reads).await.map_err(db("read ports"))?;
            for row in &rows {
                found.push(read(row)?);
            }
        }
        Ok(found)
    }
}

fn by_port<T>(found: Vec<(PortId, T)>) -> BTreeMap<PortId, Vec<T>> {
    let mut map: BTreeMap<PortId, Vec<T>> = BTreeMap::new();
    for (port, item) in found {
        map.entry(port).or_default().push(item);
    }
    map
}
