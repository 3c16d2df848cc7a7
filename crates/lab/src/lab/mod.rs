//! A lab that is up: making it, finding it again, and what one may do to it.

pub(crate) mod commands;
mod faults;
pub mod hold;
mod options;
mod site;
mod use_it;
pub mod vast;

use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};

pub use faults::QemuKind;
pub use options::{HOSTS_DEFAULT, HostOptions, LabOptions};
pub use site::{BASE_DEFAULT, Cloud, GuestSite, HostSite, NAME_DEFAULT, Place, QemuOf, Site};
pub use use_it::Output;
pub(crate) use use_it::{EPHEMERAL_GB, GUEST_PREFIX, RAM_MB, SWAP_MB, working};

use crate::{
    daemons,
    net::{self, HostPort, Networks},
    process::ProcessId,
    record::{Made, Record},
    takedown,
};

/// Lets a lab that was dropped unended (a failed test or demo) stay, to be looked at.
const KEEP_VARIABLE: &str = "WHIMBREL_LAB_KEEP";

/// Stays after the process that made it, unless it was made with an owner: then dropping it takes it down.
pub struct Lab {
    place: Place,
    record: Record,
    /// Told to be taken down already.
    ended: bool,
}

impl Lab {
    /// Makes a lab. What a lab of the same place left behind goes first, and so do labs whose owner is gone.
    pub async fn up(options: LabOptions) -> Result<Lab> {
        check_rights()?;
        let place = options.place.clone();
        fs_err::create_dir_all(place.labs())?;
        let mut lab = {
            let _lock = lock(&place)?;
            sweep(&place)?;
            Lab::lay(&options)?
        };
        match lab.inhabit(&options).await {
            Ok(()) => Ok(lab),
            Err(error) => {
                let logs = daemons::last_words(lab.site());
                lab.take_down().context("and the lab could not be taken down")?;
                Err(error.context(logs))
            }
        }
    }

    /// Namespaces, cables and folders.
    fn lay(options: &LabOptions) -> Result<Lab> {
        let place = options.place.clone();
        if let Some(old) = Record::read(&place.record())? {
            if old.owner.is_none() && old.of_this_boot() && !takedown::processes(&old)?.is_empty() {
                bail!("the lab '{}' is up already; hint: `whimbrel lab status`, `whimbrel lab down`", place.name);
            }
            takedown::take_down(old)?;
        }
        let mut record = Record::new(place.record(), place.id(), options.owner)?;
        let site = plan(options)?;
        record.site = Some(site.clone());
        let mut lab = Lab { place, record, ended: false };
        match make(&mut lab.record, &site, options.vast) {
            Ok(()) => Ok(lab),
            Err(error) => {
                lab.take_down()?;
                Err(error)
            }
        }
    }

    async fn inhabit(&mut self, options: &LabOptions) -> Result<()> {
        if self.site().hosts.iter().any(|host| host.agent) {
            daemons::start_controller(self).await?;
            self.bootstrap().await?;
            if options.holds {
                self.site().hosts.iter().try_for_each(hold::allow)?;
            }
            daemons::start_agents(self).await?;
            if options.image {
                self.bring_guest_image(options.quiet).await?;
            }
        }
        Ok(())
    }

    pub fn open(place: &Place) -> Result<Lab> {
        let record = Record::read(&place.record())?;
        let record = record.filter(|record| record.site.is_some() && record.of_this_boot());
        let record = record.with_context(|| format!("there is no lab '{}'; hint: `whimbrel lab up`", place.name))?;
        Ok(Lab { place: place.clone(), record, ended: false })
    }

    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    /// Of any lab there ever was at this place; says whether there was one.
    pub(crate) fn down_at(place: &Place) -> Result<bool> {
        check_rights()?;
        if !place.labs().exists() {
            return Ok(false);
        }
        let _lock = lock(place)?;
        match Record::read(&place.record())? {
            Some(record) => takedown::take_down(record).map(|()| true),
            None => Ok(false),
        }
    }

    fn take_down(&mut self) -> Result<()> {
        self.ended = true;
        takedown::take_down(self.record.clone())
    }

