//! What the kernel command line tells the program. It is the only input before the peer can be reached, and the only one
//! at all in a guest without a network.

use std::net::SocketAddr;

use crate::wire::Rates;

const PREFIX: &str = "whimbrel.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub name: String,
    pub peer: Option<SocketAddr>,
    pub rates: Rates,
    pub ram_mb: u32,
    pub region_mb: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        let rates = Rates { write_bps: 0, fsync_hz: 10, ram_bps: 1_000_000 };
        Parameters { name: "guest".into(), peer: None, rates, ram_mb: 64, region_mb: 512 }
    }
}

/// Words that are not ours are the kernel's. A word of ours that makes no sense is an error: a guest that silently did
/// something else than asked would make every measurement of it wrong.
pub fn parse(command_line: &str) -> Result<Parameters, String> {
    let mut parameters = Parameters::default();
    for word in command_line.split_whitespace() {
        let Some((key, value)) = word.strip_prefix(PREFIX).and_then(|word| word.split_once('=')) else { continue };
        match key {
            "name" => parameters.name = value.to_owned(),
            "peer" => parameters.peer = Some(number(word, value)?),
            "write_bps" => parameters.rates.write_bps = number(word, value)?,
            "fsync_hz" => parameters.rates.fsync_hz = number(word, value)?,
            "ram_bps" => parameters.rates.ram_bps = number(word, value)?,
            "ram_mb" => parameters.ram_mb = number(word, value)?,
            "region_mb" => parameters.region_mb = number(word, value)?,
            // For /init.
            "ip" => (),
            _ => return Err(format!("'{word}' is no parameter")),
        }
    }
    Ok(parameters)
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("'{word}' has no valid value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_taken_the_kernels_are_left() {
        let line = "console=ttyS0 quiet whimbrel.ip=10.0.0.2/24 whimbrel.peer=10.0.0.1:7 whimbrel.write_bps=20000000";
        let parameters = parse(line).unwrap();
        assert_eq!(parameters.peer, Some(([10, 0, 0, 1], 7).into()));
        assert_eq!(parameters.rates.write_bps, 20_000_000);
        assert_eq!(parameters.ram_mb, Parameters::default().ram_mb);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["whimbrel.writebps=1", "whimbrel.write_bps=1M", "whimbrel.peer=here"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
