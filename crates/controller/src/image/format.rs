//! Tells from a file's bytes whether it is a disk, a kernel or a ramdisk that a guest can be given.
//!
//! Raw has no magic: it is what is left when nothing else fits, so everything that people upload by mistake is looked for
//! first (archives, other hypervisors' disks, text such as an error page saved by a browser).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use whimbrel_core::disk::DiskFormat;

use super::qcow2;

/// Enough for every magic below, the ISO 9660 one at 32 KiB included.
const HEAD_BYTES: u64 = 36 << 10;
const SECTOR_BYTES: u64 = 512;
const TEXT_SAMPLE_BYTES: usize = 512;
/// Of a bzImage, in its boot sector.
const BZIMAGE_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// What an uploaded file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Disk,
    Kernel,
    Ramdisk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskContent {
    pub format: DiskFormat,
    pub virtual_bytes: u64,
}

/// Formats that are no disk for a guest of ours: where the magic stands, what it is, and what to do about it.
const REFUSED: &[(usize, &[u8], &str, &str)] = &[
    (0, b"KDMV", "a VMDK disk", CONVERT),
    (0, b"COWD", "a VMDK disk", CONVERT),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor", CONVERT),
    (0, b"conectix", "a VHD disk", CONVERT),
    (0, b"vhdxfile", "a VHDX disk", CONVERT),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI disk", CONVERT),
    (0, b"QED\0", "a QED disk", CONVERT),
    (0, b"WithoutFreeSpace", "a Parallels disk", CONVERT),
    (0, b"WithouFreSpacExt", "a Parallels disk", CONVERT),
    (0, b"LUKS\xba\xbe", "a LUKS volume", "decrypt it first; encrypted images are not supported"),
    (0, b"\x1f\x8b", "gzip data", UNPACK),
    (0, b"\xfd7zXZ\0", "xz data", UNPACK),
    (0, b"BZh", "bzip2 data", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "zstd data", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (257, b"ustar", "a tar archive (an OVA is one)", UNPACK),
    (0, b"070701", "a cpio archive", "upload it as the part 'ramdisk'"),
    (0, ELF_MAGIC, "an ELF program", "upload a kernel as the part 'kernel'"),
    (BZIMAGE_MAGIC.0, BZIMAGE_MAGIC.1, "a Linux kernel", "upload it as the part 'kernel'"),
];
const CONVERT: &str = "convert it first: qemu-img convert -O qcow2 FILE FILE.qcow2";
const UNPACK: &str = "unpack it first and upload the disk image inside";

const RAMDISKS: &[&[u8]] = &[
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"\xfd7zXZ\0",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"\x5d\0\0",
    b"\x89LZO",
];

/// Why content is refused: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub what: String,
    pub hint: String,
}

impl Unfit {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Unfit { what: what.into(), hint: hint.into() }
    }
}

/// `Some` for a disk. The inner error says why the content is refused, the outer that it could not be read.
pub fn inspect(file: &mut File, kind: Kind) -> io::Result<Result<Option<DiskContent>, Unfit>> {
    let file_bytes = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut head = Vec::new();
    Read::by_ref(file).take(HEAD_BYTES).read_to_end(&mut head)?;
    if file_bytes == 0 {
        return Ok(Err(Unfit::new("it is empty", "was the right file uploaded?")));
    }
    match kind {
        Kind::Disk => Ok(disk(file, &head, file_bytes)?.map(Some)),
        Kind::Kernel => Ok(kernel(&head).map(|()| None)),
        Kind::Ramdisk => Ok(ramdisk(&head).map(|()| None)),
    }
}

fn disk(file: &mut File, head: &[u8], file_bytes: u64) -> io::Result<Result<DiskContent, Unfit>> {
    if head.starts_with(qcow2::MAGIC) {
        return qcow2::inspect(file, head, file_bytes);
    }
    if let Some((_, _, what, hint)) = REFUSED.iter().find(|(at, magic, _, _)| has(head, *at, magic)) {
        return Ok(Err(Unfit::new(format!("it is {what}, neither qcow2 nor raw"), *hint)));
    }
    if looks_like_text(head) {
        return Ok(Err(Unfit::new(
            "it is text, neither qcow2 nor raw",
            "is it an error page that was downloaded in place of the image?",
        )));
    }
    if !file_bytes.is_multiple_of(SECTOR_BYTES) {
        let what = format!(
            "it has no known magic and its {file_bytes} bytes are no multiple of {SECTOR_BYTES}, so it is neither qcow2 nor raw"
        );
        return Ok(Err(Unfit::new(what, "was it cut off while it was copied?")));
    }
    if has_vhd_footer(file, file_bytes)? {
        return Ok(Err(Unfit::new("it is a VHD disk, neither qcow2 nor raw", CONVERT)));
    }
    Ok(Ok(DiskContent { format: DiskFormat::Raw, virtual_bytes: file_bytes }))
}

