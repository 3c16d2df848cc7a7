//! Reads a qcow2 header strictly, and sees that all its tables point into the file.
//!
//! An image from outside must not name other files (backing file, external data file: they would be opened on the host with
//! the host's rights), must be clean, and must be whole: a file that was cut off shows by a table entry behind its end.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use whimbrel_core::disk::DiskFormat;

use super::format::{DiskContent, Unfit};

pub(super) const MAGIC: &[u8] = b"QFI\xfb";

const V2_HEADER_BYTES: usize = 72;
const V3_HEADER_BYTES_MIN: usize = 104;
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
const REFCOUNT_ORDER_MAX: u32 = 6;
/// QEMU's own bound.
const L1_BYTES_MAX: u64 = 32 << 20;
const EXTENSIONS_MAX: usize = 64;
const EXTENSION_END: u32 = 0;
const EXTENSION_EXTERNAL_DATA: u32 = 0x4441_5441;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

const REPAIR: &str = "try qemu-img check -r all FILE, or convert it: qemu-img convert -O qcow2 FILE FILE.new";
const CUT_OFF: &str = "it was probably cut off while it was copied: compare its size with the original's";

struct Header {
    cluster_bits: u32,
    virtual_bytes: u64,
    l1_entries: u64,
    l1_offset: u64,
    extended_l2: bool,
}

pub(super) fn inspect(file: &mut File, head: &[u8], file_bytes: u64) -> io::Result<Result<DiskContent, Unfit>> {
    let header = match header(head, file_bytes) {
        Ok(header) => header,
        Err(unfit) => return Ok(Err(unfit)),
    };
    Ok(tables(file, &header, file_bytes)?
        .map(|()| DiskContent { format: DiskFormat::Qcow2, virtual_bytes: header.virtual_bytes }))
}

fn broken(what: impl std::fmt::Display) -> Unfit {
    Unfit::new(format!("its qcow2 header is corrupt: {what}"), REPAIR)
}

fn header(head: &[u8], file_bytes: u64) -> Result<Header, Unfit> {
    if head.len() < V2_HEADER_BYTES {
        return Err(Unfit::new(format!("its qcow2 header is cut off after {} bytes", head.len()), CUT_OFF));
    }
    let (u32_at, u64_at) = (|at| be32(head, at), |at| be64(head, at));
    let version = u32_at(4);
    let header_bytes = match version {
        2 => V2_HEADER_BYTES,
        3 if head.len() < V3_HEADER_BYTES_MIN => return Err(Unfit::new("its qcow2 header is cut off", CUT_OFF)),
        3 => u32_at(100) as usize,
        other => return Err(Unfit::new(format!("it is qcow version {other}; 2 and 3 are supported"), REPAIR)),
    };
    let (incompatible, refcount_order) = if version == 3 { (u64_at(72), u32_at(96)) } else { (0, 4) };
    features(incompatible)?;
    if u64_at(8) != 0 {
        return Err(Unfit::new(
            "it needs a backing file, which was not uploaded with it",
            "make it stand alone: qemu-img convert -O qcow2 FILE FILE.new",
        ));
    }
    if u32_at(32) != 0 {
        return Err(Unfit::new("it is encrypted", "decrypt it first: qemu-img convert with its secret"));
    }
    let cluster_bits = u32_at(20);
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err(broken(format!("cluster size of 2^{cluster_bits}")));
    }
    let cluster_bytes = 1_u64 << cluster_bits;
    if version == 3
        && (header_bytes < V3_HEADER_BYTES_MIN
            || header_bytes as u64 > cluster_bytes
            || !header_bytes.is_multiple_of(8))
    {
        return Err(broken(format!("header length of {header_bytes}")));
    }
    if refcount_order > REFCOUNT_ORDER_MAX {
        return Err(broken(format!("refcount order of {refcount_order}")));
    }
    extensions(head, header_bytes)?;
    place(cluster_bytes, u64_at(48), u64::from(u32_at(56)) * cluster_bytes, file_bytes, "refcount table")?;
    let header = Header {
        cluster_bits,
        virtual_bytes: u64_at(24),
        l1_entries: u64::from(u32_at(36)),
        l1_offset: u64_at(40),
        extended_l2: incompatible & EXTENDED_L2 != 0,
    };
    sizes(&header, file_bytes).map(|()| header)
}

