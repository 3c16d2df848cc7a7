//! Holds an agent at a named place of a move, so that a fault strikes there and nowhere else.
//!
//! The agent looks for holds only where its state directory had a folder for them when it started: see `holds` of
//! [`super::LabOptions`].

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};

use super::{HostSite, Lab};
use crate::wait;

/// A place at which an agent can be held, in the order in which a move comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Target
    MakingRoom,
    /// Source
    Image,
    /// Source
    RoundZero,
    /// Target
    QemuStarts,
    /// Source
    Ram,
    /// Source, and the guest is stopped
    LastRound,
    /// Source, and the guest is stopped
    StateSent,
    /// Target, which has the guest and has not let it run
    Owned,
}

impl Place {
    fn file(self) -> &'static str {
        match self {
            Place::MakingRoom => "making-room",
            Place::Image => "image",
            Place::RoundZero => "round-0",
            Place::QemuStarts => "qemu-starts",
            Place::Ram => "ram",
            Place::LastRound => "last-round",
            Place::StateSent => "state-sent",
            Place::Owned => "owned",
        }
    }
}

/// Ends when it is dropped.
pub struct Hold {
    place: Place,
    wanted: PathBuf,
    held: PathBuf,
}

impl Lab {
    /// The next move that comes to `place` with this host's agent waits there.
    pub fn hold(&self, host: &str, place: Place) -> Result<Hold> {
        let dir = dir_of(self.site().host(host)?);
        if !dir.exists() {
            bail!("the agent of host '{host}' was not started with holds; hint: `holds` of the lab's options");
        }
        let wanted = dir.join(place.file());
        let held = wanted.with_extension("held");
        fs_err::write(&wanted, [])?;
        Ok(Hold { place, wanted, held })
    }
}

impl Hold {
    /// Waits until the agent waits.
    pub async fn reached(&self, time_max: Duration) -> Result<()> {
        let held = async || Ok(self.held.exists().then_some(()));
        wait::until_async(&format!("a move held at {:?}", self.place), time_max, held).await
    }

    /// Whether the agent waits now.
    pub fn stands(&self) -> bool {
        self.held.exists()
    }

    /// Lets the move go on.
    pub fn release(self) -> Result<()> {
        self.end()
    }

    /// An agent that was killed in it leaves its own file too.
    fn end(&self) -> Result<()> {
        for path in [&self.wanted, &self.held] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("a hold at {:?} stays: {error:#}", self.place);
        }
    }
}

/// Makes the folder without which an agent holds nowhere.
pub(super) fn allow(host: &HostSite) -> Result<()> {
    Ok(fs_err::create_dir_all(dir_of(host))?)
}

fn dir_of(host: &HostSite) -> PathBuf {
    Path::join(&host.dir, "state/hold")
}
