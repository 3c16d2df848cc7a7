//! Where a network is on every host: a bridge, and a VLAN of it or none.

use super::refusal::Refusal;

pub const VLAN_MIN: u16 = 1;
/// 4095 is reserved by IEEE 802.1Q.
pub const VLAN_MAX: u16 = 4094;
/// The least that IPv4 works with.
pub const MTU_MIN: u32 = 68;
pub const MTU_MAX: u32 = 65_535;
pub const MTU_DEFAULT: u32 = 1_500;
/// Linux's IFNAMSIZ less the zero at the end.
const BRIDGE_BYTES_MAX: usize = 15;
const SHOWN_CHARS_MAX: usize = 40;

/// The name of a bridge, as it may stand on a command line.
pub fn bridge(name: &str) -> Result<String, Refusal> {
    let good = (1..=BRIDGE_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && !name.starts_with(['-', '.']);
    if good {
        return Ok(name.to_owned());
    }
    Err(Refusal::BadBridge(name.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()))
}

pub fn vlan(number: i64) -> Result<u16, Refusal> {
    let vlan = u16::try_from(number).ok().filter(|vlan| (VLAN_MIN..=VLAN_MAX).contains(vlan));
    vlan.ok_or(Refusal::BadVlan(number))
}

pub fn mtu(number: i64) -> Result<u32, Refusal> {
    let mtu = u32::try_from(number).ok().filter(|mtu| (MTU_MIN..=MTU_MAX).contains(mtu));
    mtu.ok_or(Refusal::BadMtu(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_is_what_the_kernel_takes() {
        let check = |name: &str, good: bool| assert_eq!(bridge(name).is_ok(), good, "{name:?}");
        check("br0", true);
        check("br-ex.5_a", true);
        check("", false);
        check("br 0", false);
        check("--help", false);
        check(".", false);
        check("abcdefghijklmnop", false);
        for (number, good) in [(0, false), (1, true), (4094, true), (4095, false), (-1, false), (1 << 40, false)] {
            assert_eq!(vlan(number).is_ok(), good, "{number}");
        }
        for (number, good) in [(67, false), (68, true), (9000, true), (65_535, true), (65_536, false), (-1, false)] {
            assert_eq!(mtu(number).is_ok(), good, "{number}");
        }
    }
}
