//! Typed clients of both APIs.
