//! A release build of the broker as a process of its own: started, killed without warning, started again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A running broker. Dropping it kills the process.
pub struct Broker {
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    bootstrap: String,
    child: Option<Child>,
}

/// A process that says something when it is ready.
struct Launched {
    started: Instant,
    lines: mpsc::Receiver<String>,
}

/// How long a start may take before the test gives up. The promise is far below; benchmarks hold it, not tests.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Broker {
    /// Starts a broker on a free loopback port with its data in `data` and its log beside it.
    pub fn start(binary: &Path, data: &Path, settings: &[&str]) -> Result<Broker, String> {
        Broker::start_with_log(binary, data, &data.with_extension("stderr"), settings)
    }

    /// As `start`, with the log elsewhere.
    pub fn start_with_log(
        binary: &Path,
        data: &Path,
        log: &Path,
        settings: &[&str],
    ) -> Result<Broker, String> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let data = data.display().to_string();
        let mut arguments: Vec<&str> = vec!["dev", "--listen", &address, "--data", &data];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut broker = Broker::new(binary, &arguments, log);
        broker.restart()?;
        Ok(broker)
    }

    /// A broker that is not started yet.
    pub fn new(binary: &Path, arguments: &[&str], log: &Path) -> Broker {
        Broker {
            binary: binary.to_owned(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            log: log.to_owned(),
            bootstrap: String::new(),
            child: None,
        }
    }

    /// What clients are given, as it said when it was ready first.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL, and waits until the process is gone; an error if it had ended by itself before, which a restart would
    /// hide.
    pub fn kill(&mut self) -> Result<(), String> {
        match self.end() {
            Some(status) => {
                Err(format!("the broker ended by itself: {status}\n{}", self.last_words()))
            }
            None => Ok(()),
        }
    }

    /// SIGKILL; how the process ended if it had done so before.
    pub fn end(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let before = child.try_wait().ok().flatten();
        let _ = child.kill();
        let _ = child.wait();
        before
    }

    /// An error if it has ended by itself.
    pub fn is_running(&mut self) -> Result<(), String> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            ended => Err(format!("the broker ended by itself: {ended:?}\n{}", self.last_words())),
        }
    }

    /// The end of its log, newest line first.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().rev().take(10).collect::<Vec<_>>().join("\n")
    }

    /// SIGTERM; an error if it does not end cleanly in time.
    pub fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        super::super::shell::output(Command::new("kill").arg(child.id().to_string()))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("broker stopped with {status}")),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error.to_string()),
            }
        }
        let _ = child.kill();
        Err("broker did not stop within 20 s of SIGTERM".to_owned())
    }

    /// Starts the process again as it was started; returns when it printed its ready line.
    pub fn restart(&mut self) -> Result<Duration, String> {
        let launched = self.launch()?;
        self.ready(&launched)
    }

    /// As `restart`, of brokers that wait for each other.
    pub fn restart_all(brokers: &mut [Broker]) -> Result<Duration, String> {
        let started = Instant::now();
        let launched: Result<Vec<Launched>, String> =
            brokers.iter_mut().map(Broker::launch).collect();
        for (broker, launched) in brokers.iter_mut().zip(launched?) {
            broker.ready(&launched)?;
        }
        Ok(started.elapsed())
    }

    fn launch(&mut self) -> Result<Launched, String> {
        let started = Instant::now();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.binary);
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        self.child = Some(child);
        Ok(Launched { started, lines })
    }

    fn ready(&mut self, launched: &Launched) -> Result<Duration, String> {
        match launched.lines.recv_timeout(START_LIMIT) {
            Ok(line) if line.starts_with("ready ") => {
                let words = line.split_whitespace();
                let bootstrap = words.filter_map(|word| word.strip_prefix("bootstrap=")).next();
                self.bootstrap = bootstrap.ok_or("the ready line has no bootstrap")?.to_owned();
                Ok(launched.started.elapsed())
            }
            Ok(line) => Err(format!("unexpected line on stdout: {line}")),
            Err(_) => {
                self.end();
                Err(format!("no ready line; its last words, newest first:\n{}", self.last_words()))
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
