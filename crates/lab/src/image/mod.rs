//! Builds the lab's guest: kernel, initramfs and base image of the root disk.
//!
//! Nothing is downloaded here: the kernel and its modules come unpacked from Debian's package, the user land is the static
//! busybox plus our own static program, and the root disk's content is a copy of files of this machine, because a copier must
//! be measured on real content, not on zeros or noise.
//!
//! ```text
//!   vmlinuz -----------------------------------------------> kernel
//!   busybox + program + init + virtio modules --cpio newc--> initrd
//!   files of this machine --copy--> tree --mke2fs -d--> raw --qemu-img convert--> root-<key>.qcow2
//! ```
//!
//! Ground rules: results are cached in the work directory under a key of all that made them, written under another name and
//! renamed when complete, so an interrupted build leaves nothing that could be taken for a result.

mod bootline;
mod cpio;
mod ingredients;
mod initramfs;
mod modules;
mod root;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use bootline::BootLine;
pub use ingredients::Ingredients;

pub const ROOT_VIRTUAL_BYTES: u64 = 10 << 30;
/// Real file content that the root disk holds at least.
pub const ROOT_CONTENT_BYTES_MIN: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{variable} is not set; hint: run through ./x, or first eval \"$(./x env)\"")]
    NotSet { variable: &'static str },
    #[error("{what} is missing at {path}; hint: run ./x deps, then ./x build")]
    Missing { what: &'static str, path: PathBuf },
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{tool} failed on {path}: {stderr}")]
    Tool { tool: String, path: PathBuf, stderr: String },
    #[error("kernel module {name} is not below {path}")]
    NoModule { name: String, path: PathBuf },
    #[error("only {found_bytes} bytes of files below {searched}, the root disk needs {needed_bytes}")]
    TooFewFiles { found_bytes: u64, needed_bytes: u64, searched: String },
}

/// A guest ready to boot: `-kernel`, `-initrd`, and the qcow2 base image for the root disk's overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImage {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// qcow2, [`ROOT_VIRTUAL_BYTES`] virtual, never written.
    pub root_base: PathBuf,
}

/// Builds what is not in `work` yet. Blocks for some seconds the first time, returns at once after that.
pub fn prepare(work: &Path, from: &Ingredients) -> Result<GuestImage, ImageError> {
    fs_err::create_dir_all(work).map_err(|source| ImageError::File {
        action: "create",
        path: work.to_owned(),
        source,
    })?;
    Ok(GuestImage {
        kernel: from.kernel.clone(),
        initrd: initramfs::build(work, from)?,
        root_base: root::build(work, from)?,
    })
}
