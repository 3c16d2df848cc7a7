//! `whimbrel flavor`.

use anyhow::Result;
use whimbrel_api::{client::ControllerClient, native};

use crate::{args::Flavor, table};

pub async fn run(client: &ControllerClient, command: Flavor, json: bool) -> Result<()> {
    match command {
        Flavor::List => show(&client.flavors().await?, json),
        Flavor::Show { flavor } => one(client.flavor(&flavor).await?, json),
        Flavor::Delete { flavor } => Ok(client.delete_flavor(&flavor).await?),
        Flavor::Create { name, id, vcpus, ram, disk, ephemeral, swap } => {
            let new = native::NewFlavor {
                name,
                flavorid: id,
                vcpus,
                ram_mb: ram,
                disk_gb: disk,
                ephemeral_gb: ephemeral,
                swap_mb: swap,
            };
            one(client.create_flavor(&new).await?, json)
        }
    }
}

fn one(flavor: native::Flavor, json: bool) -> Result<()> {
    match json {
        true => table::print_json(&flavor),
        false => show(&[flavor], json),
    }
}

fn show(flavors: &[native::Flavor], json: bool) -> Result<()> {
    if json {
        return table::print_json(&flavors);
    }
    let rows = flavors.iter().map(|each| {
        let size = &each.flavor;
        vec![
            size.name.clone(),
            size.vcpus.to_string(),
            format!("{} MB", size.ram_mb),
            format!("{} GB", size.disk_gb),
            format!("{} GB", size.ephemeral_gb),
            format!("{} MB", size.swap_mb),
            each.id.to_string(),
        ]
    });
    table::print(&["name", "vcpus", "ram", "disk", "ephemeral", "swap", "id"], rows.collect());
    Ok(())
}
