//! An immutable base image that travels below the disks that lie on it: as the file it is, without QEMU on either side.
//!
//! ```text
//!  source images/<digest> ─▶ ImageSource ─▶ send ═══ N streams ═══▶ receive ─▶ ImageSink ─▶ a file without that name
//!                                                                               └ whole: its BLAKE3 is <digest> or it goes
//! ```
//!
//! Ground rules:
//! - a chunk is a subtree of the file's BLAKE3 tree: the target alone hashes what came, each chunk as it comes, and that adds
//!   up to the digest of the whole file, which is its name. Nothing weaker than the name is asked, nothing is hashed twice;
//! - a sink's file is the image once [`ImageSink::digest`] says so, and safe from a power cut after [`ImageSink::sync`].

mod courtesy;
mod leaves;
mod sink;
mod source;
mod writer;

pub use self::{
    leaves::{Leaf, Leaves, leaf},
    sink::ImageSink,
    source::ImageSource,
};
use crate::buffer::ALIGN_BYTES;

/// `len` as O_DIRECT takes it.
fn aligned(len: usize) -> usize {
    len.next_multiple_of(ALIGN_BYTES)
}
