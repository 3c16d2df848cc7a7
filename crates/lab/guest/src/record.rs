//! One record of a journal: 4 KiB that name their place in the chain and fix everything before them.
//!
//! ```text
//!   0        8        16                48                80                     4096
//!   | magic  | seq    | hash of seq - 1 | own hash        | payload of (seq)     |
//! ```
//!
//! The own hash covers all the rest. A record is sound on its own; whether it is the right one is told by its place
//! (`seq` modulo the number of slots) and by the chain.

pub const RECORD_BYTES: usize = 4096;
pub type Hash = [u8; 32];
/// What the first record continues.
pub const NO_HASH: Hash = [0; 32];

const EMPTY: [u8; RECORD_BYTES] = [0; RECORD_BYTES];
const MAGIC: &[u8; 8] = b"whimjrnl";
const SEQ: std::ops::Range<usize> = 8..16;
const PREVIOUS: std::ops::Range<usize> = 16..48;
const OWN: std::ops::Range<usize> = 48..80;
const PAYLOAD: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: u64,
    pub previous: Hash,
    pub hash: Hash,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Empty,
    Sound(Record),
    Damaged,
}

/// Fills `into` with the record and returns its hash.
pub fn encode(seq: u64, previous: &Hash, into: &mut [u8]) -> Hash {
    into[..8].copy_from_slice(MAGIC);
    into[SEQ].copy_from_slice(&seq.to_le_bytes());
    into[PREVIOUS].copy_from_slice(previous);
    into[OWN].copy_from_slice(&NO_HASH);
    for (index, word) in into[PAYLOAD..RECORD_BYTES].chunks_exact_mut(8).enumerate() {
        let value = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index as u64).rotate_left(23);
        word.copy_from_slice(&value.to_le_bytes());
    }
    let hash = *blake3::hash(&into[..RECORD_BYTES]).as_bytes();
    into[OWN].copy_from_slice(&hash);
    hash
}

pub fn decode(slot: &[u8]) -> Slot {
    if slot == EMPTY {
        return Slot::Empty;
    }
    let hash = hash_at(slot, OWN);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&slot[..OWN.start]);
    hasher.update(&NO_HASH);
    hasher.update(&slot[OWN.end..]);
    if slot[..8] != MAGIC[..] || *hasher.finalize().as_bytes() != hash {
        return Slot::Damaged;
    }
    let mut seq = [0; 8];
    seq.copy_from_slice(&slot[SEQ]);
    Slot::Sound(Record { seq: u64::from_le_bytes(seq), previous: hash_at(slot, PREVIOUS), hash })
}

fn hash_at(slot: &[u8], range: std::ops::Range<usize>) -> Hash {
    let mut hash = NO_HASH;
    hash.copy_from_slice(&slot[range]);
    hash
}

pub fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_any_flipped_byte_is_seen() {
        let mut bytes = vec![0; RECORD_BYTES];
        let hash = encode(7, &[3; 32], &mut bytes);
        assert_eq!(decode(&bytes), Slot::Sound(Record { seq: 7, previous: [3; 32], hash }));
        for at in [0, 8, 20, 50, 80, RECORD_BYTES - 1] {
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes), Slot::Damaged, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(decode(&[0; RECORD_BYTES]), Slot::Empty);
    }
}