fn kernel(head: &[u8]) -> Result<(), Unfit> {
    if has(head, BZIMAGE_MAGIC.0, BZIMAGE_MAGIC.1) || head.starts_with(ELF_MAGIC) {
        return Ok(());
    }
    Err(Unfit::new("it is no x86 Linux kernel (bzImage) and no ELF kernel", "upload a vmlinuz as it comes from /boot"))
}

fn ramdisk(head: &[u8]) -> Result<(), Unfit> {
    if RAMDISKS.iter().any(|magic| head.starts_with(magic)) {
        return Ok(());
    }
    Err(Unfit::new("it is no cpio archive, packed or not", "upload an initrd.img or initramfs as it comes from /boot"))
}

fn has(head: &[u8], at: usize, magic: &[u8]) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// A disk begins with a boot sector, a file system or zeros; 512 bytes of nothing but characters are none of these.
fn looks_like_text(head: &[u8]) -> bool {
    let sample = &head[..head.len().min(TEXT_SAMPLE_BYTES)];
    let text = match std::str::from_utf8(sample) {
        Ok(text) => text,
        // A character cut in two at the end of the sample.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&sample[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

/// A fixed-size VHD is a raw disk with this behind it.
fn has_vhd_footer(file: &mut File, file_bytes: u64) -> io::Result<bool> {
    let mut magic = [0; 8];
    file.seek(SeekFrom::Start(file_bytes.saturating_sub(SECTOR_BYTES)))?;
    file.read_exact(&mut magic)?;
    Ok(&magic == b"conectix")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn inspected(content: &[u8], kind: Kind) -> Result<Option<DiskContent>, Unfit> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        inspect(&mut file, kind).unwrap()
    }

    fn disk_of(bytes: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut content = vec![0; bytes];
        for (at, part) in parts {
            content[*at..*at + part.len()].copy_from_slice(part);
        }
        content
    }

    #[test]
    fn a_raw_disk_is_taken_with_its_size() {
        let check = |content: Vec<u8>| {
            let raw = DiskContent { format: DiskFormat::Raw, virtual_bytes: content.len() as u64 };
            assert_eq!(inspected(&content, Kind::Disk), Ok(Some(raw)));
        };
        check(disk_of(1024, &[(510, b"\x55\xaa")]));
        check(disk_of(64 << 10, &[(32769, b"CD001")]));
        check(vec![0; 512]);
        check(disk_of(4096, &[(0, b"mostly text, but then a zero")]));
    }

    #[test]
    fn what_is_no_disk_is_refused_by_its_name() {
        let check = |content: Vec<u8>, want: &str| {
            let unfit = inspected(&content, Kind::Disk).expect_err(want);
            assert!(unfit.what.contains(want), "{} lacks {want}", unfit.what);
            assert!(!unfit.hint.is_empty());
        };
        for (at, magic, what, _) in REFUSED {
            check(disk_of(1 << 16, &[(*at, magic)]), what);
        }
        check(disk_of(2048, &[(1536, b"conectix")]), "VHD");
        check(vec![], "empty");
        check(vec![0; 513], "no multiple of 512");
        check(b"<html><body>404 Not Found</body></html>\n".repeat(64), "text");
        check("\u{fc}".repeat(512).into_bytes(), "text");
    }

    #[test]
    fn kernels_and_ramdisks_are_known_by_their_magic() {
        let check = |content: Vec<u8>, kind: Kind, good: bool| {
            assert_eq!(inspected(&content, kind).is_ok(), good, "{kind:?} {:?}", &content[..content.len().min(8)]);
        };
        check(disk_of(4096, &[(0x202, b"HdrS")]), Kind::Kernel, true);
        check(disk_of(4096, &[(0, b"\x7fELF")]), Kind::Kernel, true);
        check(disk_of(4096, &[(0, b"MZ")]), Kind::Kernel, false);
        check(b"\x1f\x8b\x08".to_vec(), Kind::Ramdisk, true);
        check(b"070701".to_vec(), Kind::Ramdisk, true);
        check(b"hello".to_vec(), Kind::Ramdisk, false);
        check(vec![], Kind::Ramdisk, false);
    }
}
