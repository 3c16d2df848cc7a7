//! RAM that can be checked: pages whose every word follows from the page's number and generation.

use crate::{area::Buffer, random::Random};

pub const PAGE_BYTES: usize = 4096;

pub struct Memory {
    pages: Buffer,
    generations: Vec<u32>,
    random: Random,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct MemoryFindings {
    pub checked: u64,
    pub bad: u64,
}

impl Memory {
    /// Not filled yet: see [`Memory::fill_all`].
    pub fn new(megabytes: u32) -> Memory {
        let bytes = (megabytes as usize) << 20;
        Memory { pages: Buffer::new(bytes), generations: vec![0; bytes / PAGE_BYTES], random: Random::new(1) }
    }

    /// Apart from `new` because it takes long under emulation, and the rest of the guest need not wait for it.
    pub fn fill_all(&mut self) {
        for page in 0..self.generations.len() {
            self.fill(page);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// Rewrites one page at random.
    pub fn dirty_one(&mut self) {
        let page = (self.random.next() % self.generations.len() as u64) as usize;
        self.generations[page] = self.generations[page].wrapping_add(1);
        self.fill(page);
    }

    pub fn check(&self) -> MemoryFindings {
        let mut findings = MemoryFindings::default();
        for (page, content) in self.pages.bytes().chunks_exact(PAGE_BYTES).enumerate() {
            let words = content.chunks_exact(8).zip(words(page, self.generations[page]));
            findings.checked += 1;
            findings.bad += u64::from(words.into_iter().any(|(found, expected)| found != expected.to_le_bytes()));
        }
        findings
    }

    fn fill(&mut self, page: usize) {
        let from = page * PAGE_BYTES;
        let content = &mut self.pages.bytes_mut()[from..from + PAGE_BYTES];
        for (word, value) in content.chunks_exact_mut(8).zip(words(page, self.generations[page])) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// The content of a page: cheap to make, different in every page and generation, never all zero.
fn words(page: usize, generation: u32) -> impl Iterator<Item = u64> {
    let first = Random::new((page as u64) << 32 | u64::from(generation)).next() | 1;
    (1..).map(move |index: u64| first.wrapping_mul(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirtied_pages_are_sound_and_a_changed_byte_or_old_page_is_not() {
        let mut memory = Memory::new(1);
        memory.fill_all();
        let untouched = memory.pages.bytes()[..PAGE_BYTES].to_vec();
        for _ in 0..2_000 {
            memory.dirty_one();
        }
        assert_eq!(memory.check(), MemoryFindings { checked: 256, bad: 0 });
        memory.pages.bytes_mut()[5 * PAGE_BYTES + 17] ^= 1;
        assert_eq!(memory.check().bad, 1);
        assert!(memory.generations[0] > 0);
        memory.pages.bytes_mut()[..PAGE_BYTES].copy_from_slice(&untouched);
        assert_eq!(memory.check().bad, 2);
    }
}
