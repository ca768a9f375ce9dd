//! Load by clients of three languages: they write into one topic and read it as one group, whatever happens to the brokers
//! meanwhile, while other topics come, are retained and go. The account is exact: what was acknowledged was received, once, at
//! one place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::tools::Tools;
use crate::shell;

/// How soon each language must have begun.
const BEGINS: Duration = Duration::from_secs(180);
const LANGUAGES: [&str; 3] = ["python", "java", "rust"];

/// Commands of ours, for one cluster.
#[derive(Clone)]
pub struct Own {
    binary: PathBuf,
    bootstrap: String,
}

impl Own {
    /// What a command prints.
    pub fn run(&self, words: &[&str]) -> Result<String, String> {
        let words = [words, &["--bootstrap", &self.bootstrap, "--timeout", "30"]].concat();
        shell::output(Command::new(&self.binary).args(words))
    }
}

/// Clients for one cluster.
pub struct Load {
    /// Our own commands.
    pub own: Own,
    tools: Arc<Tools>,
    /// The topic of the round before, and the files with what was acknowledged in it: what one round spared a later one
    /// may have taken.
    before: Option<(String, Vec<String>)>,
}

/// What a round has come to.
pub struct Seen {
    /// Records.
    pub acknowledged: u64,
    /// In a line.
    pub text: String,
}

/// A client that runs until its standard input closes.
struct Running {
    what: String,
    child: Child,
    complaints: PathBuf,
}

impl Running {
    /// What it prints may be read when it is over; what it complains of goes to `complaints`.
    fn start(what: String, command: &mut Command, complaints: &Path) -> Result<Running, String> {
        let file = fs::OpenOptions::new().create(true).append(true).open(complaints);
        let child = file
            .and_then(|file| {
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn()
            })
            .map_err(|error| format!("{what}: {error}"))?;
        Ok(Running { what, child, complaints: complaints.to_owned() })
    }