fn features(incompatible: u64) -> Result<(), Unfit> {
    if incompatible & CORRUPT != 0 {
        return Err(Unfit::new("it is a qcow2 image that QEMU marked as corrupt", REPAIR));
    }
    if incompatible & DIRTY != 0 {
        return Err(Unfit::new("it is a qcow2 image that was not closed cleanly", REPAIR));
    }
    if incompatible & EXTERNAL_DATA != 0 {
        return Err(Unfit::new(
            "it keeps its data in another file, which was not uploaded with it",
            "make it stand alone: qemu-img convert -O qcow2 FILE FILE.new",
        ));
    }
    let unknown = incompatible & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        return Err(Unfit::new(format!("it uses unknown qcow2 features ({unknown:#x})"), REPAIR));
    }
    Ok(())
}

fn extensions(head: &[u8], header_bytes: usize) -> Result<(), Unfit> {
    let mut at = header_bytes;
    for _ in 0..EXTENSIONS_MAX {
        if at + 8 > head.len() {
            return Ok(());
        }
        match be32(head, at) {
            EXTENSION_END => return Ok(()),
            EXTENSION_EXTERNAL_DATA => return features(EXTERNAL_DATA),
            _ => at = at.saturating_add(8).saturating_add((be32(head, at + 4) as usize).next_multiple_of(8)),
        }
    }
    Err(broken(format!("more than {EXTENSIONS_MAX} extensions")))
}

fn sizes(header: &Header, file_bytes: u64) -> Result<(), Unfit> {
    if header.virtual_bytes == 0 {
        return Err(broken("a virtual size of 0"));
    }
    let (l1_bytes, needed) = (header.l1_entries * 8, header.virtual_bytes.div_ceil(header.bytes_per_l2()));
    if header.l1_entries < needed || l1_bytes > L1_BYTES_MAX {
        return Err(broken(format!("an L1 table of {} entries where {needed} are needed", header.l1_entries)));
    }
    place(1 << header.cluster_bits, header.l1_offset, l1_bytes, file_bytes, "L1 table")
}

fn place(cluster_bytes: u64, offset: u64, bytes: u64, file_bytes: u64, what: &str) -> Result<(), Unfit> {
    if offset == 0 || bytes == 0 || !offset.is_multiple_of(cluster_bytes) {
        return Err(broken(format!("{what} of {bytes} bytes at {offset}")));
    }
    // The last table of a file need not fill its cluster.
    if offset >= file_bytes {
        return Err(behind_the_end(what, offset, file_bytes));
    }
    Ok(())
}

fn behind_the_end(what: &str, offset: u64, file_bytes: u64) -> Unfit {
    Unfit::new(
        format!("it is a truncated qcow2 image: its {what} lies at byte {offset}, but the file ends at {file_bytes}"),
        CUT_OFF,
    )
}

