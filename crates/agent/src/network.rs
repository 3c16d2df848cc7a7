//! Taps on bridges, by the programs `ip` and `bridge`.
//!
//! Why programs: making a tap is an ioctl and attaching it is netlink; they do both in the agent's own network namespace,
//! without unsafe code and for one process of some 2 ms each, a handful of times in a guest's life.
//!
//! ```text
//! guest --untagged-- tap [pvid N, untagged] bridge [N, tagged] uplink --802.1Q-- the site's switch
//! ```
//!
//! Ground rules: a name says its owner (instance and number) and nothing else is ever deleted; a target's tap stays down
//! until its guest is owned, since QEMU announces the guest before; a guest of a VLAN is in that VLAN and in no other, and
//! where the bridge does not keep VLANs apart there is no tap at all. The uplink's VLANs are the site's to set.

use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use whimbrel_core::{
    failure::{Failure, FailureCode},
    id::InstanceId,
    instance::{InstanceSpec, Nic},
};

use crate::{config::QemuUser, hypervisor};

const IP: &str = "ip";
const BRIDGE: &str = "bridge";
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
        if let Err(failure) = create(name, nic, user).await {
            delete_all(&names).await;
            return Err(failure);
        }
    }
    Ok(names)
}

pub async fn create(name: &str, nic: &Nic, user: Option<QemuUser>) -> Result<(), Failure> {
    let bridge = &nic.bridge;
    if !exists(bridge).await? {
        let detail = format!("there is no bridge '{bridge}' on this host");
        return Err(
            Failure::new(FailureCode::Incompatible, detail).hint("make it, or take a network that all hosts have")
        );
    }
    if let Some(vlan) = nic.vlan {
        check_keeps_apart(bridge, vlan).await?;
    }
    delete(name).await?;
    let user = user.map(|user| (user.uid.to_string(), user.gid.to_string()));
    let mut args = vec!["tuntap", "add", "dev", name, "mode", "tap"];
    if let Some((uid, gid)) = &user {
        args.extend(["user", uid, "group", gid]);
    }
    run(IP, &args).await?;
    run(IP, &["link", "set", "dev", name, "master", bridge]).await?;
    match nic.vlan {
        Some(vlan) => join_only(name, vlan).await,
        None => Ok(()),
    }
}

#[derive(Deserialize)]
struct Link {
    linkinfo: Option<LinkInfo>,
}
#[derive(Deserialize)]
struct LinkInfo {
    info_data: Option<BridgeData>,
}
#[derive(Deserialize)]
struct BridgeData {
    #[serde(default)]
    vlan_filtering: u8,
}

/// A bridge that does not look at VLANs would let all its guests see each other.
async fn check_keeps_apart(bridge: &str, vlan: u16) -> Result<(), Failure> {
    let links: Vec<Link> = shown(IP, &["-details", "-json", "link", "show", "dev", bridge]).await?;
    if keeps_apart(&links) {
        return Ok(());
    }
    let detail = format!("bridge '{bridge}' does not keep VLANs apart, so no NIC can be put into VLAN {vlan} on it");
    let hint = format!("`ip link set dev {bridge} type bridge vlan_filtering 1`, and its uplink into the VLAN, tagged");
    Err(Failure::new(FailureCode::Incompatible, detail).hint(hint))
}

fn keeps_apart(links: &[Link]) -> bool {
    let data = links.iter().find_map(|link| link.linkinfo.as_ref()?.info_data.as_ref());
    data.is_some_and(|data| data.vlan_filtering == 1)
}

#[derive(Deserialize)]
struct PortVlans {
    vlans: Vec<PortVlan>,
}
#[derive(Deserialize)]
struct PortVlan {
    vlan: u16,
    #[serde(rename = "vlanEnd")]
    last: Option<u16>,
}

/// Into this VLAN, without tags, and out of those that the bridge gives to every port.
async fn join_only(tap: &str, vlan: u16) -> Result<(), Failure> {
    let vid = vlan.to_string();
    run(BRIDGE, &["vlan", "add", "dev", tap, "vid", &vid, "pvid", "untagged"]).await?;
    let of: Vec<PortVlans> = shown(BRIDGE, &["-json", "vlan", "show", "dev", tap]).await?;
    for other in others(&of, vlan) {
        run(BRIDGE, &["vlan", "del", "dev", tap, "vid", &other.to_string()]).await?;
    }
    Ok(())
}

/// Nothing to do where there is none.
pub async fn delete(name: &str) -> Result<(), Failure> {
    if !exists(name).await? {
        return Ok(());
    }
    run(IP, &["link", "delete", "dev", name]).await
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
    run(IP, &["link", "set", "dev", name, "up"]).await
}

pub async fn down(name: &str) -> Result<(), Failure> {
    run(IP, &["link", "set", "dev", name, "down"]).await
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

/// The VLANs that a port is in besides this one.
fn others(of: &[PortVlans], vlan: u16) -> Vec<u16> {
    let given = of.iter().flat_map(|of| &of.vlans).flat_map(|vlan| vlan.vlan..=vlan.last.unwrap_or(vlan.vlan));
    given.filter(|other| *other != vlan).collect()
}

async fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    said(program, args).await.map(drop)
}

/// What it shows as JSON.
async fn shown<T: serde::de::DeserializeOwned>(program: &str, args: &[&str]) -> Result<T, Failure> {
    let output = said(program, args).await?;
    serde_json::from_slice(&output).map_err(|error| {
        let detail = format!("`{program} {}` shows what cannot be read: {error}", args.join(" "));
        Failure::new(FailureCode::Internal, detail).hint("is iproute2 older than 6.1?")
    })
}

