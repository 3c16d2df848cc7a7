//! How a disk gets to the target: by what changed, by what differs, or whole.

use std::collections::BTreeMap;

use crate::{
    disk::{BaseImage, CopyMode, DiskFormat, DiskName, DiskSpec},
    id::{Epoch, ImageDigest},
};

/// `changed_since`: the hand-over since which the source's bitmap holds every change. `kept`: the hand-over at which the
/// target gave its copy away, if it has one. A bitmap and a copy fit only when both are of the source's own epoch: then the
/// copy is the disk as the source took it over, and the bitmap all that happened since.
pub fn choose(source_epoch: Epoch, changed_since: Option<Epoch>, kept: Option<Epoch>) -> CopyMode {
    match kept {
        None => CopyMode::Full,
        Some(kept) if kept == source_epoch && changed_since == Some(source_epoch) => CopyMode::Delta,
        Some(_) => CopyMode::Digest,
    }
}

/// The image that a disk's file lies on. A raw file lies on nothing, whatever it was made from.
pub fn base(disk: &DiskSpec) -> Option<&BaseImage> {
    disk.base.as_ref().filter(|_| disk.format == DiskFormat::Qcow2)
}

/// The images that have to be on the target before `disks` can be made there, each with a disk that lies on it. By digest:
/// two moves that want the same images wait for each other's in the same order.
pub fn bases<'a>(disks: impl IntoIterator<Item = &'a DiskSpec>) -> BTreeMap<ImageDigest, (BaseImage, DiskName)> {
    let based = disks.into_iter().filter_map(|disk| Some((base(disk)?.clone(), disk.name.clone())));
    // Of several disks the first: the receipt counts the image there.
    let mut bases = BTreeMap::new();
    for (base, name) in based {
        bases.entry(base.digest.clone()).or_insert((base, name));
    }
    bases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_needed_once_and_only_below_layers() {
        let image = |letter: &str| BaseImage {
            digest: letter.repeat(64).parse().unwrap(),
            format: DiskFormat::Raw,
            file_bytes: 7,
        };
        let disk = |name: &str, format, base: Option<&str>| DiskSpec {
            name: name.parse().unwrap(),
            format,
            virtual_bytes: 1,
            base: base.map(image),
            read_only: false,
        };
        let disks = [
            disk("root", DiskFormat::Qcow2, Some("b")),
            disk("data", DiskFormat::Qcow2, Some("b")),
            disk("more", DiskFormat::Qcow2, Some("a")),
            disk("plain", DiskFormat::Raw, Some("c")),
            disk("swap", DiskFormat::Qcow2, None),
        ];
        let found: Vec<_> = bases(&disks).into_values().map(|(base, name)| (base, name.to_string())).collect();
        assert_eq!(found, [(image("a"), "more".to_owned()), (image("b"), "root".to_owned())]);
    }

    #[test]
    fn only_a_bitmap_and_a_copy_of_one_hand_over_make_a_delta() {
        let check = |changed_since: Option<u64>, kept: Option<u64>, want| {
            assert_eq!(choose(Epoch(7), changed_since.map(Epoch), kept.map(Epoch)), want, "{changed_since:?} {kept:?}");
        };
        check(Some(7), Some(7), CopyMode::Delta);
        check(None, Some(7), CopyMode::Digest);
        check(Some(7), Some(6), CopyMode::Digest);
        check(Some(6), Some(6), CopyMode::Digest);
        check(Some(7), None, CopyMode::Full);
        check(None, None, CopyMode::Full);
    }
}
