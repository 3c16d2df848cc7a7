//! Medians and the ratios of the last row.

use serde::Serialize;

use super::{Row, Scenario};
use crate::net::LinkRate;

/// One scenario over one link, Whimbrel against its peer. Every figure is a ratio of medians.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) scenario: String,
    pub(super) link: String,
    /// libvirt's time over ours; at least that where `peer_completed` is false.
    pub(super) times_faster: Option<f64>,
    pub(super) peer_completed: Option<bool>,
    /// Ours over libvirt's.
    pub(super) downtime: Option<f64>,
    pub(super) wire_bytes: Option<f64>,
    pub(super) cpu: Option<f64>,
    pub(super) guest_write: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Ratios {
    pub(super) ratios: Vec<Ratio>,
    /// Time of the way back over that of the idle move, by link.
    pub(super) back_over_idle: Vec<(String, f64)>,
    /// The most bytes of disks that any way back took, ours.
    pub(super) back_disk_bytes_max: Option<u64>,
    /// The most memory that any agent had resident.
    pub(super) agent_rss_bytes_max: Option<u64>,
    /// Runs whose guest was not sound afterwards: no number of theirs is in any ratio.
    pub(super) unsound: Vec<String>,
}

/// Medians and extremes of what one subject did in one setting, of the runs whose guest was sound or did not arrive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Digest {
    pub(super) scenario: Scenario,
    pub(super) link: LinkRate,
    pub(super) subject: String,
    pub(super) runs: usize,
    /// Those that are counted: their guest was sound, or did not arrive in time.
    pub(super) counted: usize,
    pub(super) completed: usize,
    pub(super) total_s: Option<Spread>,
    pub(super) downtime_ms: Option<Spread>,
    pub(super) wire_bytes: Option<Spread>,
    pub(super) cpu_s: Option<Spread>,
    pub(super) guest_write_ratio: Option<Spread>,
    pub(super) longest_stall_ms: Option<Spread>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            values.get(middle.checked_sub(1)?)?.midpoint(*values.get(middle)?)
        } else {
            *values.get(middle)?
        };
        Some(Spread { least: *values.first()?, median, most: *values.last()? })
    }
}

/// One for each setting and subject, in order of the rows.
pub(super) fn digests(rows: &[Row]) -> Vec<Digest> {
    let same =
        |row: &Row, other: &Row| (row.scenario, row.link, &row.subject) == (other.scenario, other.link, &other.subject);
    let firsts = rows.iter().enumerate().filter(|(at, row)| !rows[..*at].iter().any(|before| same(before, row)));
    firsts.filter_map(|(_, first)| digest(&rows.iter().filter(|row| same(row, first)).collect::<Vec<_>>())).collect()
}

fn digest(rows: &[&Row]) -> Option<Digest> {
    let first = rows.first()?;
    let sound: Vec<_> = rows.iter().filter(|row| !row.unsound()).collect();
    let completed: Vec<_> = sound.iter().filter(|row| row.completed).collect();
    Some(Digest {
        scenario: first.scenario,
        link: first.link,
        subject: first.subject.clone(),
        runs: rows.len(),
        counted: sound.len(),
        completed: completed.len(),
        total_s: Spread::of(sound.iter().map(|row| row.total_s)),
        downtime_ms: Spread::of(completed.iter().filter_map(|row| row.downtime_ms)),
        wire_bytes: Spread::of(sound.iter().map(|row| row.wire_bytes as f64)),
        cpu_s: Spread::of(sound.iter().map(|row| row.cpu_s)),
        guest_write_ratio: Spread::of(sound.iter().filter_map(|row| row.guest_write_ratio)),
        longest_stall_ms: Spread::of(sound.iter().map(|row| row.longest_stall_ms as f64)),
    })
}

pub(super) fn ratios(rows: &[Row]) -> Ratios {
    let digests = digests(rows);
    let (ours, peers): (Vec<_>, Vec<_>) = digests.iter().partition(|digest| digest.subject == "whimbrel");
    let peer_of = |our: &Digest| peers.iter().find(|peer| (peer.scenario, peer.link) == (our.scenario, our.link));
    let idle_of = |back: &Digest| ours.iter().find(|our| our.scenario == Scenario::Idle && our.link == back.link);
    let backs = || ours.iter().filter(|our| our.scenario == Scenario::Back);
    let over_idle = |back: &&Digest| {
        Some((back.link.to_string(), over(back.total_s, idle_of(back).and_then(|idle| idle.total_s))?))
    };
    let our_back_rows =
        rows.iter().filter(|row| row.subject == "whimbrel" && row.scenario == Scenario::Back && !row.unsound());
    Ratios {
        ratios: ours.iter().map(|our| ratio(our, peer_of(our).copied())).collect(),
        back_over_idle: backs().filter_map(over_idle).collect(),
        back_disk_bytes_max: our_back_rows.filter_map(|row| row.disk_bytes).max(),
        agent_rss_bytes_max: rows.iter().filter_map(|row| row.agent_rss_bytes).max(),
        unsound: rows.iter().filter(|row| row.unsound()).map(name).collect(),
    }
}

