//! An immutable base image that travels below the disks that lie on it: as the file it is, without QEMU on either side.
//!
//! ```text
//!  source images/<digest> ─▶ ImageSource ─▶ send ═══ N streams ═══▶ receive ─▶ ImageSink ─▶ a file without that name
//!                                                                               └ whole: its BLAKE3 is <digest> or it goes
//! ```
//!
//! Ground rules:
//! - a chunk is a subtree of the file's BLAKE3 tree: the digest that guards it on the wire is a leaf of the proof that the
//!   whole file is the image, so nothing is hashed twice;
//! - a sink's file is the image once [`ImageSink::digest`] says so, and safe from a power cut after [`ImageSink::sync`].

mod courtesy;
mod leaves;
mod sink;
mod source;

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
