//! Times as the API writes and reads them.
//!
//! Ground rules: a record holds microseconds since 1970 in UTC; which of the two forms a field has is the field's history, not a
//! matter of taste: most end in `Z`, the older ones carry a fraction and no zone.
//! Sources: nova, utils.py, `isotime`; oslo.utils, `timeutils.parse_isotime`.

use jiff::{Timestamp, civil::DateTime, fmt::strtime, tz::TimeZone};
use serde_json::{Value, json};

/// Microseconds since the epoch.
pub type Micros = i64;

/// `2026-01-02T03:04:05Z`. A time that no calendar has is none.
pub fn zulu(micros: Micros) -> Value {
    written("%Y-%m-%dT%H:%M:%SZ", micros)
}

/// `2026-01-02T03:04:05.000000`.
pub fn fraction(micros: Micros) -> Value {
    written("%Y-%m-%dT%H:%M:%S.%6f", micros)
}

pub fn zulu_or_null(micros: Option<Micros>) -> Value {
    micros.map_or(Value::Null, zulu)
}

pub fn fraction_or_null(micros: Option<Micros>) -> Value {
    micros.map_or(Value::Null, fraction)
}

/// A time in any of the forms that clients send; without a zone it is UTC.
pub fn parse(text: &str) -> Option<Micros> {
    let zoned = || text.parse::<Timestamp>().ok();
    let bare = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    zoned().or_else(bare).map(|time| time.as_microsecond())
}

fn written(format: &str, micros: Micros) -> Value {
    let text = Timestamp::from_microsecond(micros).ok().and_then(|time| strtime::format(format, time).ok());
    json!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEN: Micros = 1_767_323_045_000_000;

    #[test]
    fn a_time_is_written_in_both_forms() {
        let check = |micros, want_zulu: &str, want_fraction: &str| {
            assert_eq!((zulu(micros), fraction(micros)), (json!(want_zulu), json!(want_fraction)), "{micros}");
        };
        check(WHEN, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000");
        check(WHEN + 7, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000007");
        check(0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000");
        check(-1, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999999");
        assert_eq!(zulu(i64::MAX), Value::Null);
        assert_eq!((zulu_or_null(None), fraction_or_null(None)), (Value::Null, Value::Null));
    }

    #[test]
    fn a_time_is_read_in_every_form_and_nonsense_is_not() {
        let check = |text, want| assert_eq!(parse(text), want, "{text}");
        check("2026-01-02T03:04:05Z", Some(WHEN));
        check("2026-01-02T04:04:05+01:00", Some(WHEN));
        check("2026-01-02T03:04:05", Some(WHEN));
        check("2026-01-02T03:04:05.000007", Some(WHEN + 7));
        check("2026-01-02 03:04:05", Some(WHEN));
        check("2026-01-02", Some(WHEN - 11_045_000_000));
        for nonsense in ["", "now", "2026-13-01T00:00:00Z", "1767323045"] {
            check(nonsense, None);
        }
    }
}
