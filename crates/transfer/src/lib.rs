//! The data plane: everything that carries a guest's bytes from the source to the target.
//!
//! ```text
//!  source host                                                        target host
//!  QEMU ──NBD──▶ NbdPool ─▶ send ═══ N streams (frames) ═══▶ receive ─▶ NbdPool ──NBD──▶ storage daemon
//!  images/<digest> ─▶ image ─▶ send ═══ N streams (frames) ═══▶ receive ─▶ image ─▶ images/<digest>
//!  QEMU ──migration stream──▶ ram ═══ one stream ═══▶ ram ──────────────────────────────▶ QEMU -incoming
//!  frozen disk ──NBD──▶ verify ═══ one stream (digests) ═══▶ verify ◀──NBD── running disk
//!                        link: hello on every stream, control messages on one
//! ```
//!
//! Ground rules:
//! - nothing here decides who owns a guest; it moves bytes and says truthfully which of them arrived;
//! - a byte counts as moved only when the target's storage daemon has confirmed its write;
//! - memory is bounded by named constants, however large a disk is;
//! - streams come in ready made (mTLS lives in `daemon`); any `AsyncRead + AsyncWrite` will do;
//! - dropping a future or a handle cancels its work; nothing needs a second word.

pub mod buffer;
pub mod counters;
pub mod error;
pub mod extent;
mod fault;
pub mod frame;
mod framed;
pub mod hello;
pub mod image;
pub mod link;
pub mod nbd;
pub mod ram;
pub mod rate;
pub mod receive;
pub mod send;
pub mod totals;
pub mod verify;
pub mod zeros;

pub use buffer::{Buffer, BufferPool};
pub use error::TransferError;
pub use extent::Extent;
pub use link::Stream;
pub use nbd::NbdPool;
