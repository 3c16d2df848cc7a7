//! Disks: images of the host, files of instances, and the daemon that writes them while they arrive.
pub mod arrival;
pub mod daemon;
pub mod disk;
pub mod image;
pub mod probe;
pub mod shared;

pub use arrival::Arrival;
pub use daemon::{DaemonDisk, StorageDaemon};
pub use image::ImageStore;

#[cfg(test)]
mod arrival_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;
