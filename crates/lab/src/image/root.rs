//! The root disk's base image: an ext4 file system with a copy of real files of this machine, as qcow2.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ImageError, Ingredients, ROOT_CONTENT_BYTES_MIN, ROOT_VIRTUAL_BYTES};

/// Rises when the same ingredients shall make another image.
const RECIPE: &str = "root 1";

/// Of a stop after the goal is reached: the last file may be a large one.
const FILE_BYTES_MAX: u64 = 256 << 20;

const LAYOUT: &str = include_str!("mke2fs.conf");

/// Files below this folder are looked at in order until there is enough content.
const DEPTH_MAX: usize = 32;

pub(super) fn build(work: &Path, from: &Ingredients) -> Result<PathBuf, ImageError> {
    let image = work.join(format!("root-{}.qcow2", key(from)));
    if image.exists() {
        return Ok(image);
    }
    let scratch = work.join(format!("root.{}.partial", std::process::id()));
    let made = make(&scratch, from, &image);
    // The scratch folder holds gigabytes: it goes whether or not the build succeeded, and its loss is no failure of the build.
    let _ = fs_err::remove_dir_all(&scratch);
    made.map(|()| image)
}

/// Of the recipe, not of each file: any gigabyte of this machine's files serves, it must only not change between runs.
fn key(from: &Ingredients) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [RECIPE, LAYOUT, &ROOT_VIRTUAL_BYTES.to_string(), &ROOT_CONTENT_BYTES_MIN.to_string()] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    for folder in &from.content {
        hasher.update(folder.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn make(scratch: &Path, from: &Ingredients, image: &Path) -> Result<(), ImageError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::File { action, path, source }
    };
    let (tree, raw, partial) = (scratch.join("tree"), scratch.join("root.raw"), scratch.join("root.qcow2"));
    fs_err::create_dir_all(&tree).map_err(failed("create", &tree))?;
    copy_content(&from.content, &tree, ROOT_CONTENT_BYTES_MIN)?;

    let layout = scratch.join("mke2fs.conf");
    fs_err::write(&layout, LAYOUT).map_err(failed("write", &layout))?;
    let file = fs_err::File::create(&raw).map_err(failed("create", &raw))?;
    file.set_len(ROOT_VIRTUAL_BYTES).map_err(failed("size", &raw))?;
    // Nothing lazy: a file system that still initialises itself in the background would write while idle.
    let options = "num_backup_sb=0,lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    let mut mke2fs = Command::new("/sbin/mke2fs");
    mke2fs.env("MKE2FS_CONFIG", &layout).args(["-q", "-F", "-t", "ext4", "-N", "131072", "-L", "root"]);
    mke2fs.args(["-E", options, "-d"]).args([&tree, &raw]);
    run(mke2fs, &raw)?;

    let mut convert = Command::new(&from.qemu_img);
    convert.args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &partial]);
    run(convert, &partial)?;
    fs_err::rename(&partial, image).map_err(failed("rename", &partial))
}

fn run(mut command: Command, on: &Path) -> Result<(), ImageError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let failed = |stderr: String| ImageError::Tool { tool: tool.clone(), path: on.to_owned(), stderr };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Copies files into `tree` until `goal_bytes` are there.
fn copy_content(folders: &[PathBuf], tree: &Path, goal_bytes: u64) -> Result<(), ImageError> {
    let mut found_bytes = 0;
    for folder in folders {
        let to = tree.join(folder.strip_prefix("/").unwrap_or(folder));
        copy_folder(folder, &to, goal_bytes, &mut found_bytes, DEPTH_MAX)?;
        if found_bytes >= goal_bytes {
            return Ok(());
        }
    }
    let searched = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(ImageError::TooFewFiles { found_bytes, needed_bytes: goal_bytes, searched })
}

fn copy_folder(
    folder: &Path,
    to: &Path,
    goal_bytes: u64,
    found_bytes: &mut u64,
    depth: usize,
) -> Result<(), ImageError> {
    let Ok(listing) = fs_err::read_dir(folder) else {
        // A folder that is absent on this machine has no content to offer.
        return Ok(());
    };
    fs_err::create_dir_all(to).map_err(|source| ImageError::File { action: "create", path: to.to_owned(), source })?;
    // In order of names, so that the same machine gives the same content.
    let mut entries: Vec<_> = listing.filter_map(Result::ok).map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if *found_bytes >= goal_bytes {
            return Ok(());
        }
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() && depth > 0 {
            copy_folder(&path, &to.join(name), goal_bytes, found_bytes, depth - 1)?;
        } else if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX {
            let target = to.join(name);
            fs_err::copy(&path, &target).map_err(|source| ImageError::File {
                action: "copy to",
                path: target,
                source,
            })?;
            *found_bytes += metadata.len();
        }
    }
    Ok(())
}
