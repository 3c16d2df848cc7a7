//! OpenStack's wire types, as its clients know them: what a request may say at a microversion, what an answer looks like there.
//!
//! - `identity`: Keystone's version 3;
//! - `microversion`: which version of the Compute API a request is answered at;
//! - `fault`: the error body of the Compute API;
//! - `compute`: the bodies of the Compute API;
//! - `image`: Glance's version 2.
//! - `network`: the bodies of the Network API.
//! - `config_drive`: the files by which a guest learns who it is.
//!
//! Ground rules: pure, one record in and one body out; what differs between versions stands in tables, not in branches of the
//! controller. Names and messages are OpenStack's, since clients read them.

pub mod compute;
pub mod config_drive;
pub mod fault;
pub mod identity;
pub mod image;
pub mod microversion;
pub mod network;
