//! Running programs: echoed, timed, with an error that names the command.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A command that runs in `dir`.
pub fn command(dir: &Path, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir);
    command
}

/// Runs to the end; output goes to ours. The error names the command.
pub fn run(command: &mut Command) -> Result<(), String> {
    let text = describe(command);
    println!("$ {text}");
    let started = Instant::now();
    let status = command.status().map_err(|error| format!("{text}: {error}"))?;
    println!("  {:.1} s", started.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{text}: {status}")) }
}

/// Runs to the end and returns what it printed; the error carries what it said on stderr.
pub fn output(command: &mut Command) -> Result<String, String> {
    let text = describe(command);
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{text}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(stdout)
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = stderr.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(format!("{text}: {}\n{}\n{stdout}", output.status, tail.join("\n")))
    }
}

/// Whether a program can be started at all.
pub fn exists(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if text.len() > 300 {
        format!("{}…", text.chars().take(300).collect::<String>())
    } else {
        text
    }
}
