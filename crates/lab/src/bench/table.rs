//! The measurements for a person.

use std::fmt::Write;

use super::{
    Row,
    summary::{Digest, Ratio, Ratios, Spread, digests},
};

const MB: f64 = 1e6;

pub(super) fn render(rows: &[Row], ratios: &Ratios) -> String {
    let mut text = String::from(
        "median (least–most)\nscenario  link     subject   done  total s               downtime ms         wire MB  \
         cpu s   writes  stall ms\n",
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
    let writes = digest.guest_write_ratio.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median));
    format!(
        "{:<9} {:<8} {:<9} {}/{}   {:<21} {:<19} {:<8.0} {:<7.1} {writes:<7} {:.0}\n",
        digest.scenario.to_string(),
        digest.link.to_string(),
        digest.subject,
        digest.completed,
        digest.runs,
        spread(Some(digest.total_s), 1),
        spread(digest.downtime_ms, 0),
        digest.wire_bytes.median / MB,
        digest.cpu_s.median,
        digest.longest_stall_ms.median,
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
