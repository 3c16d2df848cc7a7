//! How many files and connections this process may have open at once.
//!
//! A controller holds a connection of every host, and the limit that a shell gives (1,024 on most systems) is below what many hosts
//! need; what the administrator allows at most is taken as it is.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit to what is allowed. One that cannot be raised stays as it is, and is told.
pub fn allow_many() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match raised {
        Ok(most) => tracing::debug!(most, "files that may be open at once"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}
