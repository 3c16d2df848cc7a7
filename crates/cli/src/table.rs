//! Tables and sizes for people.

use comfy_table::{Table, presets};

pub fn print(heads: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.to_vec());
    for row in rows {
        table.add_row(row);
    }
    println!("{table}");
}

/// Name and value, a line each.
pub fn print_pairs(pairs: &[(&str, String)]) {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in pairs {
        println!("{name:width$}  {value}");
    }
}

pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// `1.05 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.*} {}", if value < 10.0 { 2 } else { 1 }, UNITS[unit]),
    }
}

pub fn rate(bps: u64) -> String {
    format!("{}/s", bytes(bps))
}

/// `340 ms`, `4.1 s`, `12 min`.
pub fn time_ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        let check = |have: String, want: &str| assert_eq!(have, want);
        check(bytes(0), "0 B");
        check(bytes(1023), "1023 B");
        check(bytes(1024), "1.00 KiB");
        check(bytes(1_127_428_915), "1.05 GiB");
        check(bytes(64 << 20), "64.0 MiB");
        check(rate(20 << 20), "20.0 MiB/s");
        check(time_ms(999), "999 ms");
        check(time_ms(4_100), "4.1 s");
        check(time_ms(720_000), "12 min");
    }
}
