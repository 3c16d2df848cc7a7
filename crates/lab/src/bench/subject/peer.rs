//! libvirt as a subject.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::{Way, Went};
use crate::{
    image::{BootLine, GuestImage},
    lab::{GUEST_PREFIX, GuestSite, Lab, working},
    libvirt::{self, Daemon, Disks, Domain},
    wait,
};

const BOOT_TIME_MAX: Duration = Duration::from_secs(120);

pub(in crate::bench) struct Pair {
    daemons: [Daemon; 2],
    image: GuestImage,
}

impl Pair {
    pub(super) async fn start(lab: &mut Lab, [first, second]: [&str; 2], image: GuestImage) -> Result<Pair> {
        let daemons = [Daemon::start(lab, first).await?, Daemon::start(lab, second).await?];
        Ok(Pair { daemons, image })
    }

    pub(super) fn namespaces(&self) -> [String; 2] {
        self.daemons.each_ref().map(|daemon| daemon.namespace().to_owned())
    }

    /// Folder of the programs that both daemons run.
    pub(super) fn qemu(&self) -> &Path {
        &self.daemons[0].qemu
    }

    pub(super) async fn boot(&self, lab: &mut Lab, mut line: BootLine) -> Result<GuestSite> {
        let guest = lab.start_peer(&line.name).await?;
        line.ip = Some((guest.address, GUEST_PREFIX));
        line.peer = Some(guest.peer);
        let domain = Domain { image: self.image.clone(), line };
        libvirt::make_disks(&self.image, &self.daemons[0], Disks::Fresh)?;
        domain.start(&self.daemons[0]).await?;
        let works = async || Ok(working(&guest).await?.then_some(()));
        wait::until_async("libvirt's guest at work", BOOT_TIME_MAX, works).await?;
        Ok(guest)
    }

    pub(super) async fn go(&self, way: Way, time_max: Duration) -> Result<Went> {
        let [first, second] = &self.daemons;
        let (source, target) = match way {
            Way::There => (first, second),
            Way::Back => (second, first),
        };
        libvirt::make_disks(&self.image, target, Disks::Empty)?;
        let outcome = libvirt::migrate(source, target, time_max).await?;
        Ok(Went {
            completed: outcome.completed,
            total: outcome.total,
            downtime_ms: outcome.downtime_ms,
            ..Went::default()
        })
    }

    pub(super) async fn clear(&self) -> Result<()> {
        for daemon in &self.daemons {
            daemon.clear().await?;
        }
        Ok(())
    }
}
