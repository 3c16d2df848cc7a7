//! Taps on bridges, by the `ip` program.
//!
//! Why a program: making a tap is an ioctl and attaching it is netlink; `ip` does both in the agent's own network namespace,
//! without unsafe code and for one process of some 2 ms each, a handful of times in a guest's life.
//!
//! Ground rules: a name says its owner (instance and number) and nothing else is ever deleted; a target's tap stays down
//! until its guest is owned, since QEMU announces the guest before.

use std::time::Duration;

use tokio::process::Command;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::InstanceId,
    instance::InstanceSpec,
};

use crate::{config::QemuUser, hypervisor};

const IP: &str = "ip";
const IP_TIME_MAX: Duration = Duration::from_secs(10);
/// `IFNAMSIZ` less its end mark.
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;
const ID_DIGITS: usize = 10;

/// `wb` and 10 hex digits of the instance's hash, then the NIC's number.
pub fn tap_name(instance: InstanceId, nic: usize) -> String {
    let hash = blake3::hash(instance.0.as_bytes()).to_hex();
    format!("wb{}-{nic}", &hash[..ID_DIGITS])
}

pub fn tap_names(spec: &InstanceSpec) -> Vec<String> {
    (0..spec.nics.len()).map(|nic| tap_name(spec.id, nic)).collect()
}

/// Makes the taps of all NICs on their bridges, down. A tap that was left by an earlier run is made anew.
pub async fn create_all(spec: &InstanceSpec, user: Option<QemuUser>) -> Result<Vec<String>, Failure> {
    let names = tap_names(spec);
    for (name, nic) in names.iter().zip(&spec.nics) {
        if let Err(failure) = create(name, &nic.bridge, user).await {
            delete_all(&names).await;
            return Err(failure);
        }
    }
    Ok(names)
}

pub async fn create(name: &str, bridge: &str, user: Option<QemuUser>) -> Result<(), Failure> {
    if !exists(bridge).await? {
        let detail = format!("there is no bridge '{bridge}' on this host");
        return Err(
            Failure::new(FailureCode::Incompatible, detail).hint("make it, or take a network that all hosts have")
        );
    }
    delete(name).await?;
    let user = user.map(|user| (user.uid.to_string(), user.gid.to_string()));
    let mut args = vec!["tuntap", "add", "dev", name, "mode", "tap"];
    if let Some((uid, gid)) = &user {
        args.extend(["user", uid, "group", gid]);
    }
    ip(&args).await?;
    ip(&["link", "set", "dev", name, "master", bridge]).await
}

/// Nothing to do where there is none.
pub async fn delete(name: &str) -> Result<(), Failure> {
    if !exists(name).await? {
        return Ok(());
    }
    ip(&["link", "delete", "dev", name]).await
}

/// As far as they exist. What cannot be removed is only logged: the next start of the guest makes it anew.
pub async fn delete_all(names: &[String]) {
    for name in names {
        if let Err(failure) = delete(name).await {
            tracing::warn!(tap = name, %failure, "a tap stays");
        }
    }
}

pub async fn up(name: &str) -> Result<(), Failure> {
    ip(&["link", "set", "dev", name, "up"]).await
}

pub async fn down(name: &str) -> Result<(), Failure> {
    ip(&["link", "set", "dev", name, "down"]).await
}

pub async fn all_up(names: &[String]) -> Result<(), Failure> {
    futures_util::future::try_join_all(names.iter().map(|name| up(name))).await.map(drop)
}

pub async fn exists(name: &str) -> Result<bool, Failure> {
    let interfaces = nix::net::if_::if_nameindex()
        .map_err(|error| crate::fault::internal("cannot list the network interfaces", &error))?;
    Ok(interfaces.iter().any(|interface| interface.name().to_bytes() == name.as_bytes()))
}

pub async fn bridges() -> Result<Vec<String>, Failure> {
    let mut command = Command::new(IP);
    command.args(["-o", "link", "show", "type", "bridge"]);
    let output = hypervisor::output(command, IP_TIME_MAX).await?;
    let mut names: Vec<_> = String::from_utf8_lossy(&output).lines().filter_map(bridge_of).collect();
    names.sort();
    Ok(names)
}

/// `4: br0: <BROADCAST,…> mtu …`, or `4: br0@if3: …`.
fn bridge_of(line: &str) -> Option<String> {
    let name = line.split(": ").nth(1)?;
    Some(name.split('@').next().unwrap_or(name).to_owned())
}

async fn ip(args: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(IP);
    command.args(args);
    let hint = "the agent needs CAP_NET_ADMIN, /dev/net/tun and iproute2";
    match hypervisor::output(command, IP_TIME_MAX).await {
        Ok(_) => Ok(()),
        Err(failure) => {
            Err(Failure::new(failure.code, format!("`ip {}` failed: {}", args.join(" "), failure.detail)).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let (one, other) = (InstanceId(Uuid::from_u128(1)), InstanceId(Uuid::from_u128(2)));
        assert!(tap_name(one, 99).len() <= INTERFACE_NAME_BYTES_MAX);
        assert_eq!(tap_name(one, 0), tap_name(one, 0));
        assert_ne!(tap_name(one, 0), tap_name(one, 1));
        assert_ne!(tap_name(one, 0), tap_name(other, 0));
    }

    #[test]
    fn reads_the_names_of_bridges() {
        assert_eq!(bridge_of("4: br0: <BROADCAST> mtu 1500").as_deref(), Some("br0"));
        assert_eq!(bridge_of("5: br1@if3: <BROADCAST>").as_deref(), Some("br1"));
        assert_eq!(bridge_of(""), None);
    }
}
