//! Processes that outlive the agent: QEMU and the storage daemon.
//!
//! ```text
//! [systemd-run --scope] setsid PROGRAM …     stdout and stderr appended to a log file
//! ```
//!
//! Ground rules: a process gets a session of its own, and a scope where systemd runs, so that neither a stop of the agent
//! nor of its service reaches it; it is known by process id *and* start time, and nothing else is ever signalled; while
//! the agent lives it waits for its own children, and looks at those it found again.

use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{sys::signal, unistd::Pid};
use serde::{Deserialize, Serialize};
use tokio::{process::Child, process::Command, sync::watch, time::Instant};
use whimbrel_core::failure::{Failure, FailureCode};

use crate::{config::QemuUser, cpu, fault};

/// Bound of what is kept of a process's last words.
pub const TAIL_BYTES_MAX: u64 = 4 << 10;
/// A process that is not our child cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After SIGKILL only the kernel's own work is left, which a stuck device can hold up.
const KILL_TIME_MAX: Duration = Duration::from_secs(10);
/// QEMU's has one dash, the storage daemon's two.
pub const PID_FILE_OPTION: &str = "-pidfile";
const SYSTEMD: &str = "/run/systemd/system";

/// One process for the life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    pub start_ticks: u64,
}

impl ProcessId {
    pub fn of(pid: u32) -> Option<Self> {
        cpu::start_ticks(pid).map(|start_ticks| ProcessId { pid, start_ticks })
    }

    pub fn is_alive(self) -> bool {
        ProcessId::of(self.pid) == Some(self)
    }

    /// Words of its command line; empty if it is gone.
    pub fn command_line(self) -> Vec<String> {
        let bytes = fs_err::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = bytes.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        if self.is_alive() { words.collect() } else { Vec::new() }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(self) -> Result<(), Failure> {
        let until = Instant::now() + KILL_TIME_MAX;
        while self.is_alive() {
            let pid = Pid::from_raw(self.pid.cast_signed());
            match signal::kill(pid, signal::Signal::SIGKILL) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(error) => return Err(fault::internal(format!("cannot kill process {}", self.pid), &error)),
            }
            if Instant::now() > until {
                let late = format!("process {} is still there {} s after SIGKILL", self.pid, KILL_TIME_MAX.as_secs());
                return Err(Failure::new(FailureCode::Internal, late).hint("its storage may be stuck: see `dmesg`"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// Processes that were told to keep their process id in this file: the way to those whose record was not written yet.
/// Nobody else has both words side by side.
pub fn of_pid_file(path: &Path) -> std::io::Result<Vec<ProcessId>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(id) = ProcessId::of(pid) else { continue };
        let words = id.command_line();
        let told = words.windows(2).any(|pair| pair[0].ends_with(PID_FILE_OPTION) && Path::new(&pair[1]) == path);
        found.extend(told.then_some(id));
    }
    Ok(found)
}

/// Kills those that a death of the agent left between their start and their record: nobody has spoken to them.
pub async fn kill_unrecorded(pid_file: &Path) -> Result<(), Failure> {
    for id in of_pid_file(pid_file).map_err(|error| fault::internal("cannot read /proc", &error))? {
        tracing::warn!(pid = id.pid, pid_file = %pid_file.display(), "a process without a record: killing it");
        id.kill().await?;
    }
    Ok(())
}

/// QEMU and the storage daemon take a fresh buffer for each large NBD request; glibc would map and unmap every one of them,
/// which doubles the CPU time of a copy. These keep such buffers in the heap.
const MALLOC: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "33554432"), ("MALLOC_TRIM_THRESHOLD_", "67108864"), ("MALLOC_TOP_PAD_", "16777216")];

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It was not our child: nobody knows.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::Unknown => f.write_str("an unknown exit code"),
        }
    }
}

/// A process started or found again; dropping it leaves the process alone.
#[derive(Clone, Debug)]
pub struct Detached {
    pub id: ProcessId,
    log: PathBuf,
    /// Where this process's words begin in the log.
    log_from: u64,
    exit: watch::Receiver<Option<Exit>>,
}

