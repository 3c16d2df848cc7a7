//! The one place that reads the wall clock: records carry microseconds since 1970, UTC.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

const US_PER_S: i64 = 1_000_000;

/// Microseconds since 1970-01-01 UTC; fits SQL's BIGINT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Self {
        // A clock before 1970 or after the year 294000 is a broken clock; the nearest end is as good as any.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    pub fn from_unix_s(unix_s: i64) -> Self {
        Timestamp(unix_s.saturating_mul(US_PER_S))
    }

    pub fn unix_s(self) -> i64 {
        self.0.div_euclid(US_PER_S)
    }

    pub fn plus(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this; zero if `earlier` is later, as after a step of the clock.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(crate) fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.unix_s()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// RFC 3339 in UTC with microseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.date_time();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let (hour, minute, second) = at.to_hms();
        let us = self.0.rem_euclid(US_PER_S);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_times_as_rfc_3339() {
        let check = |us: i64, want: &str| assert_eq!(Timestamp(us).to_string(), want);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_time() {
        let (early, late) = (Timestamp(5), Timestamp(9));
        assert_eq!(late.since(early), Duration::from_micros(4));
        assert_eq!(early.since(late), Duration::ZERO);
        assert!(Timestamp::now() > Timestamp::from_unix_s(1_700_000_000));
    }
}
