//! Makes namespaces, bridges and cables. The record learns of each namespace and of the one link in the root namespace
//! before it is there; everything else lies inside a namespace and goes with it.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::{
    CONTROL_DEVICE, GUEST_BRIDGE, LinkRate, MIGRATION_DEVICE, Network, Networks, address::PREFIX, namespace_path, shape,
};
use crate::{
    record::{Made, Record},
    tool,
};

/// Only there where the kernel lets bridges ask.
const NO_FILTER: &str = "for each in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $each ] || echo 0 > $each; done";

/// One host's place in the network.
#[derive(Clone, Debug)]
pub(crate) struct HostPort<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) host: &'a str,
    pub(crate) index: u8,
    pub(crate) rate: LinkRate,
}

/// The namespace of the bridges, of the controller and of the peer.
pub(crate) fn make_fabric(record: &mut Record, namespace: &str, networks: &Networks) -> Result<()> {
    make_namespace(record, namespace)?;
    // The bridges stand for switches, and a switch asks no packet filter.
    tool::run("ip", &["netns", "exec", namespace, "sh", "-c", NO_FILTER])?;
    let mut batch = String::from("link set lo up\n");
    for network in Network::ALL {
        let bridge = network.bridge();
        // Snooping would add queries of its own to what is counted.
        writeln!(batch, "link add {bridge} type bridge mcast_snooping 0\nlink set {bridge} up")?;
    }
    for (network, subnet) in [(Network::Control, networks.control), (Network::Guest, networks.guest)] {
        writeln!(batch, "addr add {}/{PREFIX} dev {}", subnet.fabric(), network.bridge())?;
    }
    in_namespace(namespace, &batch)
}

/// A cable from this machine's own namespace to the control network, for the user's shell.
pub(crate) fn make_root_link(record: &mut Record, name: &str, fabric: &str, networks: &Networks) -> Result<()> {
    if std::path::Path::new("/sys/class/net").join(name).exists() {
        bail!("a link named {name} is there already and is not this lab's; hint: choose another --name");
    }
    record.add(Made::Link(name.to_owned()))?;
    let root = networks.control.root();
    let batch = format!(
        "link add {name} type veth peer name root netns {fabric}\naddr add {root}/{PREFIX} dev {name}\nlink set {name} up\n"
    );
    tool::feed("ip", &["-batch", "-"], &batch)?;
    in_namespace(fabric, &format!("link set root master {} up\n", Network::Control.bridge()))
}

pub(crate) fn make_host(record: &mut Record, port: &HostPort, fabric: &str, networks: &Networks) -> Result<()> {
    let namespace = port.namespace;
    make_namespace(record, namespace)?;
    let (mut cables, mut outside) = (String::new(), String::new());
    for network in Network::ALL {
        let (inside, outer) = (network.device(), network.port(port.host));
        writeln!(cables, "link add {inside} netns {namespace} type veth peer name {outer} netns {fabric}")?;
        writeln!(outside, "link set {outer} master {} up", network.bridge())?;
    }
    tool::feed("ip", &["-batch", "-"], &cables)?;
    in_namespace(fabric, &outside)?;
    let (control, migration) = (networks.control.host(port.index), networks.migration.host(port.index));
    let uplink = Network::Guest.device();
    let inside = format!(
        "link set lo up\n\
         addr add {control}/{PREFIX} dev {CONTROL_DEVICE}\nlink set {CONTROL_DEVICE} up\n\
         addr add {migration}/{PREFIX} dev {MIGRATION_DEVICE}\nlink set {MIGRATION_DEVICE} up\n\
         link add {GUEST_BRIDGE} type bridge mcast_snooping 0\nlink set {GUEST_BRIDGE} up\n\
         link set {uplink} master {GUEST_BRIDGE} up\n"
    );
    in_namespace(namespace, &inside)?;
    shape(namespace, MIGRATION_DEVICE, port.rate)
}

fn make_namespace(record: &mut Record, name: &str) -> Result<()> {
    if namespace_path(name).exists() {
        bail!("a namespace named {name} is there already and is not this lab's; hint: choose another --name");
    }
    record.add(Made::Namespace(name.to_owned()))?;
    tool::run("ip", &["netns", "add", name])?;
    // IPv6 would announce itself in the counters, and nothing here uses it.
    let off = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ -e $f ] || continue; echo 1 >$f; done";
    tool::run("ip", &["netns", "exec", name, "sh", "-c", off])?;
    Ok(())
}

fn in_namespace(namespace: &str, batch: &str) -> Result<()> {
    tool::feed("ip", &["-n", namespace, "-batch", "-"], batch)?;
    Ok(())
}
