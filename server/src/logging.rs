//! Logs: to stderr, as text for people or JSON for machines. Standard output belongs to the ready line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::exit::Failed;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Starts logging. `level` is a level (`info`) or a list such as `info,log=debug`.
pub fn start(format: Format, level: &str) -> Result<(), Failed> {
    let filter = EnvFilter::builder().parse(level).map_err(|error| {
        Failed::usage(format!(
            "--log-level {level}: {error}; use error, warn, info, debug or trace"
        ))
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written (a full disk, a closed pipe) is lost; complaining about it on the same stderr
        // would panic.
        .log_internal_errors(false);
    let is_color = std::io::stderr().is_terminal();
    let started = match format {
        Format::Text => logs.with_ansi(is_color).with_target(false).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failed::runtime(format!("logging cannot start: {error}")))
}
