//! Logs: to stderr, as text for people or JSON for machines. Standard output belongs to the ready line.
//!
//! Errors and warnings are counted as well, shown or not: whoever consumes an error logs it once.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};
use types::Counter;

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

static ERRORS: Counter = Counter::new();
static WARNINGS: Counter = Counter::new();

/// How many errors and how many warnings there have been.
pub fn counted() -> (u64, u64) {
    (ERRORS.get(), WARNINGS.get())
}

/// Counts what is worth a look.
struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => ERRORS.add(1),
            Level::WARN => WARNINGS.add(1),
            _ => {}
        }
    }
}

/// Starts logging. `level` is a level (`info`) or a list such as `info,log=debug`.
pub fn start(format: Format, level: &str) -> Result<(), Failed> {
    let filter = EnvFilter::builder().parse(level).map_err(|error| {
        Failed::usage(format!(
            "--log-level {level}: {error}; use error, warn, info, debug or trace"
        ))
    })?;
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        // A line that cannot be written (a full disk, a closed pipe) is lost; complaining about it on the same stderr
        // would panic.
        .log_internal_errors(false);
    let is_color = std::io::stderr().is_terminal();
    let all = tracing_subscriber::registry().with(Counting.with_filter(LevelFilter::WARN));
    let started = match format {
        Format::Text => {
            all.with(lines.with_ansi(is_color).with_target(false).with_filter(filter)).try_init()
        }
        Format::Json => all.with(lines.json().flatten_event(true).with_filter(filter)).try_init(),
    };
    started.map_err(|error| Failed::runtime(format!("logging cannot start: {error}")))
}
