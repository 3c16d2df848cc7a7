//! Named places of a migration where a test lets an agent wait, so that what the test breaks is broken there and nowhere
//! else.
//!
//! ```text
//! state_dir/hold/               made by the test before the agent starts; without it no other file is ever looked at
//! state_dir/hold/<place>        made by the test: who comes there waits until it is gone
//! state_dir/hold/<place>.held   made by the agent while it waits
//! ```
//!
//! Ground rules: for tests only, and told in the log at the start; a hold changes nothing but the time; it ends with its
//! file, with the task that waits, or after [`HOLD_TIME_MAX`], so that a test which dies leaves no move standing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub const HOLD_DIR: &str = "hold";
const HELD: &str = "held";
pub const HOLD_TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Target: its directory is there, the source was not asked yet.
    MakingRoom,
    /// Source: all chunks of the base image are on their way, nobody has said that they were all.
    Image,
    /// Source: all chunks of round 0 are on their way, nobody has said that they were all.
    RoundZero,
    /// Target: QEMU runs, and only its record knows.
    QemuStarts,
    /// Source: RAM streams.
    Ram,
    /// Source: the guest is stopped, the chunks of the last round are on their way, the disks are not sealed.
    LastRound,
    /// Source: QEMU has given everything away, COMMIT is not decided.
    StateSent,
    /// Target: OWN is on disk, the guest was not let run.
    Owned,
}

impl Place {
    pub fn as_str(self) -> &'static str {
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

#[derive(Debug)]
pub struct Holds {
    dir: Option<PathBuf>,
    time_max: Duration,
}

impl Holds {
    /// Looks for the directory, once.
    pub fn of(state_dir: &Path) -> Self {
        let dir = Some(state_dir.join(HOLD_DIR)).filter(|dir| dir.is_dir());
        if let Some(dir) = &dir {
            tracing::warn!(dir = %dir.display(), "moves of this agent can be held, as only tests do");
        }
        Holds { dir, time_max: HOLD_TIME_MAX }
    }

    /// Returns at once unless a test holds this place.
    pub async fn at(&self, place: Place) {
        let Some(dir) = &self.dir else { return };
        let wanted = dir.join(place.as_str());
        if !wanted.exists() {
            return;
        }
        let _held = Held::say(wanted.with_extension(HELD));
        tracing::warn!(place = place.as_str(), "held");
        let gone = async {
            while wanted.exists() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let ended = tokio::time::timeout(self.time_max, gone).await;
        tracing::warn!(place = place.as_str(), in_time = ended.is_ok(), "goes on");
    }
}

/// The file that says so, gone however the wait ends.
struct Held(PathBuf);

impl Held {
    fn say(path: PathBuf) -> Self {
        if let Err(error) = fs_err::write(&path, []) {
            tracing::error!(%error, "nobody will know of this hold");
        }
        Held(path)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const PLACE: Place = Place::Ram;
    const SHORT: Duration = Duration::from_millis(300);

    struct Dir {
        dir: tempfile::TempDir,
    }

    impl Dir {
        fn new(with_holds: bool) -> Dir {
            let dir = tempfile::tempdir().unwrap();
            if with_holds {
                std::fs::create_dir(dir.path().join(HOLD_DIR)).unwrap();
            }
            Dir { dir }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join(HOLD_DIR).join(name)
        }

        fn held(&self) -> bool {
            self.file("ram.held").exists()
        }
    }

    async fn until(so: impl Fn() -> bool) {
        let began = Instant::now();
        while !so() {
            assert!(began.elapsed() < HOLD_TIME_MAX, "not so in time");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_agent_that_was_started_without_the_directory_holds_nowhere() {
        let dir = Dir::new(false);
        let holds = Holds::of(dir.dir.path());
        std::fs::create_dir(dir.dir.path().join(HOLD_DIR)).unwrap();
        std::fs::write(dir.file("ram"), "").unwrap();
        tokio::time::timeout(SHORT, holds.at(PLACE)).await.unwrap();
        assert!(!dir.held());
    }

    #[tokio::test]
    async fn a_hold_lasts_as_long_as_its_file_and_holds_no_other_place() {
        let dir = Dir::new(true);
        let holds = Holds::of(dir.dir.path());
        tokio::time::timeout(SHORT, holds.at(PLACE)).await.unwrap();
        std::fs::write(dir.file("ram"), "").unwrap();
        tokio::time::timeout(SHORT, holds.at(Place::StateSent)).await.unwrap();
        let test = async {
            until(|| dir.held()).await;
            std::fs::remove_file(dir.file("ram")).unwrap();
        };
        tokio::join!(holds.at(PLACE), test);
        assert!(!dir.held());
    }

    #[tokio::test]
    async fn a_hold_ends_with_its_task_and_by_itself() {
        let dir = Dir::new(true);
        let holds = Holds { time_max: SHORT, ..Holds::of(dir.dir.path()) };
        std::fs::write(dir.file("ram"), "").unwrap();
        tokio::select! {
            () = holds.at(PLACE) => panic!("it did not wait"),
            () = until(|| dir.held()) => {}
        }
        assert!(!dir.held(), "the task that waited is gone");
        holds.at(PLACE).await;
        assert!(!dir.held() && dir.file("ram").exists());
    }
}
