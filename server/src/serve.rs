//! A broker's life as a process: start, one line that says it is ready, signals, a clean stop.
//!
//! Standard output carries exactly one line, `ready bootstrap=HOST:PORT[,...] pid=PID data=DIR`, printed once a produce
//! sent now succeeds; ` metrics=HOST:PORT` follows where `metrics.listen` is set. `DIR/pid` holds the process id meanwhile.
//! A node that is no broker says `ready controller=HOST:PORT ...` once the other nodes can reach it.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{
    Audience, Beginning, Broker, BrokerConfig, DirectoryError, Failure, Roles, StartError,
};
use log::LogDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::exit::{Code, Failed};
use crate::node::Node;
use crate::observe::{self, Board, Stage};
use crate::world::RealEnv;

/// Runs a node until it is told to stop.
pub async fn run(node: Node) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    for notice in &node.notices {
        tracing::info!("{notice}");
    }
    let config = node.config;
    check_directories(&config)?;
    let advertised: Vec<_> =
        config.listeners.iter().map(|l| (l.audience, l.advertised.clone())).collect();
    let (dirs, roles) = (config.log_dirs.clone(), config.roles);
    let board = Arc::new(Board::default());
    let mut watched = JoinSet::new();
    let mut observed_at = None;
    if let Some(address) = node.observed_at {
        // Before the directories are opened: a long recovery can be told from a dead process.
        let listener = observe::listen(address).await?;
        observed_at = listener.local_addr().ok();
        watched.spawn(observe::serve(listener, board.clone()));
    }
    let broker = tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        started = Broker::start(RealEnv::new(), config) => started.map_err(explain)?,
    };
    let first = broker.data_dirs().first().map_or(&*dirs[0], LogDir::path);
    let pid_file = PidFile::write(first);
    let audience = if roles.is_broker() { Audience::Clients } else { Audience::Controllers };
    let addresses: Vec<String> = broker
        .listeners()
        .iter()
        .zip(advertised)
        .filter(|(_, (whose, _))| *whose == audience)
        .map(|((_, bound), (_, told))| match told {
            Some((host, port)) => show_address(&host, if port == 0 { bound.port() } else { port }),
            None => bound.to_string(),
        })
        .collect();
    board.started(broker.observer().clone(), &addresses[0]);
    let serving = async {
        // First: who reads the line may ask for the page.
        board.enter(Stage::Serving);
        until_there_is_space(&broker).await;
        say_ready(roles, &addresses, &dirs, observed_at)?;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        () = signals.next() => {}
        failure = broker.failed() => {
            // What is still in memory has no place to go: a clean stop would only hide that.
            return Err(explain_failure(&failure));
        }
        failed = serving => return failed,
    }
    board.enter(Stage::Stopping);
    tracing::info!("stopping; a second signal kills");
    tokio::select! {
        biased;
        () = broker.shutdown() => {}
        () = signals.again() => {
            return Err(Failed::runtime("killed by a second signal before the stop was complete"));
        }
    }
    drop(pid_file);
    tracing::info!("stopped");
    Ok(())
}

/// Ready means that a produce succeeds. A node whose disk is nearly full serves what is there and lets topics be deleted,
/// which may make the room that it waits for.
async fn until_there_is_space(broker: &Broker<RealEnv>) {
    let has_space = || broker.data_dirs().iter().all(LogDir::has_space);
    if has_space() {
        return;
    }
    tracing::warn!(
        "not ready: records can be read and topics deleted, but nothing published before there is space"
    );
    while !has_space() {
        tokio::time::sleep(SPACE_POLL).await;
    }
}

/// Gives empty directories an identity.
pub async fn format(
    config: &BrokerConfig,
    cluster_id: types::ClusterId,
    beginning: &Beginning,
) -> Result<Vec<PathBuf>, Failed> {
    for dir in config.log_dirs.iter().chain(&config.metadata_dir) {
        check_writable(dir)?;
    }
    broker::format(&RealEnv::new(), config, cluster_id, beginning).await.map_err(explain)
}

fn say_ready(
    roles: Roles,
    addresses: &[String],
    dirs: &[PathBuf],
    observed_at: Option<SocketAddr>,
) -> Result<(), Failed> {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let metrics = observed_at.map_or(String::new(), |address| format!(" metrics={address}"));
    let what = if roles.is_broker() { "bootstrap" } else { "controller" };
    let line = format!(
        "ready {what}={} pid={} data={}{metrics}\n",
        addresses.join(","),
        std::process::id(),
        dirs.join(",")
    );
    let mut out = std::io::stdout().lock();
    // Whoever started us may have closed the pipe: the broker serves all the same.
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failed::runtime(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn show_address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The directory of the metadata must be there to be written, and one of the others; the rest is offline.
fn check_directories(config: &BrokerConfig) -> Result<(), Failed> {
    check_writable(&config.metadata_dir())?;
    let checked: Vec<_> = config.log_dirs.iter().map(|dir| check_writable(dir)).collect();
    match checked.iter().any(Result::is_ok) {
        true => Ok(()),
        false => checked.into_iter().collect(),
    }
}

/// A directory that cannot be written is named before anything is opened in it.
fn check_writable(dir: &Path) -> Result<(), Failed> {
    let place = dir.display();
    let refused = |what: &str| {
        let advice = "make it writable for this user, or name another with --data or log.dirs";
        Failed::new(Code::Directory, format!("the data directory {place} {what}: {advice}"))
    };
    match std::fs::create_dir_all(dir) {
        Ok(()) => {}
        Err(error) => {
            return Err(match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    refused("cannot be created")
                }
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                    Failed::new(Code::Directory, format!("{place} is not a directory"))
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(dir),
                _ => Failed::new(Code::Disk, format!("the data directory {place}: {error}")),
            });
        }
    }
    use rustix::fs::Access;
    match rustix::fs::access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::ROFS) => Err(refused("lies on a read-only file system")),
        Err(_) => Err(refused("cannot be written")),
    }
}

