//! `foretold dev --nodes N`: a cluster on one machine, each node a process of its own that may be killed and started again.
//!
//! ```text
//!  DIR/node1.properties  DIR/node2.properties ...   written once, then as whoever edits them says
//!  DIR/1                 DIR/2                ...   the nodes' data, each with its pid file
//! ```
//!
//! The launcher decides nothing: it writes the files, formats the directories, starts the nodes as anybody could by hand, says
//! when all of them are ready, and stops them. A node that ends stays down: that is what such a cluster is tried for.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use broker::Beginning;

use super::output;
use crate::exit::Failed;
use crate::node;
use crate::serve::{self, Signals};

/// As many as decide together without being in each other's way.
pub const NODES_MAX: u16 = 7;
/// How long a node that was told to stop may take.
const STOP_TIME: Duration = Duration::from_secs(60);

/// A cluster to run.
pub struct Cluster {
    /// How many nodes.
    pub nodes: u16,
    /// Where the first listens; the others on the ports behind.
    pub listen: String,
    /// Under which their data lies.
    pub data: PathBuf,
    /// Keys that count instead of the files'.
    pub overrides: Vec<String>,
}

/// A node that was started.
struct Node {
    id: u16,
    file: PathBuf,
    /// It stops when its input ends, and so with this process however that ends.
    process: Child,
    /// Kept apart: whoever waits for a process closes its input.
    _input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Cluster {
    /// Runs all nodes until it is told to stop, or none is left.
    pub async fn run(self) -> Result<(), Failed> {
        let mut signals = Signals::new()?;
        let files = self.prepare().await?;
        let mut nodes = Vec::new();
        for (id, file) in (0..).zip(files) {
            nodes.push(self.start(id, file)?);
        }
        let ready = async {
            let mut bootstraps = Vec::new();
            for node in &mut nodes {
                bootstraps.push(node.ready().await?);
            }
            Ok::<_, Failed>(bootstraps.join(","))
        };
        let ready = tokio::select! {
            biased;
            () = signals.next() => Err(None),
            ready = ready => ready.map_err(Some),
        };
        match ready {
            Ok(bootstrap) => {
                let (pid, data) = (std::process::id(), self.data.display());
                let line = format!("ready bootstrap={bootstrap} pid={pid} data={data}\n");
                output::write_all(line.as_bytes())?;
                tokio::select! {
                    biased;
                    () = signals.next() => {}
                    () = all_ended(&mut nodes) => {}
                }
                stop(nodes).await;
                Ok(())
            }
            Err(failed) => {
                stop(nodes).await;
                failed.map_or(Ok(()), Err)
            }
        }
    }

    /// The files of all nodes, each with a formatted directory.
    async fn prepare(&self) -> Result<Vec<PathBuf>, Failed> {
        let failed = |doing: &str, path: &Path, error: std::io::Error| {
            Failed::runtime(format!("cannot {doing} {}: {error}", path.display()))
        };
        std::fs::create_dir_all(&self.data).map_err(|error| failed("create", &self.data, error))?;
        let data =
            std::path::absolute(&self.data).map_err(|error| failed("find", &self.data, error))?;
        let files: Vec<PathBuf> =
            (1..=self.nodes).map(|id| data.join(format!("node{id}.properties"))).collect();
        let known = files.iter().filter(|file| file.exists()).count();
        if known != 0 && known != files.len() || data.join(format!("{}", self.nodes + 1)).exists() {
            return Err(Failed::usage(format!(
                "{} holds a cluster of another number of nodes: start it with that number, or name another --data",
                data.display()
            )));
        }
        if known == 0 {
            let (host, ports) = self.ports()?;
            let (clients, controllers) = ports.split_at(usize::from(self.nodes));
            let voters: Vec<String> = (0..)
                .zip(controllers)
                .map(|(id, port): (u16, _)| format!("{id}@{host}:{port}"))
                .collect();
            for (place, file) in files.iter().enumerate() {
                let text = properties(
                    place,
                    (&host, clients[place], controllers[place]),
                    &voters.join(","),
                    &data.join(format!("{}", place + 1)),
                );
                std::fs::write(file, text).map_err(|error| failed("write", file, error))?;
            }
        }
        let cluster_id = types::ClusterId("foretold-dev".into());
        for file in &files {
            let keys = self.keys(file)?;
            let plan = node::plan(&keys, Some(cluster_id.clone()))?;
            serve::format(&plan.config, cluster_id.clone(), &Beginning::Configured).await?;
        }
        Ok(files)
    }

    fn keys(&self, file: &Path) -> Result<node::Keys, Failed> {
        let mut keys = node::read_file(file)?;
        node::apply_overrides(&mut keys, &self.overrides)?;
        Ok(keys)
    }

    /// The host, and a port for each node's clients, then one for each node's controller: one after the other, or free ones.
    fn ports(&self) -> Result<(String, Vec<u16>), Failed> {
        let usage = || Failed::usage(format!("--listen {}: expected HOST:PORT", self.listen));
        let (host, port) = self.listen.rsplit_once(':').ok_or_else(usage)?;
        let first: u16 = port.parse().map_err(|_| usage())?;
        let count = 2 * self.nodes;
        if first != 0 {
            let last = first.checked_add(count - 1).ok_or_else(usage)?;
            return Ok((host.to_owned(), (first..=last).collect()));
        }
        let address: SocketAddr = self.listen.parse().map_err(|_| usage())?;
        let taken: Result<Vec<TcpListener>, _> =
            (0..count).map(|_| TcpListener::bind(address)).collect();
        let taken =
            taken.map_err(|error| Failed::runtime(format!("no free ports are left: {error}")))?;
        let ports = taken.iter().filter_map(|taken| Some(taken.local_addr().ok()?.port()));
        Ok((host.to_owned(), ports.collect()))
    }

    fn start(&self, id: u16, file: PathBuf) -> Result<Node, Failed> {
        let program = std::env::current_exe()
            .map_err(|error| Failed::runtime(format!("cannot find this program: {error}")))?;
        let mut command = Command::new(program);
        command.arg("server").arg("--until-input-ends").arg("--config").arg(&file);
        for pair in &self.overrides {
            command.arg("--set").arg(pair);
        }
        // In a group of its own: a signal of the terminal reaches it by the launcher alone.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut process = command
            .spawn()
            .map_err(|error| Failed::runtime(format!("cannot start node {id}: {error}")))?;
        let output = BufReader::new(process.stdout.take().expect("it was asked for"));
        let input = process.stdin.take();
        Ok(Node { id, file, process, _input: input, output })
    }
}

/// What the file of a node says.
fn properties(
    id: usize,
    (host, clients, controllers): (&str, u16, u16),
    voters: &str,
    data: &Path,
) -> String {
    format!(
        "# A node of a cluster on one machine, written by `foretold dev --nodes`. Start it alone with\n\
         #   foretold server --config THIS_FILE\n\
         node.id={id}\n\
         process.roles=broker,controller\n\
         listeners=PLAINTEXT://{host}:{clients},CONTROLLER://{host}:{controllers}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.quorum.voters={voters}\n\
         default.replication.factor=3\n\
         min.insync.replicas=2\n\
         log.dirs={}\n",
        data.display()
    )
}

impl Node {
    /// Its bootstrap, once it serves.
    async fn ready(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).await;
        let bootstrap = line.split_whitespace().find_map(|word| word.strip_prefix("bootstrap="));
        match (read, bootstrap) {
            (Ok(_), Some(bootstrap)) => Ok(bootstrap.to_owned()),
            _ => Err(Failed::runtime(format!("node {} did not start: see above", self.id))),
        }
    }

    /// Completes when the process has ended, and says so.
    async fn ended(&mut self) {
        if let Ok(status) = self.process.wait().await {
            tracing::warn!(
                node = self.id, %status,
                "a node has ended; start it again with: foretold server --config {}", self.file.display()
            );
        }
    }
}

async fn all_ended(nodes: &mut [Node]) {
    let mut ends: Vec<_> = nodes.iter_mut().map(|node| Box::pin(node.ended())).collect();
    let mut left = ends.len();
    std::future::poll_fn(|context| {
        ends.retain_mut(|end| end.as_mut().poll(context).is_pending());
        left = ends.len();
        if left == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Tells all nodes to stop, at once, and waits for them.
async fn stop(nodes: Vec<Node>) {
    for node in &nodes {
        let pid = node.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    for mut node in nodes {
        if tokio::time::timeout(STOP_TIME, node.process.wait()).await.is_err() {
            tracing::warn!(node = node.id, "it takes too long to stop, and is killed");
            let _ = node.process.kill().await;
        }
    }
}