/// What to start, and as whom.
pub struct Start<'a> {
    pub program: &'a Path,
    pub args: &'a [String],
    pub user: Option<QemuUser>,
    pub log: &'a Path,
    /// Of the scope, where systemd runs.
    pub unit: &'a str,
}

impl Detached {
    pub fn start(start: &Start<'_>) -> Result<Self, Failure> {
        let log_failed = |error: std::io::Error| fault::of_file("open log", start.log, &error);
        let log = fs_err::OpenOptions::new().append(true).create(true).open(start.log).map_err(log_failed)?;
        let log_from = log.metadata().map_err(log_failed)?.len();
        let (out, err) = (log.file().try_clone().map_err(log_failed)?, log.into_file());
        let mut command = command(start, Path::new(SYSTEMD).exists());
        command.stdin(Stdio::null()).stdout(out).stderr(err).current_dir("/");
        let program = start.program.display();
        let child = command.spawn().map_err(|error| fault::internal(format!("cannot start {program}"), &error))?;
        let gone = || Failure::new(FailureCode::QemuFailed, format!("{program} ended as it began"));
        let pid = child.id().ok_or_else(gone)?;
        // A zombie still has its start time, and our child stays one until `reap`.
        let start_ticks = cpu::start_ticks(pid).unwrap_or_default();
        let (told, exit) = watch::channel(None);
        tokio::spawn(reap(child, told));
        Ok(Detached { id: ProcessId { pid, start_ticks }, log: start.log.to_owned(), log_from, exit })
    }

    /// A process that another life of the agent started. `None` if it is gone.
    pub fn find(id: ProcessId, log: &Path, log_from: u64) -> Option<Self> {
        if !id.is_alive() {
            return None;
        }
        let (told, exit) = watch::channel(None);
        tokio::spawn(look(id, told));
        Some(Detached { id, log: log.to_owned(), log_from, exit })
    }

    pub fn log_from(&self) -> u64 {
        self.log_from
    }

    /// `None` while it runs.
    pub fn has_exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Unknown)
    }

    /// Waits for its end until `deadline`, then kills it.
    pub async fn end(&self, deadline: Duration) -> Result<Exit, Failure> {
        if let Ok(exit) = tokio::time::timeout(deadline, self.exited()).await {
            return Ok(exit);
        }
        tracing::warn!(pid = self.id.pid, deadline_ms = deadline.as_millis() as u64, "did not end in time: killing it");
        self.id.kill().await?;
        Ok(tokio::time::timeout(KILL_TIME_MAX, self.exited()).await.unwrap_or(Exit::Unknown))
    }

    /// The last it said, at most [`TAIL_BYTES_MAX`].
    pub fn tail(&self) -> String {
        tail(&self.log, self.log_from).unwrap_or_default().trim().to_owned()
    }

    /// The log was renamed together with its directory.
    pub fn moved(&mut self, log: &Path) {
        self.log = log.to_owned();
    }
}

fn tail(log: &Path, from: u64) -> std::io::Result<String> {
    let mut file = fs_err::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `setsid` and `systemd-run --scope` both become the program they are given: the process id stays.
fn command(start: &Start<'_>, systemd: bool) -> Command {
    let mut command = if systemd {
        let mut command = Command::new("systemd-run");
        command.args(["--scope", "--quiet", "--collect", "--unit", start.unit]);
        if let Some(user) = start.user {
            command.arg(format!("--uid={}", user.uid)).arg(format!("--gid={}", user.gid));
        }
        command.arg("setsid");
        command
    } else {
        let mut command = Command::new("setsid");
        if let Some(user) = start.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    };
    command.arg(start.program).args(start.args).envs(MALLOC);
    command
}

async fn reap(mut child: Child, told: watch::Sender<Option<Exit>>) {
    use std::os::unix::process::ExitStatusExt;
    let exit = match child.wait().await {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        },
        Err(_) => Exit::Unknown,
    };
    told.send_replace(Some(exit));
}

