//! Numbers of QEMU read without trusting their sign or shape.
//!
//! QAPI types counters as signed 64-bit ("int") and a few derived ones pass through floating point, so a value
//! may briefly be negative. A strange number in a progress report must not fail the reply that also carries the
//! migration's status.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A count: negative and unreadable become 0, a fraction is cut off.
pub(crate) fn count<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    Ok(as_count(&Value::deserialize(d)?).unwrap_or(0))
}

/// A count that may be missing.
pub(crate) fn count_maybe<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    Ok(as_count(&Value::deserialize(d)?))
}

fn as_count(value: &Value) -> Option<u64> {
    if let Some(n) = value.as_u64() {
        return Some(n);
    }
    // `as` saturates: a negative number becomes 0.
    value.as_f64().map(|n| n as u64)
}

#[cfg(test)]
mod tests {
    use super::as_count;
    use serde_json::json;

    #[test]
    fn strange_numbers_become_counts() {
        let check = |value: serde_json::Value, want: Option<u64>| assert_eq!(as_count(&value), want, "{value}");
        check(json!(7), Some(7));
        check(json!(u64::MAX), Some(u64::MAX));
        check(json!(-3), Some(0));
        check(json!(2.9), Some(2));
        check(json!(-0.5), Some(0));
        check(json!("7"), None);
        check(json!(null), None);
    }
}
