//! The two subjects: how each gets the guest, moves it and is cleared away.

mod ours;
mod peer;

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Row, Scenario, Setting, meter, scenario::CHANGES_BYTES};
use crate::{
    guest::TASK_TIME_MAX,
    image::{BootLine, GuestImage},
    lab::{GuestSite, Lab},
    peer::PeerControl,
    tool,
};

const GUEST: &str = "bench";
const QEMU: &str = "qemu-system-x86_64";
/// What does not end by then does not end.
const MOVE_TIME_MAX: Duration = Duration::from_secs(240);

pub(super) enum Subject {
    Whimbrel,
    Libvirt(Box<peer::Pair>),
}

/// A direction; `There` is from the first host to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// What the subject itself says of a move.
#[derive(Clone, Debug, Default)]
struct Went {
    completed: bool,
    total: Duration,
    downtime_ms: Option<f64>,
    receipt_cpu_s: Option<f64>,
    disk_bytes: Option<u64>,
    agent_rss_bytes: Option<u64>,
}

impl Subject {
    pub(super) async fn libvirt(lab: &mut Lab, hosts: [&str; 2], image: GuestImage) -> Result<Subject> {
        Ok(Subject::Libvirt(Box::new(peer::Pair::start(lab, hosts, image).await?)))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Subject::Whimbrel => "whimbrel",
            Subject::Libvirt(_) => "libvirt",
        }
    }

    fn qemu_version(&self, lab: &Lab) -> Result<String> {
        let folder = match self {
            Subject::Whimbrel => &lab.site().host(ours::HOSTS[0])?.qemu,
            Subject::Libvirt(pair) => pair.qemu(),
        };
        let said = tool::run(&folder.join(QEMU).display().to_string(), &["--version"])?;
        version(&said).with_context(|| format!("{QEMU} in {} does not tell its version: {said}", folder.display()))
    }

    /// Namespaces of source and target.
    fn namespaces(&self, lab: &Lab, way: Way) -> Result<[String; 2]> {
        let [first, second] = match self {
            Subject::Whimbrel => ours::HOSTS.map(|host| lab.site().host(host).map(|host| host.namespace.clone())),
            Subject::Libvirt(pair) => pair.namespaces().map(Ok),
        };
        Ok(match way {
            Way::There => [first?, second?],
            Way::Back => [second?, first?],
        })
    }

    /// Boots the guest on the first host; nothing of it is on the second.
    async fn boot(&self, lab: &mut Lab, line: BootLine) -> Result<GuestSite> {
        match self {
            Subject::Whimbrel => ours::boot(lab, line).await,
            Subject::Libvirt(pair) => pair.boot(lab, line).await,
        }
    }

    async fn go(&self, lab: &Lab, way: Way) -> Result<Went> {
        match self {
            Subject::Whimbrel => ours::go(lab, way, GUEST, MOVE_TIME_MAX).await,
            Subject::Libvirt(pair) => pair.go(way, MOVE_TIME_MAX).await,
        }
    }

    async fn clear(&self, lab: &mut Lab) -> Result<()> {
        match self {
            Subject::Whimbrel => ours::clear(lab, GUEST).await?,
            Subject::Libvirt(pair) => pair.clear().await?,
        }
        lab.stop_peer(GUEST)
    }
}

pub(super) async fn measure(lab: &mut Lab, subject: &Subject, setting: Setting, repetition: u32) -> Result<Row> {
    let what = || format!("{setting}, {}", subject.name());
    let line = BootLine { name: GUEST.to_owned(), rates: setting.scenario.rates(), ..BootLine::default() };
    let guest = subject.boot(lab, line).await.with_context(what)?;
    meter::warm(&guest).await.with_context(what)?;
    let row = watched(lab, subject, setting, repetition, &guest).await.with_context(what)?;
    subject.clear(lab).await.with_context(what)?;
    Ok(row)
}

async fn watched(lab: &Lab, subject: &Subject, setting: Setting, repetition: u32, guest: &GuestSite) -> Result<Row> {
    let way = match setting.scenario {
        Scenario::Idle | Scenario::Write20 | Scenario::Write60 | Scenario::Api => Way::There,
        Scenario::Back => {
            subject.go(lab, Way::There).await.context("on the way there")?;
            PeerControl::connect(&guest.control).await?.write_changes(CHANGES_BYTES, TASK_TIME_MAX).await?;
            Way::Back
        }
    };
    let [source, target] = subject.namespaces(lab, way)?;
    let watch = meter::Watch::begin(guest, &source, &target).await?;
    let went = subject.go(lab, way).await?;
    let seen = watch.end().await?;
    let guest_sound = match went.completed {
        true => Some(PeerControl::connect(&guest.control).await?.verify(TASK_TIME_MAX, false).await?.sound()),
        false => None,
    };
    Ok(Row {
        scenario: setting.scenario,
        link: setting.link,
        subject: subject.name().to_owned(),
        repetition,
        qemu: subject.qemu_version(lab)?,
        completed: went.completed && seen.connected && guest_sound == Some(true),
        total_s: went.total.as_secs_f64(),
        downtime_ms: went.downtime_ms,
        wire_bytes: seen.wire_bytes,
        cpu_s: seen.cpu_s,
        receipt_cpu_s: went.receipt_cpu_s,
        // What an idle guest changed on order says nothing of a rate.
        guest_write_ratio: seen.guest_write_ratio.filter(|_| setting.scenario.rates().write_bps > 0),
        longest_stall_ms: seen.longest_stall_ms,
        disk_bytes: went.disk_bytes,
        agent_rss_bytes: went.agent_rss_bytes,
        guest_sound,
    })
}

/// `QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u15)`
fn version(said: &str) -> Option<String> {
    said.split_once("version ")?.1.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_qemu_says() {
        let check = |said: &str, want: Option<&str>| assert_eq!(version(said).as_deref(), want, "{said}");
        check("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u15)\nCopyright\n", Some("7.2.19"));
        check("QEMU emulator version 10.0.8\n", Some("10.0.8"));
        check("QEMU emulator version ", None);
        check("sh: not found", None);
    }
}
