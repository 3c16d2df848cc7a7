//! A guest's QEMU: its command line, and the process behind it.
pub mod process;
pub mod record;
pub mod spec;

pub use process::{StartSpec, Vm};

#[cfg(test)]
mod tests;
