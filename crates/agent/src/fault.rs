//! How errors of the system become [`Failure`]s: what failed, on which object, and every cause in one line.

use std::{error::Error, fmt::Display, io, path::Path};

use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_qmp::QmpError;

/// The error and its causes, without repetition.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = source.source();
    }
    text
}

pub fn internal(what: impl Display, error: &dyn Error) -> Failure {
    Failure::new(FailureCode::Internal, format!("{what}: {}", chain(error)))
}

pub fn of_file(what: &str, path: &Path, error: &io::Error) -> Failure {
    let text = chain(error);
    let named = text.contains(&*path.to_string_lossy());
    let detail =
        if named { format!("cannot {what}: {text}") } else { format!("cannot {what} {}: {text}", path.display()) };
    let failure = Failure::new(FailureCode::Internal, detail);
    match error.kind() {
        io::ErrorKind::StorageFull => failure.hint("the file system is full: make room on it"),
        io::ErrorKind::PermissionDenied => failure.hint("may the agent's user write there?"),
        _ => failure,
    }
}

pub fn of_qmp(error: &QmpError) -> Failure {
    let failure = Failure::new(FailureCode::QemuFailed, chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Runs what blocks on the disk beside the async tasks.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(internal("a task died", &error)),
    }
}
