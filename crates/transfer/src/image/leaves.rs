//! BLAKE3 of a whole file from the chaining values of its chunks, in whatever order they come.
//!
//! BLAKE3 hashes a tree whose left subtrees are complete (BLAKE3 paper, 2.1): a chunk of `CHUNK_BYTES`, a power of two, is
//! one subtree, and two neighbours make the next. Siblings merge as soon as both are there, so memory holds what came out
//! of order and a handful of subtrees, however large the file.

use std::collections::BTreeMap;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::{buffer::CHUNK_BYTES, frame::Digest};

/// Chaining value of a chunk, which depends on the chunk's place.
pub type Leaf = ChainingValue;

/// `offset` is a multiple of `CHUNK_BYTES`, `chunk` has at most that many bytes, and at least one.
pub fn leaf(offset: u64, chunk: &[u8]) -> Leaf {
    blake3::Hasher::new().set_input_offset(offset).update(chunk).finalize_non_root()
}

#[derive(Debug)]
pub struct Leaves {
    file_bytes: u64,
    /// By height and place: the subtree at `(h, i)` covers the chunks from `i << h` on.
    subtrees: BTreeMap<(u32, u64), Leaf>,
}

impl Leaves {
    pub fn new(file_bytes: u64) -> Leaves {
        Leaves { file_bytes, subtrees: BTreeMap::new() }
    }

    fn chunks(&self) -> u64 {
        self.file_bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// Height of the root, whose merge is another than all others.
    fn root_height(&self) -> u32 {
        self.chunks().next_power_of_two().trailing_zeros()
    }

    pub fn add(&mut self, offset: u64, leaf: Leaf) {
        let (mut height, mut at, mut found) = (0, offset / CHUNK_BYTES as u64, leaf);
        while height + 1 < self.root_height() {
            let Some(sibling) = self.subtrees.remove(&(height, at ^ 1)) else { break };
            let (left, right) = if at & 1 == 0 { (found, sibling) } else { (sibling, found) };
            found = merge_subtrees_non_root(&left, &right, Mode::Hash);
            (height, at) = (height + 1, at >> 1);
        }
        self.subtrees.insert((height, at), found);
    }

    /// The file's digest, once every chunk was added exactly once. A file of one chunk has no leaves: `None`, hash it.
    pub fn root(&self) -> Option<Digest> {
        let chunks = self.chunks();
        // Left to right they cover the file: each begins where the one before ends.
        let mut in_order: Vec<_> =
            self.subtrees.iter().map(|(&(height, at), leaf)| (at << height, height, leaf)).collect();
        in_order.sort_by_key(|&(first, ..)| first);
        let mut next = 0;
        for &(first, height, _) in &in_order {
            if first != next {
                return None;
            }
            next = first + (1 << height);
        }
        // Only a last chunk can be alone, so the end is exact.
        if next != chunks || in_order.len() < 2 {
            return None;
        }
        let mut values = in_order.into_iter().rev().map(|(.., leaf)| *leaf);
        let mut right = values.next()?;
        let mut left = values.next()?;
        for further in values {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
            left = further;
        }
        Some(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_keyed(&[3; 32]).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn added(bytes: &[u8], order: impl Iterator<Item = usize>) -> Leaves {
        let mut leaves = Leaves::new(bytes.len() as u64);
        let chunks: Vec<_> = bytes.chunks(CHUNK_BYTES).collect();
        for at in order {
            let offset = (at * CHUNK_BYTES) as u64;
            leaves.add(offset, leaf(offset, chunks[at]));
        }
        leaves
    }

    #[test]
    fn leaves_in_any_order_make_the_hash_of_the_file() {
        for (chunks, tail) in [(2, 0), (2, 1), (3, 0), (4, 0), (4, 1), (5, 777), (7, 4096), (8, 0), (11, 5)] {
            let bytes = content(chunks * CHUNK_BYTES + tail);
            let (whole, count) = (*blake3::hash(&bytes).as_bytes(), bytes.len().div_ceil(CHUNK_BYTES));
            let stride = (1..count).rev().find(|step| (1..=count).all(|d| d == 1 || count % d != 0 || step % d != 0));
            let strided = (0..count).map(|at| at * stride.unwrap_or(1) % count);
            for leaves in [added(&bytes, 0..count), added(&bytes, (0..count).rev()), added(&bytes, strided)] {
                assert_eq!(leaves.root(), Some(whole), "{chunks} chunks and {tail} bytes");
                assert!(leaves.subtrees.len() <= 8, "{} subtrees are kept", leaves.subtrees.len());
            }
        }
    }

    #[test]
    fn a_chunk_that_is_missing_or_doubled_or_wrong_makes_no_such_hash() {
        let mut bytes = content(5 * CHUNK_BYTES + 9);
        let whole = *blake3::hash(&bytes).as_bytes();
        for missing in 0..6 {
            assert_eq!(added(&bytes, (0..6).filter(|at| *at != missing)).root(), None, "without {missing}");
            assert_eq!(added(&bytes, (0..6).chain([missing])).root(), None, "twice {missing}");
        }
        bytes[3 * CHUNK_BYTES] ^= 1;
        let root = added(&bytes, 0..6).root();
        assert!(root.is_some() && root != Some(whole));
    }

    #[test]
    fn one_chunk_has_no_leaves() {
        assert_eq!(added(&content(9), 0..1).root(), None);
        assert_eq!(added(&content(CHUNK_BYTES), 0..1).root(), None);
    }
}