    /// The end of what it complained of.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.complaints).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// An error if it is over: nothing that happens to the broker may end a client.
    fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let words = self.last_words();
                Err(format!("{}: ended by itself, {ended:?}\n{words}", self.what))
            }
        }
    }

    /// Lets it end, and waits for it; what it printed.
    fn end(&mut self, limit: Duration) -> Result<String, String> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => {
                    let mut text = String::new();
                    if let Some(mut stdout) = self.child.stdout.take() {
                        std::io::Read::read_to_string(&mut stdout, &mut text)
                            .map_err(|error| error.to_string())?;
                    }
                    let said = format!("{}: {status} {text}\n{}", self.what, self.last_words());
                    return if status.success() { Ok(text) } else { Err(said) };
                }
                None if Instant::now() > deadline => {
                    return Err(format!("{}: did not end within {limit:?}", self.what));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Load {
    /// For the brokers at `bootstrap`, which need not run yet.
    pub fn new(tools: Arc<Tools>, binary: PathBuf, bootstrap: String) -> Result<Load, String> {
        tools.compile_java("Soak.java")?;
        Ok(Load { own: Own { binary, bootstrap }, tools, before: None })
    }

    fn path(&self, name: &str) -> String {
        self.tools.work.join(name).display().to_string()
    }

    fn complaints(&self) -> PathBuf {
        self.tools.work.join("clients.stderr")
    }

    /// A part of the round in the language named.
    fn part(&self, language: &str, words: &[&str]) -> Command {
        if language != "java" {
            return self.tools.python("soak.py", words);
        }
        self.tools.java("Soak", words)
    }

    fn senders(&self, topic: &str, round: u64) -> Result<Vec<Running>, String> {
        let (boot, binary) = (self.own.bootstrap.clone(), self.own.binary.display().to_string());
        let sender = |(number, language): (usize, &&str)| {
            let first = (number as u64 + 1) * 1_000_000_000_000 + round * 100_000_000;
            let (first, file) = (first.to_string(), self.acked(topic, language));
            let send = if *language == "rust" { "send-own" } else { "send" };
            let mut words = vec![send, &boot, topic, &first, &file];
            if *language == "rust" {
                words.push(&binary);
            }
            let what = format!("{language} writes {topic}");
            Running::start(what, &mut self.part(language, &words), &self.complaints())
        };
        LANGUAGES.iter().enumerate().map(sender).collect()
    }

    /// The members of one group.
    fn readers(&self, topic: &str) -> Result<Vec<Running>, String> {
        let boot = self.own.bootstrap.clone();
        let reader = |language: &&str| {
            let (what, file) = (format!("{language} reads {topic}"), self.read(topic, language));
            if *language != "rust" {
                let words = ["read", &boot, topic, topic, &file];
                return Running::start(what, &mut self.part(language, &words), &self.complaints());
            }
            let out = fs::File::create(&file).map_err(|error| error.to_string())?;
            let mut command = Command::new(&self.own.binary);
            command.args(["consume", topic, "--group", topic, "--from", "earliest", "--json"]);
            command.args(["--bootstrap", &boot, "--timeout", "600"]);
            let child = command
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| format!("{what}: {error}"))?;
            Ok(Running { what, child, complaints: self.complaints() })
        };
        LANGUAGES.iter().map(reader).collect()
    }

    fn acked(&self, topic: &str, language: &str) -> String {
        self.path(&format!("{topic}-{language}.acked"))
    }

    fn read(&self, topic: &str, language: &str) -> String {
        self.path(&format!("{topic}-{language}.read"))
    }

    /// One round: `steps` things happen while all of it runs. `strike` is told which, and the files that grow with what is
    /// acknowledged; it says what happened.
    pub fn round(
        &mut self,
        number: u64,
        steps: usize,
        mut strike: impl FnMut(usize, &str, &[String]) -> Result<String, String>,
    ) -> Result<Seen, String> {
        let started = Instant::now();
        let topic = format!("soak-{number}");
        self.own.run(&["topic", "create", &topic, "--partitions", "6"])?;
        let mut senders = self.senders(&topic, number)?;
        let mut readers = self.readers(&topic)?;
        let boot = self.own.bootstrap.clone();
        let churn = ["churn", &boot, &format!("churn-{number}")];
        let mut churn = self.part("python", &churn);
        let mut churn = Running::start("churn".to_owned(), &mut churn, &self.complaints())?;
        let files: Vec<String> = LANGUAGES.iter().map(|of| self.acked(&topic, of)).collect();
        // A round in which a language acknowledges nothing would promise nothing.
        grows(&files, &sizes(&[]), BEGINS)?;
        let mut seen = Vec::new();
        for step in 0..steps {
            // The moment differs from event to event; it must not follow the clients' rhythm.
            let pause = 1500 + (number * 977 + step as u64 * 373) % 2500;
            std::thread::sleep(Duration::from_millis(pause));
            seen.push(strike(step, &topic, &files)?);
            senders.iter_mut().chain(&mut readers).try_for_each(Running::check)?;
        }
        std::thread::sleep(Duration::from_secs(2));
        for sender in &mut senders {
            sender.end(Duration::from_secs(180))?;
        }
        let churned = churn.end(Duration::from_secs(180))?;
        let reads: Vec<String> = LANGUAGES.iter().map(|of| self.read(&topic, of)).collect();
        let account = self.account(&files, &reads)?;
        for reader in readers.iter_mut().filter(|reader| !reader.what.starts_with("rust")) {
            reader.end(Duration::from_secs(60))?;
        }
        drop(readers);
        if let Some((topic, files)) = self.before.take() {
            let words = [&["reread", &boot, &topic][..], &texts(&files)].concat();
            shell::output(&mut self.part("python", &words))?;
            self.own.run(&["topic", "delete", &topic])?;
            files.iter().for_each(|file| drop(fs::remove_file(file)));
        }
        reads.iter().for_each(|file| drop(fs::remove_file(file)));
        let text = format!(
            "{}; {} acknowledged, {} received by one group in three languages, none lost, none twice; topics {} ({:.0} s)",
            seen.join(", "),
            account["acknowledged"],
            account["received"],
            churned.trim(),
            started.elapsed().as_secs_f64()
        );
        self.before = Some((topic, files));
        Ok(Seen { acknowledged: account["acknowledged"].as_u64().unwrap_or_default(), text })
    }

    /// What became of everything acknowledged; an error if anything is lost, or anywhere twice.
    fn account(&self, acked: &[String], reads: &[String]) -> Result<Value, String> {
        let words = [&["account", "120"][..], &texts(acked), &["--"], &texts(reads)].concat();
        let text = shell::output(&mut self.part("python", &words))?;
        serde_json::from_str(text.trim()).map_err(|error| format!("{text}: {error}"))
    }
}

fn texts(of: &[String]) -> Vec<&str> {
    of.iter().map(String::as_str).collect()
}

/// Bytes of files, which may not be there yet.
pub fn sizes(files: &[String]) -> Vec<u64> {
    files.iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).collect()
}

/// Waits until every file is larger than it was.
pub fn grows(files: &[String], before: &[u64], limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let now = sizes(files);
        let grown = |at: usize| now[at] > before.get(at).copied().unwrap_or_default();
        match (0..files.len()).find(|at| !grown(*at)) {
            None => return Ok(()),
            Some(at) if Instant::now() > deadline => {
                return Err(format!("nothing is acknowledged within {limit:?}: {}", files[at]));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
