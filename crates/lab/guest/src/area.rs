//! A region of a file or block device that is read and written around the page cache: what is read back was on the
//! (virtual) disk, not in this guest's memory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

pub const ALIGN_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Direct,
    /// Likewise, of a device that refuses to be opened for more.
    DirectReadOnly,
    /// Through the page cache, for tests on file systems that know nothing else.
    #[cfg(test)]
    Cached,
}

pub struct Area {
    file: File,
    offset_bytes: u64,
    len_bytes: u64,
}

impl Area {
    /// The `len_bytes` from `offset_bytes` on; all of them must exist.
    pub fn open(path: &Path, access: Access, offset_bytes: u64, len_bytes: u64) -> io::Result<Area> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::DirectReadOnly);
        match access {
            Access::Direct | Access::DirectReadOnly => options.custom_flags(nix::libc::O_DIRECT),
            #[cfg(test)]
            Access::Cached => &mut options,
        };
        let mut file = options.open(path)?;
        let size_bytes = file.seek(SeekFrom::End(0))?;
        if offset_bytes + len_bytes > size_bytes {
            let path = path.display();
            return Err(io::Error::other(format!("{path} has {size_bytes} bytes, too few for our area")));
        }
        Ok(Area { file, offset_bytes, len_bytes })
    }

    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub fn read(&self, at_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        self.check(at_bytes, into.len());
        self.file.read_exact_at(into, self.offset_bytes + at_bytes)
    }

    pub fn write(&self, at_bytes: u64, from: &[u8]) -> io::Result<()> {
        self.check(at_bytes, from.len());
        self.file.write_all_at(from, self.offset_bytes + at_bytes)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// An access beside the area would damage someone else's and be found by them, not here.
    fn check(&self, at_bytes: u64, len: usize) {
        assert!(at_bytes + len as u64 <= self.len_bytes, "access beyond the area");
    }
}

/// Memory that direct access accepts: aligned to a page.
pub struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Buffer {
    pub fn new(len: usize) -> Buffer {
        let bytes = vec![0; len + ALIGN_BYTES];
        let from = bytes.as_ptr().align_offset(ALIGN_BYTES);
        Buffer { bytes, from, len }
    }
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.len]
    }
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.len]
    }
}
