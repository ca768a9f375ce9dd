//! The progress bar: how fast, how much world, which marks.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::summary::Summary;

/// A bar on stderr; silent when stderr is no terminal.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `seeds` seeds, or without an end.
    pub fn new(seeds: Option<u64>) -> Progress {
        let bar = seeds.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let shape = if seeds.is_some() {
            "{wide_bar} {pos}/{len} {msg}"
        } else {
            "{spinner} {pos} seeds {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress { bar }
    }

    /// Shows the sum so far.
    pub fn show(&self, summary: &Summary, took: Duration) {
        let seconds = took.as_secs_f64().max(0.001);
        self.bar.set_position(summary.seeds);
        self.bar.set_message(format!(
            "{:.1} seeds/s, {:.0} simulated s/s, {} faults, {} marks, {} findings",
            summary.seeds as f64 / seconds,
            summary.simulated_seconds / seconds,
            summary.faults.values().sum::<u64>(),
            summary.marks.len(),
            summary.findings.len(),
        ));
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
