//! Images as content: what a file is, and where its bytes are kept.
//!
//! Ground rules: the name and the client's word say nothing about a file, its bytes do; what looks like anything but a disk
//! is refused when it is uploaded, not when a guest fails to boot; content is kept under its digest and never changes.
mod format;
mod qcow2;
mod sums;
mod vault;

pub use format::Kind;
pub use sums::Sums;
pub use vault::{Announced, Stored, Vault, VaultError};
