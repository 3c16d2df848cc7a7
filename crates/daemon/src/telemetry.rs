//! Logs: tracing to stderr, as text for people or as JSON lines for machines.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// As `RUST_LOG`, but ours: a daemon must not change its logs by a variable meant for another program.
pub const FILTER_VARIABLE: &str = "WHIMBREL_LOG";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("{FILTER_VARIABLE}='{filter}' is no log filter (hint: try 'info' or 'info,whimbrel_agent=debug')")]
    BadFilter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("logging was set up twice")]
    Twice { source: Box<dyn std::error::Error + Send + Sync> },
}

/// Call once, first thing in `main`. `filter` rules where the variable is not set; at `info` by default.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), TelemetryError> {
    let text = std::env::var(FILTER_VARIABLE).ok().or_else(|| filter.map(str::to_owned)).unwrap_or_default();
    let parsed = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&text)
        .map_err(|source| TelemetryError::BadFilter { filter: text, source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|source| TelemetryError::Twice { source })
}
