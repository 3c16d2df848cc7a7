//! Reads one TOML file into a daemon's own config type.
//!
//! The type is the daemon's and says `#[serde(deny_unknown_fields)]`: a misspelt key must stop the start, with file, line
//! and column, since a setting that is silently ignored is found out only when it matters.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// More than any sane config; keeps a wrong path (a disk image) from being read into memory.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read config {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("config {path} is larger than {CONFIG_BYTES_MAX} bytes: is this the right file?")]
    TooLarge { path: PathBuf },
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, message: String },
}

impl ConfigError {
    pub fn hint(&self) -> String {
        match self {
            ConfigError::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("create {} or name another file with --config", path.display())
            }
            ConfigError::Read { path, .. } => format!("check that {} can be read by this user", path.display()),
            ConfigError::TooLarge { .. } => "name the daemon's TOML file with --config".to_owned(),
            ConfigError::Syntax { path, line, .. } => format!("correct line {line} of {}", path.display()),
        }
    }
}

pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(read)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    parse(path, &text)
}

/// `path` only names the text in errors.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = &text.as_bytes()[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        ConfigError::Syntax { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        streams: Option<u8>,
    }

    #[test]
    fn an_error_names_file_line_and_column() {
        let check = |text: &str, want: &[&str]| {
            let error = parse::<Sample>(Path::new("/etc/a.toml"), text).expect_err(text);
            for part in want {
                assert!(error.to_string().contains(part), "{error} lacks {part}");
            }
            assert!(!error.hint().is_empty());
        };
        check("name = 'h1'\nstreems = 4\n", &["/etc/a.toml:2:1: ", "unknown field `streems`", "`streams`"]);
        check("name = 'h1'\nstreams = 999\n", &["/etc/a.toml:2:11: "]);
        check("name = ", &["/etc/a.toml:1:"]);
        check("", &["/etc/a.toml:1:1: ", "missing field `name`"]);
    }

    #[test]
    fn loads_a_file_but_no_missing_or_huge_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let error = load::<Sample>(&path).expect_err("missing");
        assert!(error.to_string().contains("agent.toml") && error.hint().contains("create"), "{error}");
        std::fs::write(&path, "name = 'h1'\nstreams = 4").unwrap();
        let sample: Sample = load(&path).unwrap();
        assert_eq!((sample.name.as_str(), sample.streams), ("h1", Some(4)));
        std::fs::write(&path, " ".repeat(CONFIG_BYTES_MAX as usize + 1)).unwrap();
        assert!(matches!(load::<Sample>(&path), Err(ConfigError::TooLarge { .. })));
    }
}
