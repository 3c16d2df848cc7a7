//! How long the host has been up, in the line that `uptime` prints, since clients take it apart.
//!
//! Read from the kernel and from utmp, without a process: it is told with every heartbeat. The time of day is UTC.
//! Source: procps, library/uptime.c.

use whimbrel_daemon::clock::Timestamp;

const UPTIME: &str = "/proc/uptime";
const LOAD: &str = "/proc/loadavg";
const UTMP: &str = "/run/utmp";
/// Of glibc on 64 bits: a record's size, and where its type is.
const UTMP_RECORD_BYTES: usize = 384;
const USER_PROCESS: [u8; 2] = 7_u16.to_ne_bytes();

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// `None` where the kernel does not say.
pub fn line() -> Option<String> {
    let (uptime, load) = (fs_err::read_to_string(UPTIME).ok()?, fs_err::read_to_string(LOAD).ok()?);
    let users = users(&fs_err::read(UTMP).unwrap_or_default());
    written(Timestamp::now().unix_s().unsigned_abs(), &uptime, &load, users)
}

fn written(now_s: u64, uptime: &str, load: &str, users: usize) -> Option<String> {
    let up_s = uptime.split('.').next()?.trim().parse::<u64>().ok()?;
    let load: Vec<&str> = load.split_ascii_whitespace().take(3).collect();
    let [one, five, fifteen] = load.as_slice() else { return None };
    let clock = format!("{:02}:{:02}:{:02}", now_s % DAY_S / HOUR_S, now_s % HOUR_S / MINUTE_S, now_s % MINUTE_S);
    let days = match up_s / DAY_S {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    let (hours, minutes) = (up_s % DAY_S / HOUR_S, up_s % HOUR_S / MINUTE_S);
    let time = if hours > 0 { format!("{hours:2}:{minutes:02}") } else { format!("{minutes} min") };
    let users = format!("{users} user{}", if users == 1 { "" } else { "s" });
    Some(format!(" {clock} up {days}{time},  {users},  load average: {one}, {five}, {fifteen}"))
}

fn users(utmp: &[u8]) -> usize {
    utmp.chunks_exact(UTMP_RECORD_BYTES).filter(|record| record.starts_with(&USER_PROCESS)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_that_of_uptime() {
        let check = |up_s: &str, users: usize, want: &str| {
            let line = written(63_222, up_s, "0.01 0.05 0.10 1/123 4567\n", users);
            assert_eq!(line.as_deref(), Some(want));
        };
        check("59.99 1.00\n", 1, " 17:33:42 up 0 min,  1 user,  load average: 0.01, 0.05, 0.10");
        check("11040.00 1.00\n", 2, " 17:33:42 up  3:04,  2 users,  load average: 0.01, 0.05, 0.10");
        check("97440.00 1.00\n", 0, " 17:33:42 up 1 day,  3:04,  0 users,  load average: 0.01, 0.05, 0.10");
        check("432060.00 1.00\n", 0, " 17:33:42 up 5 days, 1 min,  0 users,  load average: 0.01, 0.05, 0.10");
        assert_eq!(written(0, "", "0.01 0.05 0.10", 0), None);
        assert_eq!(written(0, "1.0 1.0", "0.01", 0), None);
        assert!(line().is_some_and(|line| line.contains(" up ") && line.contains("load average: ")), "{:?}", line());
    }

    #[test]
    fn those_who_are_logged_in_are_counted() {
        let record = |kind: u16| {
            let mut record = vec![0; UTMP_RECORD_BYTES];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record
        };
        let utmp: Vec<u8> = [2, 7, 8, 7].into_iter().flat_map(record).collect();
        assert_eq!(users(&utmp), 2);
        assert_eq!(users(&utmp[..UTMP_RECORD_BYTES * 2 - 1]), 0);
        assert_eq!(users(&[]), 0);
    }
}
