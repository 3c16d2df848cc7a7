//! Disks that the guest can only read, such as a config drive: all their bytes, and their files as the kernel finds them.
//!
//! Ground rules: bytes are read around the page cache, or a disk that arrived empty would be taken for whole; `init` has
//! mounted each below [`MOUNTS`], if the kernel could.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    area::{Access, Area, Buffer},
    record::hex,
    wire::{ReadOnlyDisk, ReadOnlyFile},
};

const DEVICES: &str = "/sys/block";
const MOUNTS: &str = "/mnt";
/// Of `/sys/block/*/size`, whatever the device's own.
const SIZE_UNIT_BYTES: u64 = 512;
const READ_BYTES: usize = 64 << 10;
/// The label of an ISO 9660 volume: in its 17th sector, behind the magic.
const VOLUME_BYTES: usize = 2048;
const VOLUME_AT_BYTES: u64 = 16 * VOLUME_BYTES as u64;
const MAGIC: (std::ops::Range<usize>, &[u8]) = (1..6, b"CD001");
const LABEL: std::ops::Range<usize> = 40..72;
/// One line of the wire holds them all.
const FILES_MAX: usize = 200;

pub fn is_read_only(device: &str) -> bool {
    fs::read_to_string(Path::new(DEVICES).join(device).join("ro")).is_ok_and(|flag| flag.trim() == "1")
}

/// Every virtio disk that is read-only, read now.
pub fn read_all() -> io::Result<Vec<ReadOnlyDisk>> {
    let mut devices: Vec<String> =
        fs::read_dir(DEVICES)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    devices.retain(|device| device.starts_with("vd") && is_read_only(device));
    devices.sort();
    devices.iter().map(|device| read(device)).collect()
}

fn read(device: &str) -> io::Result<ReadOnlyDisk> {
    let units = fs::read_to_string(Path::new(DEVICES).join(device).join("size"))?;
    let bytes = units.trim().parse::<u64>().map_err(io::Error::other)? * SIZE_UNIT_BYTES;
    let area = Area::open(&Path::new("/dev").join(device), Access::DirectReadOnly, 0, bytes)?;
    let mut hasher = blake3::Hasher::new();
    let mut at_bytes = 0;
    while at_bytes < bytes {
        let mut buffer = Buffer::new(READ_BYTES.min((bytes - at_bytes) as usize));
        area.read(at_bytes, buffer.bytes_mut())?;
        hasher.update(buffer.bytes());
        at_bytes += buffer.bytes().len() as u64;
    }
    let mut files = Vec::new();
    let root = Path::new(MOUNTS).join(device);
    if root.exists() {
        list(&root, &root, &mut files)?;
    }
    files.sort_by(|one: &ReadOnlyFile, other| one.path.cmp(&other.path));
    let digest = hex(hasher.finalize().as_bytes());
    Ok(ReadOnlyDisk { device: device.to_owned(), label: label(&area)?, bytes, digest, files })
}

fn label(area: &Area) -> io::Result<String> {
    if area.len_bytes() < VOLUME_AT_BYTES + VOLUME_BYTES as u64 {
        return Ok(String::new());
    }
    let mut buffer = Buffer::new(VOLUME_BYTES);
    area.read(VOLUME_AT_BYTES, buffer.bytes_mut())?;
    let volume = buffer.bytes();
    if volume[MAGIC.0] != *MAGIC.1 {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&volume[LABEL]).trim_end().to_owned())
}

fn list(root: &Path, folder: &Path, files: &mut Vec<ReadOnlyFile>) -> io::Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            list(root, &path, files)?;
            continue;
        }
        if files.len() >= FILES_MAX {
            return Err(io::Error::other(format!("{} holds more than {FILES_MAX} files", root.display())));
        }
        let below = path.strip_prefix(root).map_err(io::Error::other)?.display().to_string();
        files.push(ReadOnlyFile { path: below, digest: hex(blake3::hash(&fs::read(&path)?).as_bytes()) });
    }
    Ok(())
}
