//! The write load: random 64 KiB blocks over a region of the root disk, each of which can be told right or wrong later.
//!
//! Under emulation the guest's CPU is the scarce thing, so content is neither generated nor hashed per write. A pool of
//! random bytes, made once, is written from at a place that the block and its generation decide, with a stamp of both in
//! every sector. The generations are kept in RAM, which moves with the guest: after a move every block on the disk must
//! carry the generation that RAM remembers, or disk and RAM are of two different moments.

use std::io;

use crate::{
    area::{Area, Buffer},
    random::Random,
};

pub const BLOCK_BYTES: usize = 64 * 1024;
const SECTOR_BYTES: usize = 512;
const POOL_BYTES: usize = 8 << 20;
/// Where in the pool a block may begin; a multiple of the sector, so that stamps always fall on the same bytes.
const POOL_STEP_BYTES: usize = 4096;
const SEED: u64 = 0x7768_696d_6272_656c;

/// Golden ratio's multiple nearest below a power of two: steps that visit a region far apart, every block once.
const STRIDE: u64 = 40_503;

pub struct Load {
    area: Area,
    pool: Buffer,
    /// Generation of each block; zero was never written.
    generations: Vec<u32>,
    random: Random,
    written_bytes: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadFindings {
    pub checked: u64,
    pub bad: u64,
    pub first_bad: Option<u64>,
}

impl Load {
    pub fn new(area: Area) -> Load {
        let mut pool = Buffer::new(POOL_BYTES);
        let mut random = Random::new(SEED);
        for word in pool.bytes_mut().chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let blocks = (area.len_bytes() / BLOCK_BYTES as u64) as usize;
        Load { area, pool, generations: vec![0; blocks], random, written_bytes: 0 }
    }

    pub fn blocks(&self) -> u64 {
        self.generations.len() as u64
    }

    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes one block at random.
    pub fn write_one(&mut self) -> io::Result<()> {
        let block = self.random.next() % self.blocks();
        self.write(block)
    }

    /// Writes the `index`th block of a walk that visits each block once. A walk has as many steps as there are blocks.
    pub fn write_nth(&mut self, index: u64) -> io::Result<()> {
        // Only a stride without a common divisor reaches every block; one of the two next numbers is odd enough.
        let blocks = self.blocks();
        let stride = (STRIDE..).find(|&stride| divisor(stride, blocks) == 1).unwrap_or(1);
        self.write(index % blocks * stride % blocks)
    }

    fn write(&mut self, block: u64) -> io::Result<()> {
        let generation = self.generations[block as usize].wrapping_add(1).max(1);
        let at_bytes = block * BLOCK_BYTES as u64;
        self.area.write(at_bytes, stamped(&mut self.pool, block, generation))?;
        self.generations[block as usize] = generation;
        self.written_bytes += BLOCK_BYTES as u64;
        Ok(())
    }

    /// Reads every block that was ever written and compares all of it.
    pub fn check(&mut self) -> io::Result<LoadFindings> {
        let mut findings = LoadFindings::default();
        let mut buffer = Buffer::new(BLOCK_BYTES);
        for block in 0..self.blocks() {
            let generation = self.generations[block as usize];
            if generation == 0 {
                continue;
            }
            self.area.read(block * BLOCK_BYTES as u64, buffer.bytes_mut())?;
            findings.checked += 1;
            if buffer.bytes() != stamped(&mut self.pool, block, generation) {
                findings.bad += 1;
                findings.first_bad.get_or_insert(block);
            }
        }
        Ok(findings)
    }
}

/// The content of a block at a generation: a piece of the pool, stamped in place.
fn stamped(pool: &mut Buffer, block: u64, generation: u32) -> &[u8] {
    let places = ((POOL_BYTES - BLOCK_BYTES) / POOL_STEP_BYTES) as u64;
    let place = Random::new(block << 32 | u64::from(generation)).next() % places;
    let from = place as usize * POOL_STEP_BYTES;
    let content = &mut pool.bytes_mut()[from..from + BLOCK_BYTES];
    for (index, sector) in content.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        sector[..8].copy_from_slice(&block.to_le_bytes());
        sector[8..12].copy_from_slice(&generation.to_le_bytes());
        sector[12..16].copy_from_slice(&(index as u32).to_le_bytes());
    }
    content
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use super::*;
    use crate::area::Access;

    const BLOCKS: u64 = 48;

    /// Writes, lets `plant` change the file, and returns how many blocks are found bad.
    fn check(writes: u64, plant: impl FnOnce(&fs::File)) -> LoadFindings {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(BLOCKS * BLOCK_BYTES as u64).unwrap();
        let area = Area::open(file.path(), Access::Cached, 0, BLOCKS * BLOCK_BYTES as u64).unwrap();
        let mut load = Load::new(area);
        for index in 0..writes {
            load.write_nth(index).unwrap();
        }
        plant(file.as_file());
        load.check().unwrap()
    }

    #[test]
    fn a_walk_visits_each_block_once() {
        assert_eq!(check(5, |_| ()), LoadFindings { checked: 5, bad: 0, first_bad: None });
        assert_eq!(check(BLOCKS, |_| ()).checked, BLOCKS);
        assert_eq!(check(3 * BLOCKS, |_| ()), LoadFindings { checked: BLOCKS, bad: 0, first_bad: None });
    }

    #[test]
    fn a_flipped_byte_an_old_sector_and_a_misplaced_block_are_seen() {
        let flip = |file: &fs::File| file.write_all_at(&[1, 2, 3], 70_003).unwrap();
        assert_eq!(check(BLOCKS, flip), LoadFindings { checked: BLOCKS, bad: 1, first_bad: Some(1) });

        let mut sector = [0; SECTOR_BYTES];
        check(BLOCKS, |file| file.read_exact_at(&mut sector, 1024).unwrap());
        let old = |file: &fs::File| file.write_all_at(&sector, 1024).unwrap();
        assert_eq!(check(BLOCKS, old).bad, 0, "the same generation has the same content");
        assert_eq!(check(2 * BLOCKS, old).bad, 1);

        let misplace = |file: &fs::File| {
            let mut block = vec![0; BLOCK_BYTES];
            file.read_exact_at(&mut block, 0).unwrap();
            file.write_all_at(&block, 3 * BLOCK_BYTES as u64).unwrap();
        };
        assert_eq!(check(BLOCKS, misplace), LoadFindings { checked: BLOCKS, bad: 1, first_bad: Some(3) });
    }
}
