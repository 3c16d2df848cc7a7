//! Writer of the cpio "newc" format, the one that the kernel unpacks. Own code because the format is twelve numbers and a
//! name, and because an archive written here is the same byte for byte each time (no times, no inode numbers of this machine).

const MAGIC: &str = "070701";
const ALIGN_BYTES: usize = 4;

#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }
    pub(super) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, (0, 0), content);
    }
    pub(super) fn link(&mut self, name: &str, to: &str) {
        self.entry(name, 0o120_777, (0, 0), to.as_bytes());
    }
    /// A character device: the kernel opens `/dev/console` for the first process before anything could mount `/dev`.
    pub(super) fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), &[]);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (inode, uid, gid, links, mtime, file_major, file_minor, checksum) = (self.entries, 0, 0, 1, 0, 0, 0, 0);
        let name_bytes = name.len() as u32 + 1;
        let (major, minor) = device;
        let content_bytes = content.len() as u32;
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for number in [
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            content_bytes,
            file_major,
            file_minor,
            major,
            minor,
            name_bytes,
            checksum,
        ] {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN_BYTES), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_small_program_has_the_layout_of_the_format() {
        let mut archive = Archive::default();
        archive.program("init", b"abc");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081ed");
        assert_eq!(&bytes[54..62], b"00000003", "size of the content");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..120], b"abc\0", "content starts aligned to 4");
        assert_eq!(&bytes[120..126], b"070701", "the next entry too");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