impl Header {
    fn l2_entry_bytes(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    fn bytes_per_l2(&self) -> u64 {
        let cluster_bytes = 1_u64 << self.cluster_bits;
        (cluster_bytes / self.l2_entry_bytes()) * cluster_bytes
    }
}

/// Every L2 table and every cluster must begin within the file.
fn tables(file: &mut File, header: &Header, file_bytes: u64) -> io::Result<Result<(), Unfit>> {
    let cluster_bytes = 1_usize << header.cluster_bits;
    let mut l1 = vec![0; (header.l1_entries * 8) as usize];
    if !read_at(file, header.l1_offset, &mut l1)? {
        return Ok(Err(behind_the_end("L1 table", header.l1_offset, file_bytes)));
    }
    let mut l2 = vec![0; cluster_bytes];
    for entry in l1.as_chunks::<8>().0 {
        let offset = u64::from_be_bytes(*entry) & OFFSET_MASK;
        if offset == 0 {
            continue;
        }
        if !offset.is_multiple_of(cluster_bytes as u64) {
            return Ok(Err(broken(format!("an L2 table at {offset}"))));
        }
        if !read_at(file, offset, &mut l2)? {
            return Ok(Err(behind_the_end("L2 table", offset, file_bytes)));
        }
        for entry in l2.chunks_exact(header.l2_entry_bytes() as usize) {
            let offset = cluster_offset(be64(entry, 0), header.cluster_bits);
            if offset >= file_bytes {
                return Ok(Err(behind_the_end("data", offset, file_bytes)));
            }
        }
    }
    Ok(Ok(()))
}

fn cluster_offset(entry: u64, cluster_bits: u32) -> u64 {
    if entry & COMPRESSED != 0 { entry & ((1 << (62 - (cluster_bits - 8))) - 1) } else { entry & OFFSET_MASK }
}

/// Whether the file was long enough.
fn read_at(file: &mut File, offset: u64, into: &mut [u8]) -> io::Result<bool> {
    file.seek(SeekFrom::Start(offset))?;
    match file.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |all, &byte| (all << 8) | u32::from(byte))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    (u64::from(be32(bytes, at)) << 32) | u64::from(be32(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::image::format::{Kind, inspect};

    const CLUSTER: usize = 1 << 16;

    /// Version 3, 1 GiB, 64 KiB clusters: header, refcount table, refcount block, L1, one L2, one data cluster.
    fn sample() -> Vec<u8> {
        let mut image = vec![0; 6 * CLUSTER];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(4, &3_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(1_u64 << 30).to_be_bytes());
        put(36, &2_u32.to_be_bytes());
        put(40, &(3 * CLUSTER as u64).to_be_bytes());
        put(48, &(CLUSTER as u64).to_be_bytes());
        put(56, &1_u32.to_be_bytes());
        put(96, &4_u32.to_be_bytes());
        put(100, &104_u32.to_be_bytes());
        put(3 * CLUSTER, &((4 * CLUSTER as u64) | (1 << 63)).to_be_bytes());
        put(4 * CLUSTER, &((5 * CLUSTER as u64) | (1 << 63)).to_be_bytes());
        image
    }

    fn inspected(image: &[u8]) -> Result<Option<DiskContent>, Unfit> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(image).unwrap();
        inspect(&mut file, Kind::Disk).unwrap()
    }

    #[test]
    fn a_whole_image_is_taken_with_its_virtual_size() {
        let qcow2 = DiskContent { format: DiskFormat::Qcow2, virtual_bytes: 1 << 30 };
        assert_eq!(inspected(&sample()), Ok(Some(qcow2)));
        let mut compressed = sample();
        let entry = COMPRESSED | (5 * CLUSTER as u64 + 17);
        compressed[4 * CLUSTER..4 * CLUSTER + 8].copy_from_slice(&entry.to_be_bytes());
        assert_eq!(inspected(&compressed), Ok(Some(qcow2)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |at: usize, bytes: &[u8], want: &str| {
            let mut image = sample();
            image[at..at + bytes.len()].copy_from_slice(bytes);
            let unfit = inspected(&image).expect_err(want);
            assert!(unfit.what.contains(want), "{} lacks {want}", unfit.what);
            assert!(!unfit.hint.is_empty());
        };
        check(4, &1_u32.to_be_bytes(), "version 1");
        check(8, &512_u64.to_be_bytes(), "backing file");
        check(20, &40_u32.to_be_bytes(), "cluster size of 2^40");
        check(24, &0_u64.to_be_bytes(), "virtual size of 0");
        check(24, &(1_u64 << 40).to_be_bytes(), "L1 table of 2 entries where 2048 are needed");
        check(24, &u64::MAX.to_be_bytes(), "L1 table");
        check(32, &1_u32.to_be_bytes(), "encrypted");
        check(36, &u32::MAX.to_be_bytes(), "L1 table");
        check(40, &(1_u64 << 40).to_be_bytes(), "truncated");
        check(40, &7_u64.to_be_bytes(), "L1 table");
        check(48, &0_u64.to_be_bytes(), "refcount table");
        check(72, &1_u64.to_be_bytes(), "not closed cleanly");
        check(72, &2_u64.to_be_bytes(), "marked as corrupt");
        check(72, &4_u64.to_be_bytes(), "another file");
        check(72, &(1_u64 << 40).to_be_bytes(), "unknown qcow2 features");
        check(96, &9_u32.to_be_bytes(), "refcount order");
        check(100, &3_u32.to_be_bytes(), "header length");
        check(104, &EXTENSION_EXTERNAL_DATA.to_be_bytes(), "another file");
        check(3 * CLUSTER, &(1_u64 << 33).to_be_bytes(), "L2 table lies at byte");
        check(3 * CLUSTER, &(512_u64).to_be_bytes(), "an L2 table at 512");
        check(4 * CLUSTER, &(1_u64 << 33).to_be_bytes(), "data lies at byte");
    }

    #[test]
    fn a_file_that_was_cut_off_is_refused_wherever_it_was_cut() {
        let image = sample();
        for bytes in [4, 71, 80, 200, CLUSTER, 3 * CLUSTER + 4, 4 * CLUSTER, 5 * CLUSTER - 1, 5 * CLUSTER] {
            assert!(inspected(&image[..bytes]).is_err(), "{bytes} of {} bytes were taken", image.len());
        }
    }

    /// Both ends of the supported range write what this reads, in all their variants.
    #[test]
    fn images_of_real_qemu_are_taken_and_refused_when_cut_off() {
        const VARIANTS: [&[&str]; 7] = [
            &["-o", "compat=0.10"],
            &["-o", "compat=1.1"],
            &["-o", "compat=1.1,extended_l2=on"],
            &["-o", "cluster_size=4k"],
            &["-c"],
            &["-c", "-o", "compression_type=zstd"],
            &["-o", "preallocation=metadata"],
        ];
        const VIRTUAL_BYTES: u64 = 64 << 20;
        let dir = tempfile::tempdir().unwrap();
        let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
        let content: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(&raw, &content).unwrap();
        File::options().write(true).open(&raw).unwrap().set_len(VIRTUAL_BYTES).unwrap();
        for qemu in ["WHIMBREL_QEMU_72", "WHIMBREL_QEMU_100"] {
            let bin = std::env::var_os(qemu).unwrap_or_else(|| panic!("{qemu} is not set: run `eval \"$(./x env)\"`"));
            for variant in VARIANTS {
                let mut convert = std::process::Command::new(std::path::Path::new(&bin).join("qemu-img"));
                convert.args(["convert", "-f", "raw", "-O", "qcow2"]).args(variant).args([&raw, &qcow2]);
                assert!(convert.status().unwrap().success(), "{convert:?}");
                let mut file = File::options().read(true).write(true).open(&qcow2).unwrap();
                let want = DiskContent { format: DiskFormat::Qcow2, virtual_bytes: VIRTUAL_BYTES };
                assert_eq!(inspect(&mut file, Kind::Disk).unwrap(), Ok(Some(want)), "{qemu} {variant:?}");
                let half = file.metadata().unwrap().len() / 2;
                file.set_len(half).unwrap();
                assert!(inspect(&mut file, Kind::Disk).unwrap().is_err(), "{qemu} {variant:?} cut to {half} bytes");
            }
        }
    }
}
