//! `addSecurityGroup`, `removeSecurityGroup`: kept on the server's ports, shown with the server.
//!
//! Source: nova, network/security_group_api.py, `add_to_instance` and `remove_from_instance`.

use std::collections::BTreeSet;

use whimbrel_api::openstack::fault::Fault;
use whimbrel_core::id::SecurityGroupId;
use whimbrel_store::{InstanceRow, NetworkError, PortChange, PortRow, SecurityGroupRow, StoreError, every};

use super::{
    super::{answer::Answer, ask::Ask},
    change::described,
    history,
};
use crate::app::{App, Shared};

const TRIES: u32 = 5;

pub(super) async fn add(app: &Shared, ask: &Ask, row: InstanceRow, asked: &str) -> Answer<()> {
    history::begun(app, ask, row.id, "addSecurityGroup").await?;
    let group = find(&groups(app, &row).await?, &row, asked)?;
    if ports(app, &row).await?.is_empty() {
        let why = format!("instance_id {} could not be found as device id on any ports", row.id);
        return Err(Fault::new(404, why).into());
    }
    change(app, row, |port| {
        if !port.groups.contains(&group) {
            port.groups.push(group);
        }
    })
    .await
}

pub(super) async fn remove(app: &Shared, ask: &Ask, row: InstanceRow, asked: &str) -> Answer<()> {
    history::begun(app, ask, row.id, "removeSecurityGroup").await?;
    let group = find(&groups(app, &row).await?, &row, asked)?;
    if !ports(app, &row).await?.iter().any(|port| port.groups.contains(&group)) {
        let why = format!("Security group {asked} not associated with the instance {}", row.id);
        return Err(Fault::new(404, why).into());
    }
    change(app, row, |port| port.groups.retain(|kept| *kept != group)).await
}

/// Those of the server's project.
async fn groups(app: &App, row: &InstanceRow) -> Answer<Vec<SecurityGroupRow>> {
    let project = row.owner.project.as_ref();
    Ok(every(|page| async move { app.store.list_security_groups(project, &page).await }).await?)
}

async fn ports(app: &App, row: &InstanceRow) -> Answer<Vec<PortRow>> {
    Ok(app.store.ports_of(&[row.id.to_string()]).await?)
}

fn find(groups: &[SecurityGroupRow], row: &InstanceRow, asked: &str) -> Answer<SecurityGroupId> {
    let matching: Vec<SecurityGroupId> = groups
        .iter()
        .filter(|group| group.name == asked || group.id.to_string() == asked)
        .map(|group| group.id)
        .collect();
    match matching.as_slice() {
        [one] => Ok(*one),
        [] => {
            let project = row.owner.project.as_ref().map(ToString::to_string).unwrap_or_default();
            Err(Fault::new(404, format!("Security group {asked} not found for project {project}.")).into())
        }
        [_, ..] => {
            let told = format!("Multiple security groups found matching '{asked}'. Use an ID to be more specific.");
            Err(Fault::new(409, told).into())
        }
    }
}

/// Every port of the server, then what is shown of it.
async fn change(app: &Shared, row: InstanceRow, change: impl Fn(&mut PortRow)) -> Answer<()> {
    for port in ports(app, &row).await? {
        change_one(app, &row, port, &change).await?;
    }
    let known = groups(app, &row).await?;
    let ids: BTreeSet<SecurityGroupId> = ports(app, &row).await?.into_iter().flat_map(|port| port.groups).collect();
    let names: BTreeSet<&str> =
        known.iter().filter(|group| ids.contains(&group.id)).map(|group| group.name.as_str()).collect();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    described(app, row, |_, details| {
        details.security_groups.clone_from(&names);
        Ok(())
    })
    .await?;
    Ok(())
}

async fn change_one(app: &App, row: &InstanceRow, mut port: PortRow, change: &impl Fn(&mut PortRow)) -> Answer<()> {
    for _ in 0..TRIES {
        change(&mut port);
        port.updated_us = App::now_us();
        match app.store.change_port(&PortChange { row: port.clone(), addresses: None }).await {
            Ok(()) => return Ok(()),
            Err(NetworkError::Store(StoreError::Conflict { .. })) => port = app.store.port(port.id).await?,
            Err(NetworkError::Store(error)) => return Err(error.into()),
            Err(NetworkError::Refused(refusal)) => return Err(Fault::new(409, refusal.to_string()).into()),
        }
    }
    Err(Fault::new(409, format!("Instance {} changes too fast: try again.", row.id)).into())
}
