//! Processes by pid *and* start time, so that a number that the kernel gave to somebody else is never taken for ours.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::wait;

/// A killed process is gone within this time, or something is badly wrong with the machine.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// Fields of `/proc/<pid>/stat` after the program's name in brackets.
const STAT_STATE: usize = 0;
const STAT_USER_TICKS: usize = 11;
const STAT_SYSTEM_TICKS: usize = 12;
const STAT_THREADS: usize = 17;
const STAT_START_TICKS: usize = 19;

/// Marks every process that a lab starts; children inherit it.
pub const MARK: &str = "WHIMBREL_LAB_ID";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks since the machine's boot.
    pub start_ticks: u64,
}

impl ProcessId {
    /// `None` if there is no such process, or only its zombie.
    pub fn of(pid: i32) -> Option<ProcessId> {
        let fields = stat(pid)?;
        let start_ticks = fields.get(STAT_START_TICKS)?.parse().ok()?;
        alive(&fields)?.then_some(ProcessId { pid, start_ticks })
    }

    pub fn own() -> ProcessId {
        let pid = Pid::this().as_raw();
        ProcessId::of(pid).unwrap_or(ProcessId { pid, start_ticks: 0 })
    }

    pub fn alive(self) -> bool {
        ProcessId::of(self.pid) == Some(self)
    }

    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {}", self.pid)),
        }
    }

    /// Kills it and waits until it is gone.
    pub fn end(self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.gone()
    }

    pub fn gone(self) -> Result<()> {
        let what = format!("the end of process {}", self.pid);
        wait::until(&what, END_TIME_MAX, || Ok((!self.alive()).then_some(())))
    }

    /// CPU time it has used, in seconds.
    pub fn cpu_s(self) -> Option<f64> {
        let fields = stat(self.pid)?;
        let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
        // USER_HZ is 100 on every architecture that this runs on.
        (self.alive()).then_some((ticks(STAT_USER_TICKS)? + ticks(STAT_SYSTEM_TICKS)?) as f64 / 100.0)
    }

    /// The most memory it ever had resident.
    pub fn rss_bytes_max(self) -> Option<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Lets [`ProcessId::rss_bytes_max`] begin anew.
    pub fn forget_rss_max(self) -> Result<()> {
        Ok(fs_err::write(format!("/proc/{}/clear_refs", self.pid), "5")?)
    }

    /// The words it was started with.
    pub fn words(self) -> Vec<String> {
        words_of(&format!("/proc/{}/cmdline", self.pid))
    }

    /// Name of the program, without its folder.
    pub fn program(self) -> String {
        let words = self.words();
        let first = words.first().map(String::as_str).unwrap_or_default();
        Path::new(first).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether it carries this lab's mark, or names one of the lab's folders in its words.
    pub(crate) fn marked(self, lab_id: &str, dirs: &[PathBuf]) -> bool {
        let mark = format!("{MARK}={lab_id}");
        words_of(&format!("/proc/{}/environ", self.pid)).contains(&mark)
            || self.words().iter().any(|word| dirs.iter().any(|dir| word.contains(&*dir.to_string_lossy())))
    }
}

/// A process that is killed thread by thread shows its first as a zombie while others still hold its files and ports.
fn alive(fields: &[String]) -> Option<bool> {
    let zombie = matches!(fields.get(STAT_STATE)?.as_str(), "Z" | "X");
    Some(!zombie || fields.get(STAT_THREADS)?.parse::<u32>().ok()? > 1)
}

fn stat(pid: i32) -> Option<Vec<String>> {
    fields(&fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn fields(stat: &str) -> Option<Vec<String>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn words_of(path: &str) -> Vec<String> {
    let bytes = fs_err::read(path).unwrap_or_default();
    bytes
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// All processes of a network namespace.
pub fn within(namespace: &str) -> Result<Vec<ProcessId>> {
    let Ok(namespace) = fs_err::metadata(crate::net::namespace_path(namespace)) else {
        return Ok(Vec::new());
    };
    let inside = |pid: i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|own| (own.dev(), own.ino()) == (namespace.dev(), namespace.ino()))
    };
    let listing = fs_err::read_dir("/proc")?;
    let pids = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|&pid| inside(pid)).filter_map(ProcessId::of).collect())
}

/// What to start in a namespace, apart from this process: it lives on when this one ends.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    pub lab_id: &'a str,
    pub namespace: &'a str,
    pub words: Vec<String>,
    /// Its output is appended here.
    pub log: PathBuf,
}

impl Start<'_> {
    pub fn start(&self) -> Result<ProcessId> {
        let log = fs_err::OpenOptions::new().create(true).append(true).open(&self.log)?.into_parts().0;
        let mut command = Command::new("setsid");
        // Neither of the two forks here, so the pid stays.
        command.args(["ip", "netns", "exec", self.namespace]).args(&self.words);
        command.env(MARK, self.lab_id);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let what = || format!("cannot start {} in namespace {}", self.words.join(" "), self.namespace);
        let mut child = command.spawn().with_context(what)?;
        let pid = i32::try_from(child.id()).with_context(what)?;
        let id = ProcessId::of(pid);
        // Somebody has to take the exit status, or its zombie stays as long as this process.
        std::thread::spawn(move || child.wait());
        id.with_context(|| format!("{}: it ended at once; see {}", what(), self.log.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_with_its_last_thread() {
        let check =
            |stat: &str, want: bool| assert_eq!(fields(stat).and_then(|fields| alive(&fields)), Some(want), "{stat}");
        // A whole zombie; one whose other thread still runs; one at work.
        check("7 (a) b) Z 1 1 1 0 -1 4227084 0 0 0 0 0 0 0 0 20 0 1 0 1676012 0 0", false);
        check("7 (a) b) Z 1 1 1 0 -1 4227084 0 0 0 0 4 1 3 2 20 0 2 0 1676012 0 0", true);
        check("7 (a) b) S 1 1 1 0 -1 4227084 0 0 0 0 4 1 3 2 20 0 1 0 1676012 0 0", true);
        check("7 (a) b) X 1 1 1 0 -1 4227084 0 0 0 0 4 1 3 2 20 0 0 0 1676012 0 0", false);
    }

    #[test]
    fn this_process_lives_and_no_other_of_its_number() {
        let own = ProcessId::own();
        assert!(own.alive());
        assert!(!ProcessId { start_ticks: own.start_ticks + 1, ..own }.alive());
        assert_eq!(ProcessId::of(i32::MAX), None);
    }
}
