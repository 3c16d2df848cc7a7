//! Errors as an operator reads them.

use std::process::ExitCode;

use whimbrel_api::failure::Failure;

/// The move was cancelled, the guest goes on where it was.
pub const CANCELLED: u8 = 3;

/// Prints `error:` with its chain of causes and, where there is one, `hint:`.
pub fn print(error: &anyhow::Error) -> ExitCode {
    let mut words: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if words.last().is_none_or(|last| !last.contains(&text)) {
            words.push(text);
        }
    }
    eprintln!("error: {}", words.join(": "));
    if let Some(hint) = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()?.hint.as_deref()) {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}