fn name(row: &Row) -> String {
    format!("{} over link {}, {}, repetition {}", row.scenario, row.link, row.subject, row.repetition)
}

/// A ratio of medians.
fn over(one: Option<Spread>, other: Option<Spread>) -> Option<f64> {
    let (one, other) = (one?.median, other?.median);
    (other > 0.0).then(|| one / other)
}

fn ratio(our: &Digest, peer: Option<&Digest>) -> Ratio {
    let all_ours = our.completed == our.runs;
    Ratio {
        scenario: our.scenario.to_string(),
        link: our.link.to_string(),
        times_faster: peer.filter(|_| all_ours).and_then(|peer| over(peer.total_s, our.total_s)),
        peer_completed: peer.map(|peer| peer.completed > 0 && peer.completed == peer.counted),
        downtime: over(our.downtime_ms, peer.and_then(|peer| peer.downtime_ms)),
        wire_bytes: over(our.wire_bytes, peer.and_then(|peer| peer.wire_bytes)),
        cpu: over(our.cpu_s, peer.and_then(|peer| peer.cpu_s)),
        guest_write: over(our.guest_write_ratio, peer.and_then(|peer| peer.guest_write_ratio)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: Scenario, subject: &str, total_s: f64, completed: bool) -> Row {
        Row {
            scenario,
            link: LinkRate::UNSHAPED,
            subject: subject.to_owned(),
            repetition: 1,
            qemu: "10.0.8".to_owned(),
            completed,
            total_s,
            downtime_ms: completed.then_some(total_s * 10.0),
            wire_bytes: 1000,
            cpu_s: total_s,
            receipt_cpu_s: None,
            guest_write_ratio: None,
            longest_stall_ms: 1,
            disk_bytes: Some(7),
            agent_rss_bytes: None,
            guest_sound: completed.then_some(true),
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        let check = |values: &[f64], median: Option<f64>| {
            assert_eq!(Spread::of(values.iter().copied()).map(|spread| spread.median), median, "{values:?}");
        };
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 9.0], Some(3.0));
    }

    #[test]
    fn ratios_compare_the_same_setting_only() {
        let rows = [
            row(Scenario::Idle, "whimbrel", 4.0, true),
            row(Scenario::Idle, "libvirt", 12.0, true),
            row(Scenario::Idle, "whimbrel", 6.0, true),
            row(Scenario::Write60, "whimbrel", 10.0, true),
            row(Scenario::Write60, "libvirt", 240.0, false),
            row(Scenario::Back, "whimbrel", 1.0, true),
        ];
        let found = ratios(&rows);
        assert_eq!(found.ratios.len(), 3);
        assert_eq!(found.ratios[0].times_faster, Some(12.0 / 5.0));
        assert_eq!(found.ratios[0].peer_completed, Some(true));
        assert_eq!(found.ratios[1].times_faster, Some(24.0));
        assert_eq!(found.ratios[1].peer_completed, Some(false));
        assert_eq!(found.ratios[1].downtime, None, "libvirt has none to compare with");
        assert_eq!(found.ratios[2].times_faster, None, "nobody to compare with");
        assert_eq!(found.back_over_idle, [("none".to_owned(), 0.2)]);
        assert_eq!(found.back_disk_bytes_max, Some(7));
    }

    #[test]
    fn no_speed_is_claimed_for_a_move_of_ours_that_did_not_finish() {
        let rows = [row(Scenario::Idle, "whimbrel", 240.0, false), row(Scenario::Idle, "libvirt", 12.0, true)];
        assert_eq!(ratios(&rows).ratios[0].times_faster, None);
    }

    #[test]
    fn a_guest_that_is_not_sound_counts_for_nobody_and_is_named() {
        let unsound = |subject: &str, total_s: f64| Row {
            guest_sound: Some(false),
            repetition: 2,
            ..row(Scenario::Idle, subject, total_s, false)
        };
        let check = |rows: &[&Row], times_faster: Option<f64>, peer_completed: bool, names: &[&str]| {
            let rows: Vec<Row> = rows.iter().map(|row| (*row).clone()).collect();
            let found = ratios(&rows);
            assert_eq!(found.ratios[0].times_faster, times_faster, "{rows:?}");
            assert_eq!(found.ratios[0].peer_completed, Some(peer_completed), "{rows:?}");
            assert_eq!(found.unsound, names);
        };
        let (ours, peer) = (row(Scenario::Idle, "whimbrel", 4.0, true), row(Scenario::Idle, "libvirt", 12.0, true));
        check(&[&ours, &peer], Some(3.0), true, &[]);
        let (theirs_lost, ours_lost) = (unsound("libvirt", 400.0), unsound("whimbrel", 0.1));
        let (theirs_named, ours_named) =
            ("idle over link none, libvirt, repetition 2", "idle over link none, whimbrel, repetition 2");
        check(&[&ours, &peer, &theirs_lost], Some(3.0), true, &[theirs_named]);
        check(&[&ours, &theirs_lost], None, false, &[theirs_named]);
        check(&[&ours, &ours_lost, &peer], None, true, &[ours_named]);
        check(&[&ours_lost, &peer], None, true, &[ours_named]);
    }
}