async fn look(id: ProcessId, told: watch::Sender<Option<Exit>>) {
    while id.is_alive() {
        tokio::select! {
            () = told.closed() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    told.send_replace(Some(Exit::Unknown));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::until;

    fn shell(script: &str, log: &Path) -> Detached {
        let args = ["-c".to_owned(), script.to_owned()];
        let start = Start { program: Path::new("/bin/sh"), args: &args, user: None, log, unit: "whimbrel-test" };
        Detached::start(&start).unwrap()
    }

    #[tokio::test]
    async fn ends_are_told_with_the_last_words_of_this_run_only() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "an older run\n").unwrap();
        let process = shell("echo one; echo two >&2; exit 7", &log);
        assert_eq!(process.exited().await, Exit::Code(7));
        assert_eq!(process.tail(), "one\ntwo");
        let long = shell("yes | head -c 100000; kill -9 $$", &log);
        assert_eq!(long.exited().await, Exit::Signal(9));
        assert!(long.tail().len() as u64 <= TAIL_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_process_has_a_session_of_its_own_and_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let process = shell("exec sleep 1000", &log);
        let id = process.id;
        let session = nix::unistd::getsid(Some(Pid::from_raw(id.pid.cast_signed())));
        let until = Instant::now() + Duration::from_secs(10);
        while session != Ok(Pid::from_raw(id.pid.cast_signed())) && Instant::now() < until {
            if nix::unistd::getsid(Some(Pid::from_raw(id.pid.cast_signed()))) == Ok(Pid::from_raw(id.pid.cast_signed()))
            {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(Instant::now() < until, "the process stayed in the agent's session");
        drop(process);
        let other = ProcessId { start_ticks: id.start_ticks + 1, ..id };
        assert!(Detached::find(other, &log, 0).is_none(), "another process of the same number was taken");
        let found = Detached::find(id, &log, 0).unwrap();
        assert_eq!(found.has_exited(), None);
        assert!(found.end(Duration::ZERO).await.is_ok());
        assert!(!id.is_alive());
        assert!(Detached::find(id, &log, 0).is_none());
    }

    #[tokio::test]
    async fn a_process_whose_record_was_never_written_is_found_by_its_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (dir.path().join("mine.pid"), dir.path().join("other.pid"));
        let start = |pid_file: &Path| {
            // It forks nothing: a child has its parent's words until it becomes its program.
            let script = "kill -STOP $$";
            let args = ["-c", script, "sh", "-pidfile", &pid_file.to_string_lossy()].map(str::to_owned);
            let log = dir.path().join("log");
            let start = Start { program: Path::new("/bin/sh"), args: &args, user: None, log: &log, unit: "t" };
            Detached::start(&start).unwrap()
        };
        let (lost, neighbour) = (start(&mine), start(&other));
        let known = [(&mine, lost.id), (&other, neighbour.id)];
        let all_became = async || known.iter().all(|(file, id)| of_pid_file(file).unwrap() == [*id]);
        until("each is the program that it was told to be", all_became).await;
        kill_unrecorded(&mine).await.unwrap();
        assert!(!lost.id.is_alive());
        assert!(neighbour.id.is_alive(), "another's process was killed");
        neighbour.id.kill().await.unwrap();
    }

    #[test]
    fn a_scope_is_asked_of_systemd_and_only_there() {
        let args = ["-S".to_owned()];
        let user = Some(QemuUser { uid: 5, gid: 6 });
        let start = Start { program: Path::new("/q"), args: &args, user, log: Path::new("/l"), unit: "whimbrel-x" };
        let words = |systemd| {
            let command = command(&start, systemd);
            let command = command.as_std();
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(true), "systemd-run --scope --quiet --collect --unit whimbrel-x --uid=5 --gid=6 setsid /q -S");
        assert_eq!(words(false), "setsid /q -S");
    }
}
