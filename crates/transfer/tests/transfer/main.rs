//! The data plane against real storage daemons of QEMU 7.2 and 10.0.
//!
//! The directories with their tools come from WHIMBREL_QEMU_72 and WHIMBREL_QEMU_100, which `./x test` sets.

mod faults;
mod images;
mod moves;
mod nbd;
mod pair;
mod qemu;
mod verifies;