/// A disk with less room than this is full as far as a start is concerned: journals are reserved before they are used.
const ROOM_BYTES: u64 = 256 << 20;

/// What to do about a full disk.
const MAKE_ROOM: &str =
    "free some space, or name a directory on another disk with --data or log.dirs";

fn full(dir: &Path) -> Failed {
    let place = dir.display();
    Failed::new(Code::Disk, format!("the disk that holds {place} is full: {MAKE_ROOM}"))
}

/// What this process may still use of the disk that holds `path`.
fn free_bytes(path: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(path).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

/// What a failed start means to the operator.
fn explain(error: StartError) -> Failed {
    match error {
        StartError::Config(reason) => Failed::usage(reason),
        StartError::Address { address, error, .. } => {
            let advice = match error.kind() {
                ErrorKind::AddrInUse => {
                    "another process listens there; stop it, or choose another port \
                     (--listen HOST:PORT or listeners=; port 0 takes a free one)"
                }
                ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address; use one of its own, or 0.0.0.0 for all"
                }
                ErrorKind::PermissionDenied => {
                    "the system does not allow it; ports below 1024 need privileges"
                }
                _ => "",
            };
            let advice = if advice.is_empty() { error.to_string() } else { advice.to_owned() };
            Failed::new(Code::Address, format!("cannot listen on {address}: {advice}"))
        }
        StartError::Directory(error) => {
            let advice = match &error {
                DirectoryError::Foreign { .. } => "; name an empty directory, or one of ours",
                DirectoryError::Locked { .. } => {
                    "; stop the other process (its id is in the file `pid` there), or use another directory"
                }
                DirectoryError::Newer { .. } => {
                    "; start it with the release that wrote it, or a newer one"
                }
                DirectoryError::OtherCluster { .. } => {
                    "; use the directory that belongs to this node, or an empty one"
                }
                DirectoryError::Damaged { .. } => {
                    "; restore it from a copy, and delete nothing meanwhile: files there may hold records"
                }
            };
            Failed::new(Code::Directory, format!("{error}{advice}"))
        }
        StartError::Disk { path, reason } => {
            let mut message = format!("{}: {reason}", path.display());
            if let Some(free) = free_bytes(&path).filter(|free| *free < ROOM_BYTES) {
                let free = free >> 20;
                message += &format!("; {free} MiB are free there, too few: {MAKE_ROOM}");
            } else {
                message += "; see to the disk, restore the directory from a copy, or name another \
                            with --data or log.dirs";
            }
            Failed::new(Code::Disk, message)
        }
    }
}

fn explain_failure(failure: &Failure) -> Failed {
    Failed::new(
        Code::Disk,
        format!(
            "{failure}; what was acknowledged is on the disk: repair it or free space, then start again"
        ),
    )
}

/// How often a node that waits for space looks.
const SPACE_POLL: Duration = Duration::from_millis(200);

/// Signals this close together are one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The signals that stop a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal is gone: a clean stop, as a JVM makes of it. `None` under `nohup`, which asks to go on.
    hangup: Option<Signal>,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn new() -> Result<Signals, Failed> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failed::runtime(format!("cannot listen to signals: {error}")))
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: if is_hangup_ignored() { None } else { Some(listen(SignalKind::hangup())?) },
        })
    }

    /// Waits for another that somebody means: tools that signal a process and its group deliver the first one twice.
    async fn again(&mut self) {
        tokio::time::sleep(SAME_SIGNAL).await;
        // What arrived meanwhile is dropped.
        let _ = tokio::time::timeout(Duration::ZERO, self.next()).await;
        self.next().await;
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = async { self.hangup.as_mut()?.recv().await }, if self.hangup.is_some() => {}
        }
    }
}

/// Whether who started this process has it ignore SIGHUP, as the kernel tells: bit 0 of a mask in hexadecimal digits.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|m| m & 1 == 1)
}

/// `DIR/pid`, there while the process serves.
struct PidFile(PathBuf);

impl PidFile {
    /// Only a note to people and scripts: the lock is what counts, and a node on a full disk does without the note.
    fn write(dir: &Path) -> PidFile {
        let path = dir.join("pid");
        if let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id())) {
            tracing::warn!(path = %path.display(), %error, "cannot note the process id");
            // What an earlier process noted is wrong now.
            let _ = std::fs::remove_file(&path);
        }
        PidFile(path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
