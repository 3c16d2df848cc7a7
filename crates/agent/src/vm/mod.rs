//! A guest's QEMU: its command line, and the process behind it.
pub mod process;
pub mod record;
pub mod spec;

pub use process::{StartSpec, Vm};
pub use spec::CONSOLE_LOG;

#[cfg(test)]
mod tests;
