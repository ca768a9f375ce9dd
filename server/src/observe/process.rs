//! What the kernel says of this process. What it does not say counts as zero.

use std::time::Duration;

use crate::logging;

/// This process at one moment.
#[derive(Clone, Copy, Default, Debug)]
pub struct Process {
    /// Memory that it occupies.
    pub resident_bytes: u64,
    /// Processor time that it used.
    pub cpu: Duration,
    /// Files and sockets that are open.
    pub open_files: usize,
    /// When it began, since 1970.
    pub started: Duration,
    /// Bytes read from devices.
    pub bytes_read: u64,
    /// Bytes written to devices.
    pub bytes_written: u64,
    /// Lines of the log that are errors.
    pub errors: u64,
    /// Lines of the log that are warnings.
    pub warnings: u64,
}

impl Process {
    /// Looks.
    pub fn look() -> Process {
        let stat = read("/proc/self/stat");
        // The name, in parentheses, may hold anything; the fields after it are numbered from 3.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| -> u64 {
            fields.get(number - 3).and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let ticks = |count: u64| {
            Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        let io = read("/proc/self/io");
        let (errors, warnings) = logging::counted();
        Process {
            resident_bytes: field(24) * rustix::param::page_size() as u64,
            cpu: ticks(field(14) + field(15)),
            // One of them is the listing itself.
            open_files: std::fs::read_dir("/proc/self/fd")
                .map_or(0, |list| list.count().saturating_sub(1)),
            started: Duration::from_secs(named(&read("/proc/stat"), "btime ")) + ticks(field(22)),
            bytes_read: named(&io, "read_bytes: "),
            bytes_written: named(&io, "write_bytes: "),
            errors,
            warnings,
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The number in the line that begins with `name`.
fn named(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_occupies_memory_and_began_lately() {
        let process = Process::look();
        assert!(process.resident_bytes > 1 << 20 && process.open_files > 2, "{process:?}");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let age = now.saturating_sub(process.started);
        assert!(age < Duration::from_secs(3600), "{process:?}");
    }
}
