//! What the tests of the command line share: a broker as a child process, commands, throw-away directories.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The program under test.
pub const FORETOLD: &str = env!("CARGO_BIN_EXE_foretold");

/// Data directories of older versions, as `make.py` there wrote them.
pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/golden");

/// Their records are older than what retention keeps by default.
pub const KEEP: [&str; 4] =
    ["--set", "log.retention.ms=-1", "--set", "offsets.retention.minutes=2147483647"];

/// One of them, to be used up: `data/`, and `expected/` beside it.
pub fn unpack(archive: &Path) -> Scratch {
    let scratch = Scratch::new();
    let status =
        Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(scratch.path()).status();
    assert!(status.unwrap().success(), "{archive:?}");
    scratch
}

/// A directory that goes away with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foretold-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file system in memory, gone with this value.
pub struct Mounted(pub PathBuf);

impl Mounted {
    /// `None` where that is not allowed.
    pub fn new(at: PathBuf, options: &str) -> Option<Mounted> {
        std::fs::create_dir(&at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "foretold"])
            .arg(&at)
            .output();
        mount.is_ok_and(|output| output.status.success()).then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Somebody else takes all that is left, to the last byte.
pub fn fill(disk: &Path) -> PathBuf {
    let hog = disk.join("somebody-elses");
    let mut file = std::fs::File::create(&hog).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    hog
}

/// A broker that serves. Killed when dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    pub ready: String,
    pub bootstrap: String,
}

impl Server {
    /// `foretold dev` on a free port.
    pub fn dev(data: &Path, more: &[&str]) -> Server {
        let data = data.to_str().unwrap();
        let mut args = vec!["dev", "--listen", "127.0.0.1:0", "--data", data];
        args.extend(more);
        Server::start(&args)
    }

    /// Runs `foretold` with `args` until it prints its ready line.
    pub fn start(args: &[&str]) -> Server {
        Server::spawn(Command::new(FORETOLD).args(args), Stdio::piped())
    }

    /// As `start`, with its standard error somewhere else.
    pub fn start_with_log(args: &[&str], log: Stdio) -> Server {
        Server::spawn(Command::new(FORETOLD).args(args), log)
    }

    /// `foretold dev` that may hold only so many open files.
    pub fn dev_with_files(data: &Path, files: u32) -> Server {
        let script =
            format!("ulimit -n {files}; exec \"$0\" dev --listen 127.0.0.1:0 --data \"$1\"");
        let arguments = ["-c", &script, FORETOLD, data.to_str().unwrap()];
        Server::spawn(Command::new("sh").args(arguments), Stdio::piped())
    }

    /// `foretold dev` on a free port, or its exit code and what it said if it does not come to serve.
    pub fn try_dev(data: &Path, more: &[&str]) -> Result<Server, (Option<i32>, String)> {
        let data = data.to_str().unwrap();
        let args = ["dev", "--listen", "127.0.0.1:0", "--data", data];
        Server::try_spawn(Command::new(FORETOLD).args(args).args(more), Stdio::piped())
    }

    fn spawn(command: &mut Command, log: Stdio) -> Server {
        Server::try_spawn(command, log).unwrap_or_else(|why| panic!("not ready: {why:?}"))
    }

    fn try_spawn(command: &mut Command, log: Stdio) -> Result<Server, (Option<i32>, String)> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        if !ready.starts_with("ready ") {
            let mut errors = ready;
            if let Some(mut stderr) = child.stderr.take() {
                stderr.read_to_string(&mut errors).unwrap();
            }
            return Err((child.wait().unwrap().code(), errors));
        }
        // The pipe must not fill up while the broker logs.
        if let Some(mut stderr) = child.stderr.take() {
            std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        }
        let bootstrap = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("bootstrap=").or(word.strip_prefix("controller=")))
            .expect("the ready line says where the node is reached")
            .to_owned();
        Ok(Server { child, stdout, ready, bootstrap })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; the exit code, and what else stood on standard output.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }

    /// Stops it as an operator would.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.wait(), (Some(0), String::new()));
    }

    /// Pulls its plug, as far as a process has one.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Runs a command against this broker.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        let mut args = args.to_vec();
        args.extend(["--bootstrap", &self.bootstrap]);
        foretold(&args, input)
    }

    /// As `run`; it must succeed. What it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As `run` with `--json`; it must succeed. What it printed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.ok(&args, "")).unwrap()
    }

    /// As `run`; it must fail at run time with one line that says `words`.
    #[track_caller]
    pub fn fails(&self, args: &[&str], words: &str) {
        check_failure(&self.run(args, ""), 1, words);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No command that ends by itself takes longer; a node that should have refused to start never ends.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(90);

/// Runs a command to its end, or for [`COMMAND_TIME_MAX`]: then it has no exit code.
pub fn foretold(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(FORETOLD)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that does not read closes the pipe early.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    let (end, ended) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if ended.recv_timeout(COMMAND_TIME_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(end);
    guard.join().unwrap();
    writer.join().unwrap();
    output
}

/// A command that must fail with this exit code and say these words.
#[track_caller]
pub fn check_failure(output: &Output, code: i32, words: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(words), "expected `{words}` in: {errors}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}
