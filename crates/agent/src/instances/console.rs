//! What the guest's system said on its first serial port, since it came to this host.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use whimbrel_core::failure::Failure;

use crate::{fault, vm::CONSOLE_LOG};

/// Nova's `MAX_CONSOLE_BYTES`.
pub const CONSOLE_BYTES_MAX: u64 = 100 << 10;

/// The last `lines`, or all, of at most [`CONSOLE_BYTES_MAX`] from the end. Empty where there is no log yet.
pub fn tail(dir: &Path, lines: Option<u32>) -> Result<String, Failure> {
    let path = dir.join(CONSOLE_LOG);
    let failed = |error: std::io::Error| fault::of_file("read", &path, &error);
    let mut file = match fs_err::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(failed)?,
    };
    let bytes = file.metadata().map_err(failed)?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(CONSOLE_BYTES_MAX))).map_err(failed)?;
    let mut text = Vec::new();
    file.take(CONSOLE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(last_lines(&String::from_utf8_lossy(&text), lines).to_owned())
}

fn last_lines(text: &str, lines: Option<u32>) -> &str {
    let Some(lines) = lines else { return text };
    let body = text.strip_suffix('\n').unwrap_or(text);
    let Some(skipped) = (lines as usize).checked_sub(1) else { return "" };
    let begin = body.rmatch_indices('\n').nth(skipped).map_or(0, |(at, _)| at + 1);
    &text[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told() {
        let check = |text: &str, lines: Option<u32>, want: &str| assert_eq!(last_lines(text, lines), want, "{text:?}");
        check("a\nb\nc\n", None, "a\nb\nc\n");
        check("a\nb\nc\n", Some(2), "b\nc\n");
        check("a\nb\nc", Some(2), "b\nc");
        check("a\nb\n", Some(5), "a\nb\n");
        check("a\nb\n", Some(0), "");
        check("", Some(3), "");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(dir.path(), None).unwrap(), "");
        let line = "x".repeat(99) + "\n";
        fs_err::write(dir.path().join(CONSOLE_LOG), line.repeat(5_000)).unwrap();
        assert_eq!(tail(dir.path(), None).unwrap().len() as u64, CONSOLE_BYTES_MAX);
        assert_eq!(tail(dir.path(), Some(1)).unwrap(), line);
    }
}
