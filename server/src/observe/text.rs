//! Prometheus' text format, version 0.0.4: families of samples, each with its help and type.

use std::fmt::{Display, Write};

use types::{DURATION_BOUNDS, Durations};

/// What a page in this format is called in HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of a sample, by name.
pub type Labels<'a> = [(&'a str, &'a dyn Display)];

/// A page that grows.
#[derive(Default)]
pub struct Page(String);

/// A family whose samples follow.
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'a str,
}

impl Page {
    /// Begins a family of numbers that go up and down.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Begins a family of numbers that only go up until the process ends.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// Begins a family of durations in seconds.
    pub fn durations<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: self, name }
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub fn add(&mut self, labels: &Labels<'_>, value: impl Display) -> &mut Self {
        self.sample("", labels, None, value);
        self
    }

    /// Adds a histogram.
    pub fn add_durations(&mut self, labels: &Labels<'_>, seen: &Durations) -> &mut Self {
        let bounds = DURATION_BOUNDS.iter().map(|bound| bound.as_secs_f64());
        let mut count = 0;
        for (held, bound) in seen.buckets.iter().zip(bounds.chain([f64::INFINITY])) {
            count += held;
            self.sample("_bucket", labels, Some(bound), count);
        }
        self.sample("_sum", labels, None, seen.total.as_secs_f64());
        self.sample("_count", labels, None, count);
        self
    }

    fn sample(
        &mut self,
        ending: &str,
        labels: &Labels<'_>,
        bound: Option<f64>,
        value: impl Display,
    ) {
        let out = &mut self.page.0;
        *out += self.name;
        *out += ending;
        let mut separator = '{';
        for (name, label) in labels {
            let label = label.to_string();
            // Names of groups may hold anything.
            let label = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            push(out, format_args!("{separator}{name}=\"{label}\""));
            separator = ',';
        }
        if let Some(bound) = bound {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            push(out, format_args!("{separator}le=\"{bound}\""));
            separator = ',';
        }
        let close = if separator == ',' { "}" } else { "" };
        push(out, format_args!("{close} {value}\n"));
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_are_written_as_the_format_says() {
        let mut page = Page::default();
        page.gauge("g", "What it is.").add(&[], 1).add(&[("a", &"x\"\\\ny"), ("b", &2)], 0.5);
        let histogram = types::Histogram::default();
        histogram.record(Duration::from_micros(60));
        histogram.record(Duration::from_secs(60));
        page.durations("h", "How long.").add_durations(&[("a", &1)], &histogram.durations());
        let text = page.finish();
        let head =
            "# HELP g What it is.\n# TYPE g gauge\ng 1\ng{a=\"x\\\"\\\\\\ny\",b=\"2\"} 0.5\n";
        assert!(text.starts_with(head), "{text}");
        for line in [
            "h_bucket{a=\"1\",le=\"0.00005\"} 0",
            "h_bucket{a=\"1\",le=\"0.0001\"} 1",
            "h_bucket{a=\"1\",le=\"10\"} 1",
            "h_bucket{a=\"1\",le=\"+Inf\"} 2",
            "h_sum{a=\"1\"} 60.00006",
            "h_count{a=\"1\"} 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
