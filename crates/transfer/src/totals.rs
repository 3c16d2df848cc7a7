//! Proof in constant memory that every chunk of a round arrived and was written.
//!
//! Both sides add up, in whatever order chunks come, `BLAKE3(header)` (disk, round, offset, len, kind, digest) modulo 2^256 per disk.
//! Equal sums and equal counts mean equal sets of chunks: a lost, doubled, torn or misplaced chunk changes the sum.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::Header;

/// Sum modulo 2^256 of the digests of chunks; order does not matter.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sum([u64; 4]);

#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no sum of chunk digests: 64 hex digits are needed")]
pub struct BadSum(String);

impl Sum {
    pub fn add(&mut self, header: &Header) {
        let hash = blake3::hash(&header.encode());
        let (words, _) = hash.as_bytes().as_chunks::<8>();
        self.merge(&Sum(std::array::from_fn(|at| u64::from_le_bytes(words[at]))));
    }

    pub fn merge(&mut self, other: &Sum) {
        let mut carry = false;
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            let (sum, over) = mine.overflowing_add(more);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*mine, carry) = (sum, over || over_again);
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}
impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sum({self})")
    }
}
impl From<Sum> for String {
    fn from(sum: Sum) -> String {
        sum.to_string()
    }
}
impl TryFrom<String> for Sum {
    type Error = BadSum;
    fn try_from(text: String) -> Result<Self, BadSum> {
        if text.len() != 64 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(BadSum(text));
        }
        let mut sum = Sum::default();
        for (at, word) in sum.0.iter_mut().enumerate() {
            *word = u64::from_str_radix(&text[at * 16..][..16], 16).map_err(|_| BadSum(text.clone()))?;
        }
        Ok(sum)
    }
}

/// What one round shipped of one disk: goes with the RoundEnd control message, and the target compares it with its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskTotals {
    /// Index of the disk in the migration's list of disks.
    pub disk: u16,
    /// Frames that carried data or zeros.
    pub chunks: u64,
    /// Bytes of the disk that they covered.
    pub bytes: u64,
    pub sum: Sum,
}

impl DiskTotals {
    pub fn new(disk: u16) -> Self {
        DiskTotals { disk, ..Default::default() }
    }

    pub fn add(&mut self, header: &Header) {
        self.chunks += 1;
        self.bytes += u64::from(header.len);
        self.sum.add(header);
    }

    /// Takes in what another worker shipped of the same disk.
    pub fn merge(&mut self, other: &DiskTotals) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.sum.merge(&other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;

    fn frames() -> Vec<Header> {
        (0..50).map(|at| Header::new(Kind::Data, 0, 1, at * 4096, 3, &[at as u8; 3])).collect()
    }

    fn totals<'a>(headers: impl IntoIterator<Item = &'a Header>) -> DiskTotals {
        let mut totals = DiskTotals::new(0);
        headers.into_iter().for_each(|header| totals.add(header));
        totals
    }

    #[test]
    fn order_does_not_matter_but_everything_else_does() {
        let frames = frames();
        let whole = totals(&frames);
        assert_eq!(whole, totals(frames.iter().rev()));
        assert_ne!(whole.sum, totals(&frames[1..]).sum, "a lost chunk");
        assert_ne!(whole.sum, totals(frames[1..].iter().chain([&frames[1]])).sum, "one lost, one doubled");
        let bend = |change: &dyn Fn(&mut Header)| {
            let mut bent = frames.clone();
            change(&mut bent[7]);
            totals(&bent).sum
        };
        assert_ne!(whole.sum, bend(&|header| header.offset += 1), "misplaced");
        assert_ne!(whole.sum, bend(&|header| header.round += 1), "another round");
        assert_ne!(whole.sum, bend(&|header| header.digest[31] ^= 1), "another content");
        assert_ne!(whole.sum, bend(&|header| header.disk += 1), "another disk");
    }

    #[test]
    fn totals_survive_json_and_bad_sums_do_not() {
        let whole = totals(&frames());
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<DiskTotals>(&json).unwrap(), whole);
        let (text, short) = (whole.sum.to_string(), &whole.sum.to_string()[1..]);
        assert!(Sum::try_from(text.clone()).is_ok());
        assert!(Sum::try_from(short.to_owned()).is_err());
        assert!(Sum::try_from(text.replacen(&text[..1], "g", 1)).is_err());
    }
}
