//! The host's processors as `/proc/cpuinfo` tells them, in the fields of Nova.

use std::collections::BTreeSet;

use whimbrel_core::host::{CpuInfo, CpuTopology};

const CPUINFO: &str = "/proc/cpuinfo";
/// Vendors as libvirt, and therefore Nova, calls them.
const VENDORS: [(&str, &str); 2] = [("GenuineIntel", "Intel"), ("AuthenticAMD", "AMD")];
/// Of x86 and of others.
const FEATURES: [&str; 2] = ["flags", "Features"];

/// They do not change while the host is up.
pub fn read() -> CpuInfo {
    parse(&fs_err::read_to_string(CPUINFO).unwrap_or_default())
}

fn parse(text: &str) -> CpuInfo {
    let entries: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim())).collect();
    let first = |wanted: &str| entries.iter().find(|(key, _)| *key == wanted).map_or("", |(_, value)| *value);
    let features: BTreeSet<&str> = FEATURES.iter().flat_map(|name| first(name).split_ascii_whitespace()).collect();
    let vendor = first("vendor_id");
    let known = VENDORS.iter().find(|(told, _)| *told == vendor).map(|(_, name)| *name);
    CpuInfo {
        vendor: known.unwrap_or(vendor).to_owned(),
        model: first("model name").to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        features: features.into_iter().map(str::to_owned).collect(),
        topology: topology(&entries),
    }
}

/// Where the kernel does not tell how they belong together, each processor is a core of one socket.
fn topology(entries: &[(&str, &str)]) -> CpuTopology {
    let all = |wanted: &'static str| entries.iter().filter(move |(key, _)| *key == wanted).map(|(_, value)| *value);
    let number = |wanted| all(wanted).next().and_then(|value| value.parse::<u32>().ok()).filter(|number| *number > 0);
    let processors = u32::try_from(all("processor").count()).unwrap_or(u32::MAX).max(1);
    let sockets = u32::try_from(all("physical id").collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX).max(1);
    let per_socket = number("siblings").unwrap_or(processors / sockets).max(1);
    let cores = number("cpu cores").unwrap_or(per_socket);
    CpuTopology { sockets, cores, threads: (per_socket / cores).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(number: u32, socket: u32) -> String {
        format!(
            "processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.20GHz\n\
             physical id\t: {socket}\nsiblings\t: 4\ncpu cores\t: 2\nflags\t\t: vmx fpu aes\npower management:\n\n"
        )
    }

    #[test]
    fn processors_are_told_in_novas_fields() {
        let text: String = (0..8).map(|number| processor(number, number / 4)).collect();
        let info = parse(&text);
        assert_eq!((info.vendor.as_str(), info.model.as_str()), ("Intel", "Intel(R) Xeon(R) CPU @ 2.20GHz"));
        assert_eq!(info.features, ["aes", "fpu", "vmx"]);
        assert_eq!(info.topology, CpuTopology { sockets: 2, cores: 2, threads: 2 });
    }

    #[test]
    fn what_is_not_told_is_empty() {
        let check = |text: &str, vendor: &str, topology: CpuTopology| {
            let info = parse(text);
            assert_eq!((info.vendor.as_str(), info.topology), (vendor, topology), "{text:?}");
        };
        check("", "", CpuTopology { sockets: 1, cores: 1, threads: 1 });
        let others = "processor : 0\nFeatures : fp asimd\n\nprocessor : 1\nFeatures : fp asimd\n";
        check(others, "", CpuTopology { sockets: 1, cores: 2, threads: 1 });
        check(
            "processor : 0\nvendor_id : Other\ncpu cores : 0\n",
            "Other",
            CpuTopology { sockets: 1, cores: 1, threads: 1 },
        );
        assert_eq!(parse(others).features, ["asimd", "fp"]);
        assert!(read().topology.sockets > 0);
    }
}