    pub fn site(&self) -> &Site {
        // Both ways to a Lab set it.
        self.record.site.as_ref().expect("a lab has a site")
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// Notes a process; what had the same purpose before is forgotten.
    pub(crate) fn note(&mut self, what: &str, id: ProcessId) -> Result<()> {
        self.record.made.retain(|made| !matches!(made, Made::Process { what: other, .. } if other == what));
        self.record.add(Made::Process { what: what.to_owned(), id })
    }

    /// The process of that purpose, if it runs.
    pub fn process(&self, what: &str) -> Option<ProcessId> {
        self.record.made.iter().find_map(|made| match made {
            Made::Process { what: other, id } if other == what && id.alive() => Some(*id),
            Made::Process { .. } | Made::Dir(_) | Made::Mount(_) | Made::Namespace(_) | Made::Link(_) => None,
        })
    }

    pub(crate) fn change_site(&mut self, change: impl FnOnce(&mut Site)) -> Result<()> {
        if let Some(site) = self.record.site.as_mut() {
            change(site);
        }
        self.record.save()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.ended || self.record.owner != Some(ProcessId::own()) {
            return;
        }
        if std::env::var_os(KEEP_VARIABLE).is_some() {
            eprintln!("{KEEP_VARIABLE} is set: what is left lies in {} until the next lab", self.place.dir().display());
            return;
        }
        if let Err(error) = self.take_down() {
            tracing::error!("cannot take down lab '{}': {error:#}; hint: `whimbrel lab down`", self.place.name);
        }
    }
}

fn plan(options: &LabOptions) -> Result<Site> {
    let (id, dir, run_dir) = (options.place.id(), options.place.dir(), options.place.run_dir());
    let host = |(index, host): (usize, &HostOptions)| HostSite {
        name: host.name.clone(),
        index: index as u8,
        namespace: format!("wb-{id}-{}", host.name),
        dir: dir.join(&host.name),
        run_dir: run_dir.join(&host.name),
        qemu: host.qemu.clone(),
        agent: host.agent,
        shared_dir: host.shared_dir.clone(),
    };
    Ok(Site {
        networks: Networks::free()?,
        fabric: format!("wb-{id}-fabric"),
        root_link: format!("wb-{id}"),
        hosts: options.hosts.iter().enumerate().map(host).collect(),
        dir,
        run_dir,
        link: options.link,
        guests: Vec::new(),
        cloud: None,
    })
}

fn make(record: &mut Record, site: &Site, vast: bool) -> Result<()> {
    let hosts = site.hosts.iter().flat_map(|host| [host.dir.clone(), host.run_dir.clone()]);
    for dir in [site.dir.clone(), site.run_dir.clone(), site.controller_dir()].into_iter().chain(hosts) {
        record.add(Made::Dir(dir.clone()))?;
        fs_err::create_dir(&dir)?;
    }
    if vast {
        site.hosts.iter().try_for_each(|host| vast::mount(record, host))?;
    }
    let hint = "cannot lay the lab's network; hint: this needs root, iproute2 and a kernel with network namespaces";
    net::make_fabric(record, &site.fabric, &site.networks).context(hint)?;
    net::make_root_link(record, &site.root_link, &site.fabric, &site.networks).context(hint)?;
    for host in &site.hosts {
        let port = HostPort { namespace: &host.namespace, host: &host.name, index: host.index, rate: site.link };
        net::make_host(record, &port, &site.fabric, &site.networks).context(hint)?;
    }
    Ok(())
}

fn check_rights() -> Result<()> {
    if !geteuid().is_root() {
        bail!("a lab makes network namespaces, which only root may; hint: run this as root");
    }
    Ok(())
}

/// One lab at a time is laid or taken down, so that two never choose the same addresses.
fn lock(place: &Place) -> Result<Flock<std::fs::File>> {
    let path = place.labs().join("lock");
    let file = fs_err::OpenOptions::new().create(true).append(true).open(&path)?.into_parts().0;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// Takes down labs whose owner ended without doing so.
fn sweep(place: &Place) -> Result<()> {
    for entry in fs_err::read_dir(place.labs())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            sweep_one(&path)?;
        }
    }
    Ok(())
}

fn sweep_one(path: &Path) -> Result<()> {
    let Some(record) = Record::read(path)? else { return Ok(()) };
    let orphan = record.owner.is_some_and(|owner| !record.of_this_boot() || !owner.alive());
    if orphan { takedown::take_down(record) } else { Ok(()) }
}
