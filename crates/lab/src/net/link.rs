//! A host's cable: cut, healed, counted.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Network;
use crate::tool;

/// Pulls the fabric's end: the host's own device stays up, as with a broken switch.
pub(crate) fn cut(fabric: &str, host: &str, network: Network) -> Result<()> {
    tool::run("ip", &["-n", fabric, "link", "set", &network.port(host), "down"])?;
    Ok(())
}

pub(crate) fn heal(fabric: &str, host: &str, network: Network) -> Result<()> {
    tool::run("ip", &["-n", fabric, "link", "set", &network.port(host), "up"])?;
    Ok(())
}

/// Bytes that went through a device so far, all headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

pub fn counters(namespace: &str, device: &str) -> Result<Counters> {
    let text = tool::run("ip", &["-n", namespace, "-s", "-j", "link", "show", "dev", device])?;
    let value: Value = serde_json::from_str(&text)?;
    let bytes = |direction: &str| {
        let path = format!("/0/stats64/{direction}/bytes");
        value.pointer(&path).and_then(Value::as_u64).with_context(|| format!("`ip` gives no counters of {device}"))
    };
    Ok(Counters { received_bytes: bytes("rx")?, sent_bytes: bytes("tx")? })
}
