//! Disks: images of the host, files of instances, and the daemon that writes them while they arrive.
pub mod daemon;
pub mod disk;
pub mod image;
pub mod probe;

pub use daemon::{DaemonDisk, StorageDaemon};
pub use image::ImageStore;

#[cfg(test)]
mod tests;
