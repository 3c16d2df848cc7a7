//! CPU time that processes have used, as the kernel counts it.

use nix::unistd::{SysconfVar, sysconf};

/// The kernel's unit of `/proc/<pid>/stat`, in practice always this.
const TICKS_PER_SECOND_DEFAULT: f64 = 100.0;
/// Fields of `/proc/<pid>/stat` after the name in parentheses, which may hold spaces.
const STATE: usize = 0;
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START_TIME: usize = 19;

/// User and system seconds of a process with all its threads; `None` if there is no such process.
pub fn seconds_of(pid: u32) -> Option<f64> {
    let fields = Fields::of(&pid.to_string())?;
    let ticks: f64 = [UTIME, STIME].iter().filter_map(|&at| fields.number(at)).map(|ticks| ticks as f64).sum();
    Some(ticks / ticks_per_second())
}

/// Of the agent itself.
pub fn self_seconds() -> f64 {
    seconds_of(std::process::id()).unwrap_or_default()
}

/// When the process began, in ticks since boot: with its id it names one process for the life of the machine. `None` if
/// it is gone or a zombie.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let fields = Fields::of(&pid.to_string())?;
    fields.alive().then(|| fields.number(START_TIME)).flatten()
}

fn ticks_per_second() -> f64 {
    match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(ticks)) if ticks > 0 => ticks as f64,
        Ok(_) | Err(_) => TICKS_PER_SECOND_DEFAULT,
    }
}

struct Fields(String);

impl Fields {
    fn of(pid: &str) -> Option<Self> {
        Fields::parse(&fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        Some(Fields(stat.rsplit_once(')')?.1.to_owned()))
    }

    /// A process that is killed thread by thread shows its first as a zombie while others still hold its files and locks.
    fn alive(&self) -> bool {
        let ended = matches!(self.get(STATE), None | Some("Z" | "X"));
        !ended || self.number(THREADS).is_some_and(|threads| threads > 1)
    }

    fn get(&self, at: usize) -> Option<&str> {
        self.0.split_ascii_whitespace().nth(at)
    }

    fn number(&self, at: usize) -> Option<u64> {
        self.get(at)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_shows_in_the_count_and_a_strange_pid_does_not() {
        let before = self_seconds();
        let begun = Instant::now();
        let mut work = 0u64;
        while self_seconds() - before < 0.02 {
            work = std::hint::black_box(work.wrapping_mul(3).wrapping_add(1));
            assert!(begun.elapsed() < Duration::from_secs(20), "no CPU time is counted");
        }
        assert_eq!(seconds_of(u32::MAX), None);
        assert_eq!(start_ticks(u32::MAX), None);
        assert_eq!(start_ticks(std::process::id()), start_ticks(std::process::id()));
        assert!(start_ticks(std::process::id()) >= start_ticks(1));
    }

    #[test]
    fn a_process_is_gone_with_its_last_thread() {
        let check = |stat: &str, alive: bool| assert_eq!(Fields::parse(stat).unwrap().alive(), alive, "{stat}");
        // A whole zombie; one whose other thread still runs; one at work.
        check("7 (a) b) Z 1 1 1 0 -1 4227084 0 0 0 0 0 0 0 0 20 0 1 0 1676012 0 0", false);
        check("7 (a) b) Z 1 1 1 0 -1 4227084 0 0 0 0 4 1 3 2 20 0 2 0 1676012 0 0", true);
        check("7 (a) b) S 1 1 1 0 -1 4227084 0 0 0 0 4 1 3 2 20 0 1 0 1676012 0 0", true);
        check("7 (a) b) X 1 1 1 0 -1 4227084 0 0 0 0 4 1 3 2 20 0 0 0 1676012 0 0", false);
    }
}
