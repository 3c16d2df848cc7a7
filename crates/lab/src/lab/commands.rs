//! `whimbrel lab up`, `status`, `down`, `env` and `link`.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::{Lab, LabOptions, Place, QemuKind};
use crate::net::{LinkChange, Network};

pub(crate) async fn up(options: LabOptions) -> Result<()> {
    let began = Instant::now();
    let name = options.place.name.clone();
    let lab = Lab::up(options).await?;
    let site = lab.site();
    println!("lab '{name}' is up ({:.1} s)", began.elapsed().as_secs_f64());
    println!("  controller  {}", site.url());
    for host in &site.hosts {
        let networks = &site.networks;
        let (control, migration) = (networks.control.host(host.index), networks.migration.host(host.index));
        println!("  {:<10}  {control}, migration {migration}, namespace {}", host.name, host.namespace);
    }
    println!("  link        {}", site.link);
    println!("  image       guest, flavor med (512 MB RAM, disks root 10 GiB, ephemeral 1 GiB, swap 512 MiB)");
    println!("  files       {}", site.dir.display());
    println!("next:");
    println!("  eval \"$(whimbrel lab env)\"");
    println!("  whimbrel lab guest boot --write-rate 20   # a guest that writes 20 MB/s");
    println!("  whimbrel move guest                       # while it works");
    println!("  whimbrel lab guest verify                 # nothing was lost");
    println!("  whimbrel lab down");
    Ok(())
}

pub(crate) async fn status(place: &Place, as_json: bool) -> Result<()> {
    let lab = Lab::open(place)?;
    let site = lab.site();
    let hosts = site.hosts.iter().map(|host| {
        let qemus = lab.qemus(&host.name, QemuKind::System)?.len();
        let agent = lab.agent(&host.name).ok().map(|id| id.pid);
        Ok(json!({"name": host.name, "namespace": host.namespace, "agent_pid": agent, "qemus": qemus}))
    });
    let hosts = hosts.collect::<Result<Vec<_>>>()?;
    let controller = lab.process(crate::daemons::CONTROLLER).map(|id| id.pid);
    if as_json {
        let guests: Vec<_> = site.guests.iter().map(|guest| &guest.name).collect();
        let link = site.link.to_string();
        let whole = json!({
            "name": place.name, "url": site.url(), "controller_pid": controller, "link": link, "hosts": hosts,
            "guests": guests, "dir": site.dir,
        });
        println!("{whole}");
        return Ok(());
    }
    let pid = |pid: Option<i32>| pid.map_or("not running".to_owned(), |pid| format!("pid {pid}"));
    println!("lab '{}', link {}", place.name, site.link);
    println!("  controller  {} ({})", site.url(), pid(controller));
    for (host, shown) in site.hosts.iter().zip(&hosts) {
        let agent = lab.agent(&host.name).ok().map(|id| id.pid);
        println!("  {:<10}  agent {}, {} QEMU, namespace {}", host.name, pid(agent), shown["qemus"], host.namespace);
    }
    for guest in &site.guests {
        println!("  {:<10}  guest at {}", guest.name, guest.address);
    }
    Ok(())
}

pub(crate) fn down(place: &Place) -> Result<()> {
    if Lab::down_at(place)? {
        println!("lab '{}' is down; the guest's image stays in {}", place.name, place.cache().display());
    } else {
        println!("there is no lab '{}'", place.name);
    }
    Ok(())
}

pub(crate) fn env(place: &Place) -> Result<()> {
    for (name, value) in Lab::open(place)?.site().variables() {
        println!("export {name}='{value}'");
    }
    Ok(())
}

pub(crate) fn link(place: &Place, host: Option<&str>, network: Network, change: LinkChange) -> Result<()> {
    let mut lab = Lab::open(place)?;
    lab.link(host, network, change)?;
    let whose = host.map_or_else(|| "every host".to_owned(), |host| format!("host {host}"));
    let network = format!("{network:?}").to_lowercase();
    match change {
        LinkChange::Cut => println!("the {network} link of {whose} is cut"),
        LinkChange::Heal => println!("the {network} link of {whose} is healed"),
        LinkChange::Rate(rate) => println!("the {network} link of {whose}: rate {rate}"),
    }
    Ok(())
}
