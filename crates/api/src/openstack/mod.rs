//! OpenStack's wire types, as its clients know them: what a request may say, what an answer looks like.
//!
//! - `identity`: Keystone's version 3.
//!
//! Ground rules: pure, one record in and one body out. Names and messages are OpenStack's, since clients read them.

pub mod identity;
