//! The measurements for a person.

use std::fmt::Write;

use super::{
    Row,
    summary::{Digest, Ratio, Ratios, Spread, digests},
};

const MB: f64 = 1e6;

pub(super) fn render(rows: &[Row], ratios: &Ratios) -> String {
    let mut qemus: Vec<_> = rows.iter().map(|row| row.qemu.as_str()).collect();
    qemus.sort_unstable();
    qemus.dedup();
    let mut text = format!(
        "QEMU {}; median (least–most) of the runs whose guest was sound\n\
         scenario  link     subject   done  total s               downtime ms         wire MB  cpu s   writes  stall ms\n",
        qemus.join(", ")
    );
    for digest in digests(rows) {
        text.push_str(&line(&digest));
    }
    text.push('\n');
    for ratio in &ratios.ratios {
        text.push_str(&comparison(ratio));
    }
    for (link, ratio) in &ratios.back_over_idle {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "back, link {link}: {ratio:.2} of the time of an idle move");
    }
    for name in &ratios.unsound {
        let _ = writeln!(text, "NOT SOUND afterwards, and in no number above: {name}");
    }
    if let Some(bytes) = ratios.agent_rss_bytes_max {
        let _ = writeln!(text, "the most memory of any agent: {:.0} MB", bytes as f64 / MB);
    }
    text
}

fn line(digest: &Digest) -> String {
    let spread = |spread: Option<Spread>, digits: usize| match spread {
        Some(Spread { least, median, most }) => format!("{median:.digits$} ({least:.digits$}–{most:.digits$})"),
        None => "-".to_owned(),
    };
    let median = |spread: Option<Spread>, unit: f64, digits: usize| {
        spread.map_or("-".to_owned(), |spread| format!("{:.digits$}", spread.median / unit))
    };
    format!(
        "{:<9} {:<8} {:<9} {}/{}   {:<21} {:<19} {:<8} {:<7} {:<7} {}\n",
        digest.scenario.to_string(),
        digest.link.to_string(),
        digest.subject,
        digest.completed,
        digest.runs,
        spread(digest.total_s, 1),
        spread(digest.downtime_ms, 0),
        median(digest.wire_bytes, MB, 0),
        median(digest.cpu_s, 1.0, 1),
        median(digest.guest_write_ratio, 1.0, 2),
        median(digest.longest_stall_ms, 1.0, 0),
    )
}

fn comparison(ratio: &Ratio) -> String {
    let Some(faster) = ratio.times_faster else { return String::new() };
    let at_least = if ratio.peer_completed == Some(false) { "at least " } else { "" };
    let part = |name: &str, value: Option<f64>| {
        value.map_or(String::new(), |value| format!(", {name} {value:.2} of libvirt's"))
    };
    format!(
        "{}, link {}: {at_least}{faster:.1} times faster{}{}{}\n",
        ratio.scenario,
        ratio.link,
        part("downtime", ratio.downtime),
        part("bytes", ratio.wire_bytes),
        part("CPU", ratio.cpu),
    )
}
