//! Rates of links. A rate holds for what leaves a host; between two hosts each direction is what leaves one of them.

use std::{fmt, str::FromStr};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::tool;

/// As a user would shape the libvirt peer: the same bucket for every subject of a measurement.
const BUCKET: [&str; 4] = ["burst", "1mb", "latency", "20ms"];

/// Bits per second, or as fast as the machine can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkRate(Option<u64>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no rate; hint: `none`, or a whole number with kbit, mbit or gbit, such as 1gbit")]
pub struct BadRate(String);

const UNITS: [(&str, u64); 3] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000)];

impl LinkRate {
    pub const UNSHAPED: LinkRate = LinkRate(None);

    pub fn link_bps(self) -> Option<u64> {
        self.0
    }
}

impl FromStr for LinkRate {
    type Err = BadRate;
    fn from_str(text: &str) -> Result<Self, BadRate> {
        if text == "none" {
            return Ok(LinkRate::UNSHAPED);
        }
        let bad = || BadRate(text.to_owned());
        let parse = |(unit, factor): &(&str, u64)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*factor).filter(|&bits| bits > 0)
        };
        UNITS.iter().find_map(parse).map(|bits| LinkRate(Some(bits))).ok_or_else(bad)
    }
}
impl TryFrom<String> for LinkRate {
    type Error = BadRate;
    fn try_from(text: String) -> Result<Self, BadRate> {
        text.parse()
    }
}
impl From<LinkRate> for String {
    fn from(rate: LinkRate) -> String {
        rate.to_string()
    }
}
impl fmt::Display for LinkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bits) = self.0 else { return f.write_str("none") };
        match UNITS.iter().find(|(_, factor)| bits.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", bits / factor),
            None => write!(f, "{bits}bit"),
        }
    }
}

/// What to do with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    Rate(LinkRate),
    Cut,
    Heal,
}

impl FromStr for LinkChange {
    type Err = BadRate;
    fn from_str(text: &str) -> Result<Self, BadRate> {
        match text {
            "cut" => Ok(LinkChange::Cut),
            "heal" => Ok(LinkChange::Heal),
            rate => rate.parse().map(LinkChange::Rate),
        }
    }
}

/// Gives a device of a namespace this rate, whatever it had before.
pub(crate) fn shape(namespace: &str, device: &str, rate: LinkRate) -> Result<()> {
    let base = ["-n", namespace, "qdisc"];
    match rate.link_bps() {
        Some(bits) => {
            let bits = format!("{bits}bit");
            let wanted = ["replace", "dev", device, "root", "tbf", "rate", &bits];
            tool::run("tc", &[&base[..], &wanted, &BUCKET].concat())?;
        }
        None => {
            let present = tool::run("tc", &[&base[..], &["show", "dev", device]].concat())?;
            if present.contains("qdisc tbf") {
                tool::run("tc", &[&base[..], &["del", "dev", device, "root"]].concat())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        let check = |text: &str, want: Option<LinkRate>| {
            assert_eq!(text.parse::<LinkRate>().ok(), want, "{text}");
            if let Some(rate) = want {
                assert_eq!(rate.to_string().parse(), Ok(rate), "{text}");
            }
        };
        check("none", Some(LinkRate::UNSHAPED));
        check("1gbit", Some(LinkRate(Some(1_000_000_000))));
        check("1500mbit", Some(LinkRate(Some(1_500_000_000))));
        check("56kbit", Some(LinkRate(Some(56_000))));
        for bad in ["", "1", "0mbit", "-1gbit", "1 gbit", "gbit", "1gib", "cut", "99999999999gbit"] {
            check(bad, None);
        }
        assert_eq!("cut".parse(), Ok(LinkChange::Cut));
        assert_eq!("heal".parse(), Ok(LinkChange::Heal));
        assert_eq!("none".parse(), Ok(LinkChange::Rate(LinkRate::UNSHAPED)));
        assert!("mend".parse::<LinkChange>().is_err());
    }
}
