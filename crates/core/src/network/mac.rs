//! MAC addresses: made from a port's id, in the range that QEMU's own guests use.

use uuid::Uuid;

use super::refusal::Refusal;

const SHOWN_CHARS_MAX: usize = 40;

/// Another one for each salt, and always the same for the same two.
pub fn of(port: Uuid, salt: u32) -> String {
    let hash = blake3::hash(format!("{port}/{salt}").as_bytes());
    let [a, b, c, ..] = hash.as_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// As it is kept: six pairs of lower-case digits. Neither that of nobody nor one of a group.
pub fn canonical(text: &str) -> Result<String, Refusal> {
    let bad = || Refusal::BadMac(text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect());
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let digits = |pair: &&str| pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
    let [first, ..] = pairs.as_slice() else { return Err(bad()) };
    let of_group = u8::from_str_radix(first, 16).is_ok_and(|byte| byte & 1 == 1);
    if pairs.len() != 6 || !pairs.iter().all(digits) || of_group || pairs.iter().all(|pair| *pair == "00") {
        return Err(bad());
    }
    Ok(pairs.join(":").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_stable_differ_and_are_valid() {
        let port = Uuid::from_u128(7);
        assert_eq!(of(port, 0), of(port, 0));
        assert_ne!(of(port, 0), of(port, 1));
        assert_ne!(of(port, 0), of(Uuid::from_u128(8), 0));
        assert!(of(port, 0).starts_with("52:54:00:"));
        assert_eq!(canonical(&of(port, 0)).unwrap(), of(port, 0));
    }

    #[test]
    fn a_mac_is_read_in_either_form_and_nonsense_is_not() {
        let check = |text: &str, want: Option<&str>| assert_eq!(canonical(text).ok().as_deref(), want, "{text:?}");
        check("52:54:00:AB:cd:01", Some("52:54:00:ab:cd:01"));
        check("52-54-00-ab-cd-01", Some("52:54:00:ab:cd:01"));
        check("00:00:00:00:00:00", None);
        check("01:00:5e:00:00:01", None);
        check("ff:ff:ff:ff:ff:ff", None);
        check("52:54:00:ab:cd", None);
        check("52:54:00:ab:cd:1", None);
        check("52:54:00:ab:cd:+1", None);
        check("", None);
    }
}