async fn said(program: &str, args: &[&str]) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(program);
    command.args(args);
    let hint = "the agent needs CAP_NET_ADMIN, /dev/net/tun and iproute2";
    hypervisor::output(command, IP_TIME_MAX).await.map_err(|failure| {
        let detail = format!("`{program} {}` failed: {}", args.join(" "), failure.detail);
        Failure::new(failure.code, detail).hint(hint)
    })
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

    /// As iproute2 6.1 shows them.
    #[test]
    fn reads_what_bridges_and_ports_are() {
        let check = |text: &str, want: bool| {
            assert_eq!(keeps_apart(&serde_json::from_str::<Vec<Link>>(text).unwrap()), want, "{text}");
        };
        let bridge = |filtering: u8| {
            format!(
                r#"[{{"ifindex":2,"ifname":"br0","mtu":1500,"linkinfo":{{"info_kind":"bridge","info_data":
                {{"forward_delay":1500,"vlan_filtering":{filtering},"vlan_protocol":"802.1Q"}}}}}}]"#
            )
        };
        check(&bridge(1), true);
        check(&bridge(0), false);
        check(r#"[{"ifname":"veth0","linkinfo":{"info_kind":"veth"}}]"#, false);
        check(r#"[{"ifname":"lo"}]"#, false);
        check("[]", false);
        let text = r#"[{"ifname":"t0","vlans":[{"vlan":1,"flags":["Egress Untagged"]},
            {"vlan":7,"flags":["PVID","Egress Untagged"]},{"vlan":10,"vlanEnd":12}]}]"#;
        let of: Vec<PortVlans> = serde_json::from_str(text).unwrap();
        assert_eq!(others(&of, 7), [1, 10, 11, 12]);
        assert_eq!(others(&of, 11), [1, 7, 10, 12]);
        assert_eq!(others(&[], 7), [0; 0]);
    }

    /// On a thread of its own, which takes its network namespace with it when it ends.
    fn in_own_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        });
        thread.join().unwrap();
    }

    async fn vlans_of(tap: &str) -> Vec<(u64, Vec<String>)> {
        let of: serde_json::Value = shown(BRIDGE, &["-json", "vlan", "show", "dev", tap]).await.unwrap();
        let vlans = of[0]["vlans"].as_array().unwrap();
        let flags = |vlan: &serde_json::Value| serde_json::from_value(vlan["flags"].clone()).unwrap_or_default();
        vlans.iter().map(|vlan| (vlan["vlan"].as_u64().unwrap(), flags(vlan))).collect()
    }

    fn nic(bridge: &str, vlan: Option<u16>) -> Nic {
        Nic { mac: "52:54:00:00:00:01".into(), bridge: bridge.into(), vlan }
    }

    #[test]
    fn a_nic_of_a_vlan_is_in_that_vlan_only() {
        in_own_namespace(|| async {
            if let Err(failure) = run(IP, &["link", "add", "br0", "type", "bridge", "vlan_filtering", "1"]).await {
                // A kernel without CONFIG_BRIDGE_VLAN_FILTERING, where nothing can be in a VLAN.
                assert!(failure.detail.contains("Operation not supported"), "{failure:?}");
                run(IP, &["link", "add", "br0", "type", "bridge"]).await.unwrap();
                create("wbt-0", &nic("br0", Some(7)), None).await.unwrap_err();
                return assert!(!exists("wbt-0").await.unwrap());
            }
            let untagged = |vlan| [(vlan, vec!["PVID".to_owned(), "Egress Untagged".to_owned()])];
            create("wbt-0", &nic("br0", Some(7)), None).await.unwrap();
            assert_eq!(vlans_of("wbt-0").await, untagged(7));
            create("wbt-0", &nic("br0", Some(4094)), None).await.unwrap();
            assert_eq!(vlans_of("wbt-0").await, untagged(4094), "a tap that was left is made anew");
            create("wbt-1", &nic("br0", Some(1)), None).await.unwrap();
            assert_eq!(vlans_of("wbt-1").await, untagged(1));
            create("wbt-2", &nic("br0", None), None).await.unwrap();
            assert_eq!(vlans_of("wbt-2").await, untagged(1), "what the bridge gives to all");
            delete_all(&["wbt-0".to_owned()]).await;
            assert!(!exists("wbt-0").await.unwrap() && exists("wbt-1").await.unwrap());
        });
    }

    #[test]
    fn a_bridge_that_mixes_vlans_takes_no_nic_of_one() {
        in_own_namespace(|| async {
            run(IP, &["link", "add", "br0", "type", "bridge"]).await.unwrap();
            run(IP, &["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]).await.unwrap();
            let check = async |nic: Nic, want: Option<&str>| {
                let made = create("wbt-0", &nic, None).await;
                assert_eq!(exists("wbt-0").await.unwrap(), want.is_none(), "{nic:?}");
                match want {
                    None => made.unwrap(),
                    Some(part) => {
                        let failure = made.unwrap_err();
                        assert!(failure.detail.contains(part) && failure.hint.is_some(), "{failure:?}");
                    }
                }
            };
            check(nic("br0", Some(7)), Some("bridge 'br0' does not keep VLANs apart")).await;
            check(nic("veth0", Some(7)), Some("does not keep VLANs apart")).await;
            check(nic("br9", Some(7)), Some("no bridge 'br9'")).await;
            check(nic("br0", None), None).await;
        });
    }
}
