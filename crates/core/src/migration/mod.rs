//! The migration machines.
