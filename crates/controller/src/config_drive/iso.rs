//! The drive's image: ISO 9660 with Rock Ridge, by which Linux finds the long names, and Joliet, by which Windows does.
//!
//! Ground rules: everything belongs to root and can be read by all, as on the drives that guests know from elsewhere; the volume's
//! label stands there as it is, though ISO 9660 knows no small letters: that is how guests look for it.

use std::io::Cursor;

use hadris_iso::{
    joliet::JolietLevel,
    read::PathSeparator,
    rrip::RripOptions,
    write::{
        InputEntry, InputEntryKind, InputTree, IsoImageWriter,
        options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions},
    },
};
use whimbrel_api::openstack::config_drive::File;

const SECTOR_BYTES: usize = 2048;

#[derive(Debug, thiserror::Error)]
#[error("the ISO 9660 image could not be written: {what}")]
pub struct IsoError {
    what: String,
}

/// Whole sectors.
pub fn image(files: Vec<File>, label: &str) -> Result<Vec<u8>, IsoError> {
    let mut root = Vec::new();
    for File { path, content } in files {
        insert(&mut root, &path, content);
    }
    let tree = InputTree::new(PathSeparator::ForwardSlash, root);
    let written = IsoImageWriter::create(Cursor::new(Vec::new()), tree, options(label));
    let mut image = written.map_err(|error| IsoError { what: error.to_string() })?.into_inner();
    image.resize(image.len().next_multiple_of(SECTOR_BYTES), 0);
    Ok(image)
}

fn options(label: &str) -> IsoFormatOptions {
    IsoFormatOptions {
        volume_name: label.to_owned(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: SECTOR_BYTES,
        features: CreationFeatures {
            filenames: BaseIsoLevel::Level1 { supports_lowercase: false, supports_rrip: true },
            joliet: Some(JolietLevel::Level3),
            rock_ridge: Some(RripOptions::default()),
            ..CreationFeatures::default()
        },
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
    }
}

/// Makes the folders on the way.
fn insert(entries: &mut Vec<InputEntry>, path: &str, content: Vec<u8>) {
    let Some((folder, rest)) = path.split_once('/') else {
        entries.push(InputEntry::file(path, content));
        return;
    };
    let known = entries.iter_mut().find_map(|entry| match &mut entry.kind {
        InputEntryKind::Directory(children) if *entry.name == folder => Some(children),
        _ => None,
    });
    if let Some(children) = known {
        return insert(children, rest, content);
    }
    let mut children = Vec::new();
    insert(&mut children, rest, content);
    entries.push(InputEntry::directory(folder, children));
}

#[cfg(test)]
mod tests;
