//! Runs seeds in processes of their own, several side by side.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::Setting;
use crate::report::RunReport;

/// A process that runs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// How to run a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary.
    pub binary: PathBuf,
    /// What is not drawn.
    pub setting: Setting,
    /// Keep the trace hashes for comparison.
    pub trace: bool,
    /// The bug to plant.
    pub mutant: Option<String>,
}

impl Plan {
    /// Runs with this very binary.
    pub fn new(setting: &Setting) -> Result<Plan, String> {
        setting.fixed()?;
        let binary = std::env::current_exe().map_err(|error| format!("who am I? {error}"))?;
        Ok(Plan { binary, setting: setting.clone(), trace: false, mutant: None })
    }

    /// Runs one seed in one process.
    pub fn run(&self, seed: u64) -> Result<RunReport, String> {
        let mut command = Command::new(&self.binary);
        command.arg("one").arg("--seed").arg(seed.to_string()).args(self.setting.arguments());
        if self.trace {
            command.arg("--trace");
        }
        if let Some(mutant) = &self.mutant {
            command.arg("--mutant").arg(mutant);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.binary.display()))?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let reader = std::thread::spawn(move || drain(output));
        let complaints = std::thread::spawn(move || drain(errors));
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                _ => {
                    _ = child.kill();
                    _ = child.wait();
                    return Err(format!("the process did not end within {PATIENCE:?}"));
                }
            }
        };
        let text = reader.join().unwrap_or_default();
        let complaints = complaints.join().unwrap_or_default();
        serde_json::from_str(text.trim())
            .map_err(|_| format!("the process ended with {status}: {}", complaints.trim()))
    }
}

fn drain(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs the seeds that `next` gives on `jobs` threads, in the order of the seeds as far as `each` can tell: it gets every
/// outcome in the order in which the seeds were given out. It says whether to go on.
pub fn run_all<T: Send>(
    jobs: usize,
    next: impl FnMut() -> Option<u64> + Send,
    work: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T) -> bool + Send,
) {
    let next = Mutex::new((next, 0u64));
    let stop = AtomicBool::new(false);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, next, work, stop) = (sender.clone(), &next, &work, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (number, seed) = {
                        let Ok(mut next) = next.lock() else { return };
                        let Some(seed) = (next.0)() else { return };
                        next.1 += 1;
                        (next.1, seed)
                    };
                    if sender.send((number, seed, work(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut expected = 1;
        for (number, seed, outcome) in receiver {
            waiting.insert(number, (seed, outcome));
            while let Some((seed, outcome)) = waiting.remove(&expected) {
                expected += 1;
                if !each(seed, outcome) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}
